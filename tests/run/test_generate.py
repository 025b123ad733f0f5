"""Drawing: an id's clip is the same, bit for bit, alone and in any batch."""

import json
from dataclasses import replace

import numpy as np
import pytest

from diorama.codec import PixelCodec, PixelCodecConfig, decode, encode
from diorama.core import UserError
from diorama.diffusion import DenoiserConfig
from diorama.media import read
from diorama.net import UNetConfig
from diorama.run import Generator
from diorama.run.generate import bucket_for, write_samples
from tests.net.tiny import made
from tests.run.conftest import RUN, STILL, VIDEO

PROMPTS = [
    "a seven moving left",
    "",
    "an eight moving up",
    "a six",
    "a three moving right",
    "a seven moving left",
    "a one",
]
LABELS = np.array([7, -1, 8, 6, 3, 7, -1], np.int32)
IDS = np.array([0, 1, 2**32 - 1, 3, 4, 5, 77], np.uint32)


@pytest.fixture(scope="module")
def generator(folder):
    return Generator.load(folder.path)


@pytest.fixture(scope="module")
def media(generator):
    return generator.draw(PROMPTS, LABELS, ids=IDS, bucket=VIDEO)  # seven clips in batches of five


def test_the_shape_and_that_clips_differ(media):
    assert media.shape == (7, 9, 32, 32, 3)
    assert media.dtype == np.uint8
    assert len({clip.tobytes() for clip in media}) == 7
    assert media.std() > 5


@pytest.mark.parametrize("i", range(7))
def test_alone_as_in_any_batch(generator, media, i):
    alone = generator.draw(PROMPTS[i : i + 1], LABELS[i : i + 1], ids=IDS[i : i + 1], bucket=VIDEO)
    np.testing.assert_array_equal(alone[0], media[i])


def test_in_another_order(generator, media):
    order = np.array([6, 2, 0, 5, 1, 4, 3])
    again = generator.draw([PROMPTS[i] for i in order], LABELS[order], ids=IDS[order], bucket=VIDEO)
    np.testing.assert_array_equal(again, media[order])


def test_prompt_label_id_and_seed_count(generator, media):
    one = {"ids": IDS[:1], "bucket": VIDEO}
    for prompts, labels, more in (
        (["a two moving up"], LABELS[:1], one),
        (PROMPTS[:1], LABELS[:1] - 1, one),
        (PROMPTS[:1], LABELS[:1], one | {"ids": IDS[1:2]}),
        (PROMPTS[:1], LABELS[:1], one | {"seed": 1}),
    ):
        assert (generator.draw(prompts, labels, **more)[0] != media[0]).any()


def test_labels_left_out_are_absent(generator, media):
    again = generator.draw(PROMPTS[1:2], ids=IDS[1:2], bucket=VIDEO)
    np.testing.assert_array_equal(again[0], media[1])


def test_a_first_frame_is_kept(generator, rng):
    first = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)
    media = generator.draw(PROMPTS[:2], ids=IDS[:2], bucket=VIDEO, first=first)
    kept = decode(generator.codec, encode(generator.codec, first[:, None] / np.float32(127.5) - 1))
    kept = np.rint((np.asarray(kept) + 1) * 127.5)
    assert np.abs(media[:, :1] - kept).max() <= 1  # as the codec sees it
    other = generator.draw(PROMPTS[:2], ids=IDS[:2], bucket=VIDEO, first=255 - first)
    assert (other[:, 1:] != media[:, 1:]).any()  # the rest goes on from it
    with pytest.raises(UserError, match="leaves none to make"):
        generator.draw(PROMPTS[:1], ids=IDS[:1], bucket=STILL, first=first[:1])


def test_pixels_need_no_codec_and_keep_the_frame_exactly(generator, rng):
    config = DenoiserConfig(UNetConfig(widths=(4,), heads=2, width=8), {})
    model = made(lambda key: config.init(key, 3))
    run = replace(RUN, denoiser=replace(RUN.denoiser, denoiser=config))
    bucket = replace(VIDEO, frames=3, height=5, width=7)
    pixels = Generator(run, generator.folder, PixelCodec(PixelCodecConfig()), model)
    first = rng.integers(0, 256, (1, 5, 7, 3), np.uint8)
    media = pixels.draw(["x"], ids=IDS[:1], bucket=bucket, first=first)
    assert media.shape == (1, 3, 5, 7, 3)
    np.testing.assert_array_equal(media[:, 0], first)


def test_odd_sizes_are_cut_to_what_was_asked(generator):
    media = generator.draw(PROMPTS[:1], ids=IDS[:1], bucket=replace(VIDEO, frames=6, height=30, width=22))
    assert media.shape == (1, 6, 30, 22, 3)


def test_samples_are_written(tmp_path, generator):
    clips = generator.draw(PROMPTS[:2], ids=IDS[1:3], bucket=VIDEO)
    sheet = write_samples(clips, PROMPTS[:2], np.array([1, -1]), IDS[1:3], tmp_path, 8.0, {"guidance": 2.0})
    assert sheet.exists()
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert lines[1] == {"id": 2**32 - 1, "prompt": "", "label": -1, "guidance": 2.0}
    assert read(tmp_path / "000001.mp4").frames.shape == (9, 32, 32, 3)
    assert (tmp_path / "4294967295.gif").exists()
    write_samples(clips[:, :1], PROMPTS[:2], np.array([1, -1]), IDS[1:3], tmp_path / "stills", 8.0, {})
    np.testing.assert_array_equal(read(tmp_path / "stills" / "000001.png").frames, clips[0, :1])


def test_the_bucket_is_by_length():
    assert bucket_for(RUN, 1) == STILL
    assert bucket_for(RUN) == VIDEO
    with pytest.raises(UserError, match="trained on clips of 1, 9 frames, not 5"):
        bucket_for(RUN, 5)

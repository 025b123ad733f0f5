"""Lower resolutions: what a stage is trained on and draws from."""

from dataclasses import replace

import numpy as np
import pytest

from diorama.codec import Codec, PixelCodec, PixelCodecConfig, encode
from diorama.core import UserError
from diorama.evaluate import enlarged_scores
from diorama.net import LowResolutionConfig
from diorama.run import Bucket, CodecStage
from diorama.run.examples import clips
from diorama.run.latents import Cache, Choice, draw
from diorama.run.resolution import beside, low_of, lowered, raised, repeated, signal, signals_of
from diorama.run.run import Variants
from tests.net.tiny import made
from tests.run.conftest import RUN, VIDEO

BOTH = LowResolutionConfig(space=4, time=2)
PIXELS = PixelCodec(PixelCodecConfig())
IDS = np.arange(3, dtype=np.uint32)


def started(config=BOTH, **more):
    """The tiny run, on pixels, from a lower resolution."""
    denoiser = replace(RUN.denoiser.denoiser, conditions=RUN.denoiser.denoiser.conditions | {"low": config})
    stage = replace(RUN.denoiser, denoiser=denoiser, buckets=(VIDEO,))
    return replace(RUN, codec=CodecStage(PixelCodecConfig()), denoiser=stage, **more)


@pytest.fixture
def media(rng):
    return rng.integers(0, 256, (3, 9, 32, 32, 3), np.uint8)


def test_factor_1_is_the_clip_itself(media):
    one = LowResolutionConfig()
    np.testing.assert_array_equal(lowered(media[0], one), media[0])
    np.testing.assert_array_equal(raised(media[0], one, 9, 32, 32), media[0])
    assert (beside(PIXELS, VIDEO, one)[..., 0] == 1).all()


def test_frames_that_are_known_come_back_and_those_between_are_blends(media):
    low = lowered(media[0], LowResolutionConfig(time=4))
    np.testing.assert_array_equal(low, media[0, ::4])
    up = raised(low, LowResolutionConfig(time=4), 9, 32, 32)
    np.testing.assert_array_equal(up[::4], media[0, ::4])
    blend = 0.75 * low[0] + 0.25 * low[1].astype(float)
    assert np.abs(up[1] - blend).max() <= 0.5
    short = raised(low[:2], LowResolutionConfig(time=4), 8, 32, 32)
    np.testing.assert_array_equal(short[5:], np.repeat(low[1:2], 3, 0))  # beyond the last one it is held


def test_an_even_clip_keeps_its_colour(media):
    grey = np.full((9, 32, 32, 3), 77, np.uint8)
    for config in (BOTH, LowResolutionConfig(space=2), LowResolutionConfig(time=8)):
        low = lowered(grey, config)
        assert low.shape == (-(-9 // config.time), 32 // config.space, 32 // config.space, 3)
        np.testing.assert_array_equal(raised(low, config, 9, 32, 32), grey)
        np.testing.assert_array_equal(repeated(low, config, 9), grey)


def test_what_is_known_of_latents_that_stand_for_several_frames():
    codec = Codec.blank(made(RUN.codec.codec.init), RUN.codec.codec)  # frame 0 alone, then four a latent
    assert beside(codec, VIDEO, LowResolutionConfig(time=2))[:, 0, 0, 0].tolist() == [1, 0.5, 0.5]
    assert beside(codec, VIDEO, LowResolutionConfig(space=2))[:, 0, 0, 0].tolist() == [1, 1, 1]
    assert beside(PIXELS, VIDEO, LowResolutionConfig(time=4))[:, 0, 0, 0].tolist() == [1, 0, 0, 0] * 2 + [1]
    assert beside(codec, Bucket(frames=7), LowResolutionConfig(time=2)).shape == (3, 8, 8, 2)


def test_signals_hold_the_enlarged_clip(media):
    run = started()
    low = low_of(run, media)
    value = np.asarray(signal(run, PIXELS, VIDEO, low, IDS, 0.0, 0)["low"])
    plain = np.stack([raised(clip, BOTH, 9, 32, 32) for clip in low]) / np.float32(127.5) - 1
    np.testing.assert_allclose(value[..., :3], plain, atol=1e-6)
    np.testing.assert_allclose(signals_of(run, PIXELS, VIDEO, media)["low"], value, atol=1e-6)
    absent = np.asarray(signal(run, PIXELS, VIDEO, None, IDS, 0.0, 0)["low"])
    assert absent.shape == value.shape
    assert not absent.any()
    assert signal(RUN, PIXELS, VIDEO, None, IDS, 0.0, 0) == {}
    assert low_of(RUN, media) is None


def test_noise_is_of_the_id_and_at_level_1_hides_the_clip(media):
    run = started()
    low = low_of(run, media)

    def at(level, low, ids):
        return np.asarray(signal(run, PIXELS, VIDEO, low, ids, level, 7)["low"])

    np.testing.assert_array_equal(at(0.5, low, IDS), at(0.5, low[::-1], IDS[::-1])[::-1])
    np.testing.assert_array_equal(at(1.0, low, IDS), at(1.0, 255 - low, IDS))


def test_the_cache_has_the_low_resolution_of_the_same_view(folder, catalogue, tmp_path):
    source, codec, config = clips(catalogue, VIDEO, "train"), folder.codec(), LowResolutionConfig(space=2, time=2)
    variants = Variants(flips=True)
    plain, low = (Cache(tmp_path, "c", source, VIDEO, variants, c) for c in (None, config))
    assert plain.path != low.path
    for each in (plain, low):
        each.fill(codec, RUN.layout, "latents")
    extra = beside(codec, VIDEO, config)
    example = {"media": plain.rows()[1], "low": low.rows(extra)[1], "id": source.ids[1]}
    assert isinstance(example["low"], Choice)
    seen = [draw(example, np.random.default_rng(seed)) for seed in range(8)]
    for view, flipped in enumerate((False, True)):
        media = source[1]["media"][:, :, :: -1 if flipped else 1]
        both = media, raised(lowered(media, config), config, 9, 32, 32)
        want = [encode(codec, each[None] / np.float32(127.5) - 1)[0] for each in both]
        found = [s for s in seen if np.allclose(s["media"], want[0], atol=1e-4)]
        assert found, view
        for each in found:
            np.testing.assert_allclose(each["low"][..., :-2], want[1], atol=1e-4)
            np.testing.assert_array_equal(each["low"][..., -2:], extra)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"augmentation of the run 'tiny' is from 0 to 0,"):
        replace(RUN, sampling=replace(RUN.sampling, augmentation=0.1))
    with pytest.raises(UserError, match=r"from 0 to 0\.5,"):
        started(sampling=replace(RUN.sampling, augmentation=0.6))
    with pytest.raises(UserError, match="no whole sides 5 times smaller"):
        started(LowResolutionConfig(space=5))


def test_enlarged_scores_say_what_plain_ways_get(media):
    near = np.clip(media.astype(int) + 2, 0, 255).astype(np.uint8)
    scores = enlarged_scores(near, media, {"nearest": 255 - media}, 0)
    assert [s.name for s in scores] == ["enlarged PSNR (dB)", "nearest PSNR (dB)"]
    assert scores[0].value > 40 > scores[1].value
    assert scores[0].n == 3

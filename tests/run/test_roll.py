"""Long videos of a run: as long as asked, written as they are made, a longer one beginning with the shorter."""

import json
from dataclasses import replace

import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.core.module import cast
from diorama.media import read
from diorama.net import TransformerConfig
from diorama.net.places import Reach
from diorama.run import Generator
from diorama.run.roll import prompts_of, roll, write_rolls
from diorama.sample.rollout import Cached, Recomputed, usual
from tests.net.tiny import made
from tests.run.conftest import STILL, VIDEO


@pytest.fixture(scope="module")
def generator(folder):
    return Generator.load(folder.path)


def video(generator, frames, prompts=("a seven moving left",), number=3, **more):
    return np.concatenate(list(roll(generator, list(prompts), 7, number=number, bucket=VIDEO, frames=frames, **more)))


def test_longer_than_trained(generator):
    """9 frames are 3 latent ones; here 21 are 6. The texts change on the way, and the first frame is given."""
    long = video(generator, 21)
    assert (long.shape, long.dtype) == ((21, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(video(generator, 10), long[:10])
    other = video(generator, 21, ("a seven moving left", "an eight moving up"))
    same = (other == long).all((1, 2, 3))
    assert same[:9].all()
    assert not same[9:].any()
    said = prompts_of(generator, ["a seven moving left", "an eight moving up"], bucket=VIDEO, frames=21)
    assert said == ["a seven moving left"] * 9 + ["an eight moving up"] * 12
    assert (video(generator, 10, number=4) != long[:10]).any()
    first = video(generator, 10, first=long[-1])
    assert (first[0] != long[0]).any()
    assert len(first) == 10


def test_a_causal_transformer_remembers(generator):
    """In bfloat16 too: its memory has the network's number format."""
    net = TransformerConfig(width=12, depth=1, heads=2, patch=(1, 4, 4), reach=(Reach(future=0),))
    config = replace(generator.run.denoiser.denoiser, net=net)
    denoiser = cast(made(lambda key: config.init(key, 4)), "bfloat16")
    assert usual(denoiser, 3) == Cached(window=2, chunk=1)
    remembering = replace(generator, denoiser=denoiser)
    long = video(remembering, 21)
    assert long.shape == (21, 32, 32, 3)
    np.testing.assert_array_equal(video(remembering, 10), long[:10])


def test_what_the_recipe_says_is_done(generator):
    how = replace(generator.run.sampling, rollout=Recomputed(window=1, chunk=1))
    pieces = list(roll(generator, [""], number=3, bucket=VIDEO, frames=13, sampling=how))
    assert [len(piece) for piece in pieces] == [5, 4, 4]


def test_written_piece_by_piece(generator, tmp_path):
    pieces = [roll(generator, [""], number=n, bucket=VIDEO, frames=13) for n in (2, 5)]
    sheet = write_rolls(pieces, 13, [[""] * 13] * 2, np.array([-1, -1]), np.array([2, 5]), tmp_path, 8.0, {"seed": 0})
    assert sheet.exists()
    assert read(tmp_path / "000005.mp4").frames.shape == (13, 32, 32, 3)
    assert [json.loads(line)["id"] for line in (tmp_path / "samples.jsonl").read_text().splitlines()] == [2, 5]


def test_the_sheet_says_which_prompt_each_frame_is_made_for(tmp_path, monkeypatch):
    frames = [np.full((1, 8, 8, 3), level, np.uint8) for level in range(12)]
    said = [text for text in "abcdef" for _ in range(2)]
    seen = []
    monkeypatch.setattr("diorama.run.generate.contact_sheet", lambda *given, **more: seen.append((given, more)))
    videos, numbers = [iter(frames), iter(frames)], np.arange(2)
    write_rolls(videos, 12, [said, ["z"] * 12], numbers, numbers, tmp_path, 8.0, {})
    (shown, _, columns, captions), _ = seen[0]
    assert columns == 6
    assert captions[:6] == list("abcdef")
    assert captions[6:] == ["z"] * 6
    assert all(said[int(frame[0, 0, 0, 0])] == caption for frame, caption in zip(shown[:6], captions[:6], strict=True))
    assert [json.loads(line)["prompt"] for line in (tmp_path / "samples.jsonl").read_text().splitlines()] == ["a", "z"]


def test_a_run_of_pictures_does_not_go_on(generator):
    with pytest.raises(UserError, match="train it on clips"):
        list(roll(generator, [""], number=0, bucket=STILL, frames=5))

"""What `diorama sample` makes of prompts, labels and ids."""

from pathlib import Path

import numpy as np
import pytest

from diorama.cli import recipes
from diorama.cli.evaluate import strengths
from diorama.cli.sample import asked, kept, lasting, numbered, picture, wanted
from diorama.core import UserError
from diorama.media import write_png
from diorama.run import Bucket, Run
from diorama.run.against import Weaker
from diorama.sample.guidance import APG, ClassifierFree


@pytest.fixture(scope="module")
def tiny() -> Run:
    return recipes.resolve(str(Path(__file__).with_name("tiny.py")), [])


def test_every_prompt_count_times(tiny: Run) -> None:
    prompts, labels = wanted(tiny, ["a seven", "an eight"], [], 2)
    assert prompts == ["a seven", "a seven", "an eight", "an eight"]
    assert labels.tolist() == [-1] * 4


def test_labels_by_number_and_name(tiny: Run) -> None:
    prompts, labels = wanted(tiny, [], ["3", "b"], 1)
    assert (prompts, labels.tolist()) == (["", ""], [3, 1])


def test_one_label_for_all_prompts(tiny: Run) -> None:
    assert wanted(tiny, ["x", "y"], ["4"], 1)[1].tolist() == [4, 4]


def test_nothing_asked_draws_without_conditions(tiny: Run) -> None:
    prompts, labels = wanted(tiny, [], [], 3)
    assert (prompts, labels.tolist()) == ([""] * 3, [-1] * 3)


@pytest.mark.parametrize(
    ("recipe", "prompts", "labels", "said"),
    [
        ("cifar10_class", ["a ship"], [], "without text"),
        ("digits", [], ["3"], "without labels"),
        ("cifar10_class", [], ["boat"], "one of airplane, "),
        ("cifar10_class", [], ["10"], "from 0 to 9"),
        ("weizmann_action", ["x", "y", "z"], ["0", "1"], "do not pair"),
    ],
)
def test_what_the_model_cannot_do(recipe: str, prompts: list[str], labels: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        wanted(recipes.resolve(recipe, []), prompts, labels, 1)


def test_length_in_frames_or_seconds() -> None:
    assert [lasting(None, None, 8.0), lasting(5, None, 8.0), lasting(None, 2.5, 8.0)] == [None, 5, 20]
    for frames, seconds in ((5, 1.0), (None, 0.0), (None, float("nan"))):
        with pytest.raises(UserError, match="--seconds"):
            lasting(frames, seconds, 8.0)


def test_ids() -> None:
    assert numbered("3, 1,4", 3).tolist() == [3, 1, 4]
    for wrong in ("1,2", "1,1,2", "1,x,2", "-1,2,3", "1,2,4294967296", ""):
        with pytest.raises(UserError, match="does not fit"):
            numbered(wrong, 3)


def test_a_first_picture_covers_the_bucket(tmp_path: Path) -> None:
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, 40:60] = 255
    write_png(tmp_path / "wide.png", wide)
    seen = picture(tmp_path / "wide.png", Bucket(frames=9, height=32, width=32))
    assert seen.shape == (32, 32, 3)
    assert seen[16, 16].min() > 250
    assert seen[16, 1].max() < 5


def test_a_first_picture_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot be used"):
        picture(tmp_path / "x.png", Bucket(frames=9))


def test_a_way_of_sampling_for_this_once(tiny: Run) -> None:
    assert asked(tiny, [], None, None, None) == tiny.sampling
    how = asked(tiny, ["sampling.guidance=APG", "sampling.guidance.eta=0.5"], 4.0, 7, Path("weak"))
    assert how.guidance == APG(4.0, eta=0.5)
    assert (how.steps, how.against, how.batch) == (7, Weaker("weak"), tiny.sampling.batch)
    assert asked(tiny, [], 5.0, None, None).guidance == ClassifierFree(5.0)
    with pytest.raises(UserError, match="only sampling"):
        asked(tiny, ["seed=3"], None, None, None)


@pytest.mark.parametrize(
    ("settings", "options", "said"),
    [
        (["sampling.guidance.scale=2"], (3.0, None, None), "--guidance and"),
        (["sampling.steps=2"], (None, 3, None), "--steps and"),
        (["sampling.against=PerturbedAttention"], (None, None, Path("weak")), "--weak and"),
        ([], (float("nan"), None, None), "no strength"),
    ],
)
def test_what_contradicts_itself(tiny: Run, settings: list[str], options: tuple, said: str) -> None:
    with pytest.raises(UserError, match=said):
        asked(tiny, settings, *options)


def test_a_mask_says_what_is_drawn_anew(tmp_path: Path) -> None:
    picture_, mask = np.full((40, 40, 3), 90, np.uint8), np.zeros((20, 20, 3), np.uint8)
    mask[:, 10:] = 255
    write_png(tmp_path / "picture.png", picture_)
    write_png(tmp_path / "mask.png", mask)
    known = kept(tmp_path / "mask.png", tmp_path / "picture.png", Bucket(height=16, width=16))
    assert (known.media == 90).all()
    assert known.kept[0, :, :7].all()
    assert not known.kept[0, :, 9:].any()
    with pytest.raises(UserError, match="9 are drawn: add --frames 1"):
        kept(tmp_path / "mask.png", tmp_path / "picture.png", Bucket(frames=9, height=16, width=16))


def test_strengths_of_a_sweep() -> None:
    assert strengths("3,1, 2.5") == [1.0, 2.5, 3.0]
    for wrong in ("1,x", "1,nan", "inf", ""):
        with pytest.raises(UserError, match="does not fit"):
            strengths(wrong)

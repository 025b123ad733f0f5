"""Every recipe resolves, survives its own text, and its models can be born."""

from pathlib import Path

import jax
import pytest

from diorama.cli import recipes
from diorama.codec import ConvCodecConfig
from diorama.core import UserError, parse
from diorama.core.module import count
from diorama.run.cascade import Cascade

FILES = sorted(p.stem for p in (Path(__file__).parents[1] / "recipes").glob("*.py"))
NAMES = [name for name in FILES if not name.startswith("curate_")]
CURATIONS = [name for name in FILES if name.startswith("curate_")]


def test_the_promised_recipes_are_there() -> None:
    assert {"cifar10_class", "digits", "emoji_text", "latent_video", "panda_text", "weizmann_action"} <= set(NAMES)
    assert {"curate_labelled", "curate_stills", "curate_videos"} <= set(CURATIONS)


@pytest.mark.parametrize("name", NAMES)
def test_recipe(name: str) -> None:
    module = recipes.load(name)
    made = recipes.trainable(name, [])
    assert made.name == name
    assert parse(made.text(), type(made)) == made
    for said in ("Command:", "Hardware:", "core"):
        assert said in (module.__doc__ or ""), "a recipe's header says how to run it, on what, and what to expect"
    key = jax.random.key(0)
    for run in made.stages if isinstance(made, Cascade) else (made,):
        stage, denoiser = run.codec, run.denoiser.denoiser
        if isinstance(stage.codec, ConvCodecConfig):
            assert count(jax.eval_shape(stage.codec.init, key)) > 0
        born = jax.eval_shape(lambda k, c=stage.codec.channels, d=denoiser: d.init(k, c), key)
        assert count(born) < 4e6, "two cores train it"


@pytest.mark.parametrize("name", CURATIONS)
def test_recipe_of_curation(name: str) -> None:
    """It holds together: every measure that it asks for is made by a stage of it."""
    policy = recipes.policy(name, ["test_share=0.2"])
    assert policy.test_share == 0.2
    assert policy.stages
    assert policy.rules
    for said in ("Command:", "Hardware:", "core"):
        assert said in (recipes.load(name).__doc__ or "")


def test_settings_reach_into_a_recipe() -> None:
    run = recipes.resolve("digits", ["denoiser.train.examples=64", "sampling.guidance.scale=4"], seed=3)
    assert (run.denoiser.train.examples, run.sampling.guidance.scale, run.seed) == (64, 4.0, 3)


def test_the_settings_of_another_run_are_a_recipe(tmp_path: Path) -> None:
    run = recipes.resolve("digits", ["sampling.guidance.scale=4"])
    (tmp_path / "config.txt").write_text(run.text())
    assert recipes.resolve(str(tmp_path / "config.txt"), []) == run
    assert recipes.resolve(str(tmp_path / "config.txt"), ["sampling.steps=3"], seed=2).seed == 2


def test_a_cascade_is_for_training_alone() -> None:
    assert [stage.seed for stage in recipes.trainable("weizmann_cascade", [], seed=3).stages] == [3, 3, 3]
    with pytest.raises(UserError, match="weizmann_cascade is a cascade of runs"):
        recipes.resolve("weizmann_cascade", [])
    changed = recipes.trainable("weizmann_cascade", ["stages.1.denoiser.train.examples=64"])
    assert changed.stages[1].denoiser.train.examples == 64


def test_the_text_of_another_cascade_is_a_recipe(tmp_path: Path) -> None:
    made = recipes.trainable("weizmann_cascade", [])
    (tmp_path / "cascade.txt").write_text(made.text())
    assert recipes.trainable(str(tmp_path / "cascade.txt"), []) == made

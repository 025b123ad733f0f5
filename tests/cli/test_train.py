import pytest

from diorama.cli import recipes
from diorama.cli.train import _traced
from diorama.core import UserError
from diorama.net.sizes import SIZES
from diorama.run.cascade import Cascade
from diorama.train.optimizer import Widened
from recipes.digits import recipe

TRANSFORMER = "denoiser.denoiser.net=TransformerConfig"


def test_size_is_one_dial_over_what_is_set(tmp_path):
    plain = recipes.resolve("digits", [TRANSFORMER])
    made = recipes.resolve("digits", [TRANSFORMER, "denoiser.train.learning_rate=0.5"], size="B")
    net, size = made.denoiser.denoiser.net, SIZES["B"]
    assert (net.width, net.depth, net.heads) == (size.width, size.depth, size.heads)
    assert made.denoiser.train.optimizer.width == Widened(plain.denoiser.denoiser.net.width, size.width)
    assert made.denoiser.train.learning_rate == 0.5
    (tmp_path / "config.txt").write_text(made.text())
    again = recipes.resolve(str(tmp_path / "config.txt"), [])
    assert again == made
    assert recipes.resolve(str(tmp_path / "config.txt"), [], size="S") == recipes.resolve(
        "digits", [TRANSFORMER, "denoiser.train.learning_rate=0.5"], size="S"
    )


def test_size_is_that_of_all_stages_of_a_cascade():
    stages = range(len(recipes.trainable("weizmann_cascade", []).stages))
    made = recipes.trainable("weizmann_cascade", [f"stages.{i}.{TRANSFORMER}" for i in stages], size="XS")
    assert isinstance(made, Cascade)
    assert {run.denoiser.denoiser.net.width for run in made.stages} == {SIZES["XS"].width}


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="sizes are those of transformers, and the network of 'digits' is a UNetConfig"):
        recipes.resolve("digits", [], size="B")
    with pytest.raises(UserError, match="there is no size 'Huge': choose one of XS, S, B"):
        recipes.resolve("digits", [TRANSFORMER], size="Huge")
    with pytest.raises(UserError, match=r"--size B sets width, depth and heads, and so does --set .*depth=3"):
        recipes.resolve("digits", [TRANSFORMER, "denoiser.denoiser.net.depth=3"], size="B")


def test_a_trace_is_of_every_training():
    made = _traced(recipe(), 3)
    assert (made.codec.train.trace, made.denoiser.train.trace) == (3, 3)

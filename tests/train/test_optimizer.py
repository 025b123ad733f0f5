from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diorama.core import Module
from diorama.core.module import paths
from diorama.diffusion import DenoiserConfig
from diorama.net import LabelConfig, TextConfig, TransformerConfig
from diorama.net.condition import LowResolutionConfig
from diorama.net.head import HeadConfig
from diorama.train import AdamW, Muon, Train, train
from diorama.train.optimizer import Widened
from tests.train.toy import OBJECTIVE, Net, data


def direction(optimizer, parameters, gradient):
    transform = optimizer.transform()
    return transform.update(gradient, transform.init(parameters), parameters)[0]


@pytest.mark.parametrize("shape", [(32, 64), (3, 32, 64), (3, 3, 16, 32)], ids=["matrix", "stack", "convolution"])
def test_muon_moves_every_direction_of_a_matrix_alike(shape):
    gradient = jax.random.normal(jax.random.key(0), shape)
    gradient = gradient * jnp.linspace(0.5, 10, shape[-1])  # far from orthogonal
    moved = np.asarray(direction(Muon(), {"w": jnp.zeros(shape)}, {"w": gradient})["w"])
    matrices = moved if len(shape) == 3 else moved.reshape(1, -1, shape[-1])
    for matrix in matrices:
        sizes = np.linalg.svd(matrix, compute_uv=False)
        assert sizes.min() > 0.5 * sizes.max()
        assert np.sqrt(np.square(matrix).mean()) == pytest.approx(0.2, rel=0.25)  # the size of Adam's step
    assert np.sum(moved * gradient) > 0  # up the gradient: the step is minus this


def test_muon_gives_vectors_and_thin_matrices_adams_direction_with_nesterovs_momentum():
    gradient = {"bias": jnp.array([1.0, -2.0, 0.5]), "thin": jnp.full((64, 4), -3.0)}
    zeros = jax.tree.map(jnp.zeros_like, gradient)
    adam = optax.scale_by_adam(0.9, 0.99, nesterov=True)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        direction(Muon(), zeros, gradient), adam.update(gradient, adam.init(zeros))[0],
    )  # fmt: skip


def test_muon_goes_on_from_a_checkpoint(tmp_path):
    def run(examples, folder):
        config = Train(examples, optimizer=Muon(), checkpoint_every=256)
        return train(config, Net.init, OBJECTIVE, data(), folder, seed=0)

    straight = run(1024, tmp_path / "a")
    run(512, tmp_path / "b")
    resumed = run(1024, tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, straight, resumed)


@pytest.mark.parametrize(("optimizer", "power"), [(AdamW, 1.0), (Muon, 0.5)], ids=["adam", "muon"])
def test_hidden_matrices_of_a_wider_network_move_less_and_nothing_else_does(optimizer, power):
    shapes = {"hidden": (64, 64), "stack": (3, 64, 32), "down": (256, 64), "enter": (16, 64), "bias": (64,)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    gradient = {name: jax.random.normal(key, shape) for (name, shape), key in zip(shapes.items(), keys, strict=True)}
    zeros = jax.tree.map(jnp.zeros_like, gradient)
    plain = direction(optimizer(), zeros, gradient)
    ruled = direction(optimizer(width=Widened(tuned=16, now=64)), zeros, gradient)
    for name in shapes:
        ratio = 0.25**power if name in ("hidden", "stack", "down") else 1.0
        np.testing.assert_allclose(ruled[name], ratio * plain[name], rtol=1e-5, atol=1e-7, err_msg=name)


class Part(Module):
    """A table and a layer from hidden channels, of equal shapes; and a part of which the same holds."""

    table: jax.Array
    matrix: jax.Array
    part: "Part | None" = None

    @property
    def fixed(self):
        return ("table",)


@pytest.mark.parametrize("optimizer", [AdamW, Muon], ids=["adam", "muon"])
def test_what_a_module_says_takes_inputs_of_fixed_size_moves_as_before(optimizer):
    one = jax.random.normal(jax.random.key(0), (64, 64))
    gradient = {"a": Part(one, one, Part(one, one)), "b": one}
    zeros = jax.tree.map(jnp.zeros_like, gradient)
    ruled = direction(optimizer(width=Widened(16, 64)), zeros, gradient)
    for part in (ruled["a"], ruled["a"].part):
        assert not np.allclose(part.table, part.matrix)
        np.testing.assert_allclose(part.matrix, ruled["b"])
    plain = direction(optimizer(), zeros, gradient)
    np.testing.assert_allclose(ruled["a"].part.table, plain["b"], rtol=1e-5, atol=1e-7)


def test_hidden_are_the_matrices_that_grow_with_the_network():
    """Of a denoiser: those that have more inputs at twice the width, where every size that does not is large."""
    net = TransformerConfig(64, 2, 4, registers=96, text="joint", mixing=False, head=HeadConfig(128, 1))
    conditions = {"label": LabelConfig(200), "text": TextConfig(300, 96), "low": LowResolutionConfig()}

    def shapes(width):
        config = DenoiserConfig(replace(net, width=width, heads=width // 16), conditions)
        return jax.eval_shape(lambda: config.init(jax.random.key(0), channels=64))

    small, large = shapes(64), shapes(128)
    hidden = paths(Widened(32, 64).hidden(small))
    for path, x in paths(small).items():
        assert hidden[path] == (x.ndim > 1 and paths(large)[path].shape[-2] > x.shape[-2]), path
    assert sum(hidden.values()) > 10


@pytest.mark.parametrize("optimizer", [AdamW, Muon], ids=["adam", "muon"])
def test_decay_is_as_strong_at_every_width(optimizer):
    weights = {"w": jax.random.normal(jax.random.key(0), (64, 64)), "bias": jnp.ones(64)}
    still = jax.tree.map(jnp.zeros_like, weights)
    for width in (None, Widened(16, 64)):
        moved = direction(optimizer(weight_decay=0.1, width=width), weights, still)
        jax.tree.map(lambda m, w: np.testing.assert_allclose(m, 0.1 * w, rtol=1e-6), moved, weights)


@pytest.mark.parametrize("optimizer", [AdamW, Muon], ids=["adam", "muon"])
def test_at_the_width_it_is_for_the_rule_changes_nothing(optimizer):
    gradient = {"w": jax.random.normal(jax.random.key(0), (32, 32))}
    zeros = jax.tree.map(jnp.zeros_like, gradient)
    plain, ruled = (direction(optimizer(width=w), zeros, gradient)["w"] for w in (None, Widened(32, 32)))
    np.testing.assert_array_equal(ruled, plain)


def test_one_step_changes_a_hidden_layers_output_alike_at_every_width():
    """muP's reason: with inputs of unit size, a step's change of the output does not grow with the width."""
    changes = []
    for width in (64, 256, 1024):
        k1, k2 = jax.random.split(jax.random.key(width))
        x, back = jax.random.normal(k1, (width,)), jax.random.normal(k2, (width,))
        gradient = {"w": jnp.outer(x, back)}  # of one example
        moved = direction(AdamW(width=Widened(64, width)), {"w": jnp.zeros((width, width))}, gradient)["w"]
        changes.append(float(jnp.sqrt(jnp.mean((x @ moved) ** 2))))
    np.testing.assert_allclose(changes, changes[0], rtol=0.15)

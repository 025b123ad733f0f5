"""Modules: paths, stacking, number formats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.array import Array
from diorama.core.module import Module, Policy, cast, count, dtype_of, from_paths, paths, scan, stack, static

DEPTH, WIDTH = 4, 3


class Layer(Module):
    weight: Array
    scale: Array
    name: str = static(default="layer")

    @staticmethod
    def init(key):
        return Layer(jax.random.normal(key, (WIDTH, WIDTH)), jnp.float32(0.5))

    def __call__(self, x):
        return jnp.tanh(x @ self.weight) * self.scale


class Net(Module):
    layers: list[Layer]
    table: dict[str, Array]
    steps: Array
    none: Array | None = None


@pytest.fixture(scope="module")
def net():
    keys = jax.random.split(jax.random.key(0), 2)
    return Net([Layer.init(k) for k in keys], {"b": jnp.ones(2), "a": jnp.zeros(1)}, jnp.arange(3))


def test_paths_name_every_array(net):
    assert list(paths(net)) == [
        "layers.0.weight", "layers.0.scale", "layers.1.weight", "layers.1.scale", "table.a", "table.b", "steps",
    ]  # fmt: skip
    assert count(net) == 2 * (9 + 1) + 3 + 3


def test_from_paths_is_the_inverse(net):
    arrays = {name: np.asarray(x) + 1 for name, x in paths(net).items()}
    like = jax.eval_shape(lambda: net)
    again = from_paths(like, dict(reversed(arrays.items())))
    assert jax.tree.structure(again) == jax.tree.structure(net)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, np.asarray(b) + 1), again, net)
    assert again.steps.dtype == jnp.int32


def test_from_paths_names_what_does_not_fit(net):
    arrays = paths(net)
    with pytest.raises(ValueError, match=r"do not fit the model: steps$"):
        from_paths(net, {k: v for k, v in arrays.items() if k != "steps"})
    with pytest.raises(ValueError, match=r"do not fit the model: other$"):
        from_paths(net, arrays | {"other": jnp.ones(1)})
    with pytest.raises(ValueError, match=r"table\.a"):
        from_paths(net, arrays | {"table.a": jnp.ones(2)})


def test_modules_are_frozen_and_static_fields_are_structure(net):
    with pytest.raises(AttributeError):
        net.layers[0].weight = jnp.ones(1)
    assert jax.tree.structure(net.layers[0]) != jax.tree.structure(Layer(jnp.ones(1), jnp.ones(1), "other"))


def test_cast_and_policy_leave_integers_alone(net):
    low = Policy("bfloat16").enter(net)
    assert {str(x.dtype) for x in paths(low).values()} == {"bfloat16", "int32"}
    assert dtype_of(low) == jnp.bfloat16
    assert dtype_of(cast(low, jnp.float32)) == jnp.float32
    assert Policy().enter(net).layers[0].weight.dtype == jnp.float32
    assert dtype_of((jnp.arange(3), jnp.ones(1))) == jnp.float32


@pytest.fixture(scope="module")
def stacked():
    return stack(Layer.init, jax.random.key(1), DEPTH), jnp.linspace(-1, 1, 2 * WIDTH).reshape(2, WIDTH)


@pytest.mark.parametrize("unrolled", [0, DEPTH])
def test_scan_is_a_loop(stacked, monkeypatch, unrolled):
    monkeypatch.setattr("diorama.core.module.UNROLLED", unrolled)
    blocks, x = stacked
    out, between = scan(blocks, x, lambda block, x: (block(x), block(x)))
    for i, key in enumerate(jax.random.split(jax.random.key(1), DEPTH)):
        block = jax.tree.map(lambda leaf, i=i: leaf[i], blocks)
        np.testing.assert_array_equal(block.weight, Layer.init(key).weight)
        x = block(x)
        np.testing.assert_allclose(between[i], x, rtol=1e-6)
    np.testing.assert_allclose(out, x, rtol=1e-6)


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_what_is_recomputed_does_not_change_the_gradient(stacked, remat):
    blocks, x = stacked

    def loss(blocks, remat):
        return jnp.sum(scan(blocks, x, lambda block, x: (block(x), None), remat)[0] ** 2)

    straight = jax.jit(jax.grad(loss), static_argnums=1)(blocks, "none")
    again = jax.jit(jax.grad(loss), static_argnums=1)(blocks, remat)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), again, straight)

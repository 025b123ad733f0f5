"""FLOPs against what one counts by hand."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from diorama.core.flops import _attention, flops

B, I, H, O, L = 3, 4, 5, 6, 7  # noqa: E741


def zeros(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def mlp(weights, x):
    inner, outer = weights
    return jnp.sum(jnp.tanh(x @ inner) @ outer)


def test_the_gradient_by_hand():
    """Forward once; backward once for each weight and once for what lies between, not for the data."""
    weights, x = (zeros(I, H), zeros(H, O)), zeros(B, I)
    assert flops(mlp, weights, x) == 2 * B * (I * H + H * O)
    assert flops(mlp, weights, x, gradient=True) == 2 * B * (2 * I * H + 3 * H * O)


def test_a_frozen_part_costs_its_forward_pass_only():
    def through(weights, x, frozen):
        return mlp(weights, x @ frozen) + jnp.sum(jax.lax.stop_gradient(x @ weights[0]))

    given = (zeros(I, H), zeros(H, O)), zeros(B, I), zeros(I, I)
    assert flops(through, *given, gradient=True) == 2 * B * (I * I + 2 * I * H + 3 * H * O) + 2 * B * I * H


def test_the_target_of_a_loss_costs_its_forward_pass_only():
    """As in consistency training: the same layers, whose gradient is stopped at their end, in a loop too."""

    def layer(x, w):
        return jnp.tanh(x @ w), None

    def f(weights, x):
        def run(x):
            return jax.lax.scan(jax.checkpoint(layer), x, weights)[0]

        return jnp.square(run(x) - jax.lax.stop_gradient(run(2 * x))).sum()

    assert flops(f, zeros(L, H, H), zeros(B, H), gradient=True) == 4 * 2 * L * B * H * H


def test_what_comes_after_a_stop_has_no_gradient():
    def f(w, x):
        return jax.lax.stop_gradient(x @ w) @ jnp.zeros((H, O))

    assert flops(f, zeros(I, H), zeros(B, I), gradient=True) == 2 * B * (I * H + H * O)


@pytest.mark.parametrize("remat", [False, True])
def test_loops_count_all_their_turns_and_recomputation_does_not(remat):
    def layer(x, w):
        return jnp.tanh(x @ w), None

    def deep(weights, x):
        return jax.lax.scan(jax.checkpoint(layer) if remat else layer, x, weights)[0].sum()

    one = 2 * B * H * H
    assert flops(deep, zeros(L, H, H), zeros(B, H)) == L * one
    assert flops(deep, zeros(L, H, H), zeros(B, H), gradient=True) == 3 * L * one  # what is carried is active


def test_convolutions():
    def convolved(w, x):
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    taps = 2 * B * 8 * 8 * 3 * 3 * 4 * 6
    assert flops(convolved, zeros(3, 3, 4, 6), zeros(B, 8, 8, 4), gradient=True) == 2 * taps

    def wider(w, x):
        return jax.lax.conv_transpose(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert flops(wider, zeros(3, 3, 4, 6), zeros(B, 8, 8, 4)) == taps  # four times the outputs, a quarter of them zeros


def test_attention_is_two_products_and_twice_that_backwards():
    b, n, k, e = 2, 16, 3, 8

    def attention(qkv):
        return jax.nn.dot_product_attention(*qkv)

    q = zeros(b, n, k, e)
    once = 2 * 2 * b * n * n * k * e
    assert flops(attention, (q, q, q)) == once
    assert flops(attention, (q, q, q), gradient=True) == 3 * once
    line = SimpleNamespace(invars=[SimpleNamespace(aval=q)] * 3)  # of cuDNN's kernel, which only its devices have
    assert _attention(line, [False] * 3) == once
    assert _attention(line, [True] * 3) == 3 * once


def test_conditions_take_the_dearer_branch_and_unused_work_is_left_out():
    def f(w, x, choose):
        _ = x @ jnp.zeros((I, 100))
        return jax.lax.cond(choose, lambda: jnp.tanh(x @ w), lambda: jnp.zeros((B, H)))

    assert flops(f, zeros(I, H), zeros(B, I), jax.ShapeDtypeStruct((), bool), gradient=True) == 2 * (2 * B * I * H)


def test_custom_derivatives_count_as_others():
    @jax.custom_vjp
    def f(w, x):
        return x @ w

    f.defvjp(lambda w, x: (f(w, x), (w, x)), lambda kept, g: (kept[1].T @ g, g @ kept[0].T))
    assert flops(lambda w, x: jnp.tanh(f(w, x)).sum(), zeros(I, H), zeros(B, I), gradient=True) == 2 * 2 * B * I * H


def test_a_program_of_shards_counts_all_of_them():
    mesh = AbstractMesh((4,), ("data",))
    axes = PartitionSpec(), PartitionSpec("data")
    f = jax.shard_map(lambda w, x: x @ w, mesh=mesh, in_specs=axes, out_specs=PartitionSpec("data"))
    assert flops(f, zeros(I, H), zeros(8, I), gradient=True) == 2 * 2 * 8 * I * H


def test_what_the_compiler_says_of_the_gradient():
    """XLA counts what is compiled, elementwise operations too; without loops and recomputation the two agree."""

    def f(weights, x):
        return mlp(weights, x @ weights[0][:64, :64])

    given = (zeros(64, 256), zeros(256, 128)), zeros(512, 64)
    compiled = jax.jit(jax.value_and_grad(f)).lower(*given).compile().cost_analysis()
    assert flops(f, *given, gradient=True) == pytest.approx(compiled["flops"], rel=0.05)

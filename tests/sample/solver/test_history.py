import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.process import RectifiedFlow
from diorama.sample.solver.history import bend, exponential, half_logsnr, nothing, remember


@pytest.mark.parametrize("k", [1e-9, 1e-3, 0.3, 0.999, 1.0, 4.0, 30.0, 400.0, -1e-3, -0.7, -1.0, -4.0, -30.0])
def test_moments_are_the_integrals(k, x64):
    points, weights = np.polynomial.legendre.leggauss(200)
    r = (points + 1) / 2
    found = exponential(jnp.asarray(k), 4)
    for j, moment in enumerate(found, 1):
        np.testing.assert_allclose(moment, (weights / 2 * k * np.exp(k * (r - 1)) * r**j).sum(), rtol=1e-11)


@pytest.mark.parametrize("k", [1e-6, 1e-2, 0.9, 1.1, 10.0, -0.5, -5.0])
def test_moments_keep_their_digits_in_single_precision(k, x64):
    exact, found = (np.asarray(exponential(jnp.asarray(k, d), 3)) for d in (jnp.float64, jnp.float32))
    np.testing.assert_allclose(found, exact, rtol=3e-6)


def nodes_of(function, places):
    shape = (1, 1, 1, 1, 1)
    return tuple((jnp.full(shape, function(v)), jnp.full(shape, v)) for v in places)


def plain(h, n):
    return [h / (j + 1) for j in range(1, n + 1)]


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("to", [1.9, -0.4])
def test_a_polynomial_is_integrated_exactly(degree, to, x64):
    """Through one node more than its degree, on uneven steps, in either direction, the end of the step among them."""
    whole = np.polynomial.Polynomial([0.3, -1.0, 0.7, 2.0][: degree + 1])
    places = [1.0, to, 0.35, 0.2][: degree + 1]
    found = bend(nodes_of(whole, places), jnp.full((1, 1, 1, 1, 1), to), plain, None)
    exact = whole.integ()(to) - whole.integ()(1.0) - (to - 1.0) * whole(1.0)
    np.testing.assert_allclose(found, exact, atol=1e-12)


@pytest.mark.parametrize("known", [1, 2, 3])
def test_what_is_not_known_lowers_the_order(known, x64):
    places = [0.1, -0.2, -0.7, -0.9]
    to = jnp.full((1, 1, 1, 1, 1), 0.5)
    all_nodes = nodes_of(np.exp, places)
    some = (*all_nodes[:known], *nothing(jnp.zeros((1, 1, 1, 1, 1)), 4 - known))
    np.testing.assert_allclose(bend(some, to, plain, None), bend(all_nodes[:known], to, plain, None), rtol=1e-12)


@pytest.mark.parametrize("to", [0.1, np.inf, -np.inf])
def test_there_is_no_bend_to_infinity_or_nowhere(to):
    nodes, end = nodes_of(np.exp, [0.1, -0.2, -0.7]), jnp.full((1, 1, 1, 1, 1), to)

    def total(values):
        return jnp.sum(bend(tuple(zip(values, [at for _, at in nodes], strict=True)), end, plain, lambda h: h / 2))

    value, slope = jax.value_and_grad(total)([v for v, _ in nodes])
    assert value == 0
    assert all((s == 0).all() for s in slope)


def test_frames_remember_for_themselves():
    x = jnp.arange(2.0).reshape(1, 2, 1, 1, 1) + 1
    history = nothing(x, 2)
    history = remember(
        history, (x, half_logsnr(RectifiedFlow(), jnp.asarray([[0.5, 0.6]]), 5)), jnp.asarray([[True, False]])
    )
    (value, at), _ = history
    np.testing.assert_array_equal(value.ravel(), [1, 0])
    np.testing.assert_allclose(at.ravel(), [0, np.inf])

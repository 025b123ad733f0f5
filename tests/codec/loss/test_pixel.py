"""Terms on pixels against what they are on paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.codec.loss import L1, L2, Charbonnier, MultiScale, Wavelet
from diorama.core import UserError

RNG = np.random.default_rng(0)
A, B = (jnp.asarray(RNG.uniform(-1, 1, (2, 3, 8, 12, 3)), jnp.float32) for _ in range(2))
ODD = A[:, :, :7, :9], B[:, :, :7, :9]


def test_means_of_differences():
    assert float(L1().compare(A, B)) == pytest.approx(float(np.abs(A - B).mean()), rel=1e-5)
    assert float(L2().compare(A, B)) == pytest.approx(float(np.square(A - B).mean()), rel=1e-5)


def test_charbonnier_is_l1_far_from_zero_and_a_square_near_it():
    errors = [abs(float(Charbonnier(epsilon=e).compare(A, B) - L1().compare(A, B))) for e in (1e-2, 1e-3, 1e-4)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-4
    small = 1e-4 * (A - B)
    square = float(L2().compare(small, 0 * B)) / (2 * 0.1)
    assert float(Charbonnier(epsilon=0.1).compare(small, 0 * B)) == pytest.approx(square, rel=0.02)
    assert np.isfinite(jax.grad(lambda x: Charbonnier().compare(x, A))(A)).all()


@pytest.mark.parametrize("term", [L1(), L2(), Charbonnier(), MultiScale(), Wavelet()])
def test_equal_media_cost_nothing_and_others_something(term):
    assert float(term.compare(A, A)) == 0
    assert float(term.compare(A, B)) > 0.1
    alone = [float(term.compare(A[i : i + 1], B[i : i + 1])) for i in range(2)]
    assert float(term.compare(A, B)) == pytest.approx(np.mean(alone), rel=1e-5)


@pytest.mark.parametrize("media", [(A, B), ODD])
def test_wavelets_of_equal_weight_lose_nothing(media):
    """Parseval: bands of weight 1 are the mean square, whatever the sides; and bands add up."""
    whole = float(L2().compare(*media))
    assert float(Wavelet(of=L2(), weights=(1.0, 1.0, 1.0)).compare(*media)) == pytest.approx(whole, rel=1e-5)
    parts = [float(Wavelet(of=L2(), weights=tuple(row)).compare(*media)) for row in np.eye(3).tolist()]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)
    assert min(parts) > 0


def test_wavelets_tell_scales_apart():
    y = np.arange(8) % 2 * 2.0 - 1
    stripes = jnp.asarray(np.broadcast_to(y[:, None, None], (1, 1, 8, 8, 3)), jnp.float32)
    flat, zero = jnp.ones_like(stripes), jnp.zeros_like(stripes)
    wide = jnp.asarray(np.broadcast_to((np.arange(8) // 2 % 2 * 2.0 - 1)[:, None, None], (1, 1, 8, 8, 3)), jnp.float32)
    for media, band in ((flat, 0), (wide, 1), (stripes, 2)):
        values = [float(Wavelet(of=L2(), weights=tuple(row)).compare(media, zero)) for row in np.eye(3).tolist()]
        np.testing.assert_allclose(values, np.eye(3)[band], atol=1e-6)


def test_scales_see_coarse_differences_as_often_as_they_are_many():
    flat, zero = jnp.ones((1, 1, 8, 8, 1)), jnp.zeros((1, 1, 8, 8, 1))
    checks = jnp.asarray((np.indices((8, 8)).sum(0) % 2 * 2.0 - 1)[None, None, :, :, None], jnp.float32)
    for scales in (1, 2, 3):
        assert float(MultiScale(of=L2(), scales=scales).compare(flat, zero)) == pytest.approx(1)
        assert float(MultiScale(of=L2(), scales=scales).compare(checks, zero)) == pytest.approx(1 / scales)
    assert float(MultiScale(of=L1(), scales=6).compare(*ODD)) > 0
    point = jnp.ones((1, 1, 1, 1, 1))
    assert float(MultiScale(of=L1(), scales=3).compare(point, 0 * point)) == 1


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="scales=0"):
        MultiScale(scales=0)
    with pytest.raises(UserError, match="one for the mean"):
        Wavelet(weights=(1.0,))

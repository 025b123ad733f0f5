import jax.numpy as jnp
import numpy as np
import pytest

from diorama.train import ema

STDS = (0.01, 0.05, 0.1, 0.2, 0.25)


def weights(ends: np.ndarray, gamma: float) -> np.ndarray:
    """What the weights after each step count for in the average, when step k ends at `ends[k]` examples."""
    cumulated = (ends / ends[-1]) ** (gamma + 1)
    return np.diff(cumulated, prepend=0)


@pytest.mark.parametrize("std", STDS)
def test_gamma_and_std_are_inverse(std):
    assert ema.std_of(ema.gamma_of(std)) == pytest.approx(std, rel=1e-9)


def test_the_published_pair():
    assert ema.gamma_of(0.1) == pytest.approx(6.94, abs=0.01)  # EDM2, section 3.1
    assert ema.gamma_of(0.05) == pytest.approx(16.97, abs=0.01)


@pytest.mark.parametrize("std", [0.0, 0.3, -1.0])
def test_a_width_out_of_range_is_refused(std):
    with pytest.raises(ValueError, match=r"between 0 and 0\.2887"):
        ema.gamma_of(std)


@pytest.mark.parametrize("std", STDS)
def test_average_of_a_straight_line_is_the_closed_form(std):
    sizes = np.random.default_rng(0).choice([8, 16, 32], 400)  # batches of several sizes
    ends, gamma = np.cumsum(sizes).astype(float), ema.gamma_of(std)
    average = jnp.float32(123.0)  # the initial weights never count
    for size, end in zip(sizes, ends, strict=True):
        average = ema.update(average, jnp.float32(end), gamma, jnp.float32(size / end))
    assert float(average) == pytest.approx(np.sum(weights(ends, gamma) * ends), rel=1e-5)


def test_a_step_late_in_training_still_counts():
    """At 4 10^9 examples 1 - beta of a batch of 16 is 3e-8: nothing is left of it beside 1 in float32."""
    gamma = ema.gamma_of(0.1)
    moved = ema.update(jnp.float32(0), jnp.float32(1), gamma, jnp.float32(16 / 4e9))
    assert float(moved) == pytest.approx((gamma + 1) * 16 / 4e9, rel=1e-5)


def test_integers_are_copied():
    assert int(ema.update(jnp.array(1), jnp.array(5), 6.9, jnp.float32(0.1))) == 5


def test_overlap_is_the_integral():
    t = np.linspace(0, 100, 200_001)
    a, b = 7.0 * t**6 / 100**7, np.where(t <= 60, 3.0 * t**2 / 60**3, 0)
    assert float(ema.overlap(100, 6, 60, 2)) == pytest.approx(np.trapezoid(a * b, t), rel=1e-3)


@pytest.mark.parametrize("std", [0.03, 0.07, 0.12, 0.2])
def test_reconstruction_from_snapshots(std):
    """Averages of two widths at 16 moments give any width between and beside them: the profile, and a wiggly path."""
    ends = np.arange(1, 4097) * 16.0
    path = np.sin(ends / 9000) + 1e-5 * ends
    moments = range(255, 4096, 256)
    stored = [(int(ends[m]), s) for m in moments for s in (0.05, 0.1)]
    values = [weights(ends[: m + 1], ema.gamma_of(s)) @ path[: m + 1] for m in moments for s in (0.05, 0.1)]
    coefficients = ema.combination(stored, int(ends[-1]), std)
    truth = weights(ends, ema.gamma_of(std)) @ path
    assert coefficients.sum() == pytest.approx(1, abs=1e-9)
    assert coefficients @ values == pytest.approx(truth, abs=1.5e-3)


def test_reconstruction_of_a_stored_width_is_that_average():
    coefficients = ema.combination([(100, 0.05), (100, 0.1), (200, 0.05), (200, 0.1)], 200, 0.1)
    np.testing.assert_allclose(coefficients, [0, 0, 0, 1], atol=1e-8)

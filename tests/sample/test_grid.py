import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, CosineVP, LinearVP, RectifiedFlow, density
from diorama.sample import grid
from tests.process.test_gaussian import PROCESSES

GRIDS = [
    grid.Uniform(), grid.LogitNormal(0.3, 0.8), grid.Karras(), grid.LogSNR(), grid.Cosine(),
    grid.Beta(), grid.Spectral((6.0, 3.0, -1.0)), grid.Spectral((6.0, -1.0), tail=0.0),
    grid.Fitted((1.0, 0.8, 0.7, 0.2, 0.1, 0.0)),
]  # fmt: skip


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("times", GRIDS, ids=str)
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_grids_fall_from_noise_to_data(process, times, steps):
    taus = times(process, steps)
    assert taus.shape == (steps + 1,)
    assert taus.dtype == np.float64
    assert taus[0] == 1
    assert taus[-1] == 0
    assert (np.diff(taus) < 0).all()


@pytest.mark.parametrize("process", [EDM(), RectifiedFlow(), CosineVP()], ids=lambda p: type(p).__name__)
def test_karras_visits_its_noise_levels(process, x64):
    i = np.arange(10)
    wanted = (80 ** (1 / 7) + i / 9 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7  # arXiv 2206.00364, equation 5
    taus = grid.Karras()(process, 10)
    np.testing.assert_allclose(np.exp(-process.logsnr(taus[1:-1]) / 2), wanted[1:], rtol=1e-6)


def test_logsnr_is_even_in_the_logarithm_of_noise(x64):
    taus = grid.LogSNR()(EDM(), 10)
    np.testing.assert_allclose(np.diff(EDM().logsnr(jnp.asarray(taus[:-1])), 2), 0, atol=1e-9)
    np.testing.assert_allclose(EDM().sigma(taus[-2]), 0.002, rtol=1e-9)


def test_cosine_and_beta_step_least_at_the_ends():
    for times in (grid.Cosine(), grid.Beta()):
        steps = -np.diff(times(RectifiedFlow(), 20))
        assert steps[0] < steps[10] > steps[-1]
        np.testing.assert_allclose(steps, steps[::-1], atol=1e-12)
    np.testing.assert_allclose(grid.Beta(1.0, 1.0)(RectifiedFlow(), 8), grid.Uniform()(RectifiedFlow(), 8), atol=1e-12)


def test_karras_is_even_in_tau_for_edm():
    np.testing.assert_allclose(np.diff(grid.Karras()(EDM(), 10)[:-1], 2), 0, atol=1e-6)


def test_karras_fits_a_process_that_ends_early():
    process = LinearVP(beta_max=4.0)  # its sigma/alpha ends at 2.6
    taus = grid.Karras()(process, 10)
    assert (np.diff(taus) < 0).all()


def test_logit_normal_spends_steps_as_its_density_does(x64):
    process, law = RectifiedFlow(), density.LogitNormal(0.0, 1.0)
    taus = grid.LogitNormal()(process, 1000)
    share = np.mean((taus > 0.4) & (taus < 0.6))
    assert share == pytest.approx(float(law.cdf(process, 0.6) - law.cdf(process, 0.4)), rel=0.3)


def test_spectral_steps_alike_through_every_octave(x64):
    """The levels of 3 k^-2: each octave is 2 log 2 of logsnr, and gets as many of the steps between the tails."""
    process, levels = RectifiedFlow(), density.spectral(3.0 * np.arange(1, 33) ** -2.0).levels
    logsnr = process.logsnr(jnp.asarray(grid.Spectral(levels, tail=0.1)(process, 100)[10:91]))
    np.testing.assert_allclose(np.diff(logsnr), 5 * 2 * np.log(2) / 80, rtol=1e-6)
    assert grid.FromSpectrum(tail=0.3).fitted(3.0 * np.arange(1, 33) ** -2.0) == grid.Spectral(levels, 0.3)
    with pytest.raises(UserError, match="train the run first"):
        grid.FromSpectrum()(process, 4)


def test_fitted_gives_its_times_and_interpolates_others():
    taus = (1.0, 0.8, 0.7, 0.2, 0.0)
    np.testing.assert_array_equal(grid.Fitted(taus)(RectifiedFlow(), 4), taus)
    np.testing.assert_allclose(grid.Fitted(taus)(RectifiedFlow(), 12)[::3], taus, atol=1e-12)
    for wrong in ((1.0, 0.5), (0.9, 0.0), (1.0, 0.4, 0.4, 0.0), (1.0, float("nan"), 0.0)):
        with pytest.raises(UserError, match="fall from 1 to 0"):
            grid.Fitted(wrong)


def test_every_grid_has_examples_or_is_made_for_one_run():
    without = {kind.__name__ for kind in grid.GRIDS if not kind.examples()}
    assert without == {"Spectral", "FromSpectrum", "Fitted"}


def test_grids_can_be_made_while_tracing():
    import jax

    jax.jit(lambda x: x + grid.Karras()(LinearVP(), 4).sum())(1.0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: grid.Karras(sigma_min=80.0), "noise falls to sigma_min"),
        (lambda: grid.Karras(sigma_min=0.0), "noise falls to sigma_min"),
        (lambda: grid.LogSNR(sigma_min=-1.0), "noise falls to sigma_min"),
        (lambda: grid.Karras(rho=0.0), "rho is above 0"),
        (lambda: grid.Beta(a=0.0), "a is above 0"),
        (lambda: grid.Beta(b=-1.0), "b is above 0"),
        (lambda: grid.LogitNormal(std=0.0), "std is above 0"),
        (lambda: grid.FromSpectrum(tail=0.5), "each end"),
    ],
)
def test_settings_that_make_no_grid_are_refused(wrong, says):
    with pytest.raises(UserError, match=says):
        wrong()

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

from diorama.core.errors import UserError
from diorama.core.random import stream
from diorama.process import EDM, CosineVP, RectifiedFlow, density

CASES = [
    (RectifiedFlow(), density.Uniform()),
    (RectifiedFlow(), density.LogitNormal()),
    (RectifiedFlow(), density.LogitNormal(-0.4, 1.0)),
    (EDM(), density.LogNormal()),
    (RectifiedFlow(), density.LogNormal(-0.4, 1.0)),
    (CosineVP(), density.UniformLogSNR()),
    (EDM(), density.UniformLogSNR(-6.0, 8.0)),
    (RectifiedFlow(), density.Spectral((5.0, 2.0, -1.0), tail=0.0)),
    (RectifiedFlow(), density.Spectral((5.0, 2.0, -1.0), tail=0.1)),
]
every = pytest.mark.parametrize(("process", "law"), CASES, ids=lambda c: str(c).replace("sigma_data", ""))
IDS = jnp.arange(4096, dtype=jnp.uint32)


@every
def test_quantile_inverts_the_distribution(process, law, x64):
    u = jnp.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(law.cdf(process, law.quantile(process, u)), u, atol=1e-8)


@every
def test_density_integrates_to_the_distribution(process, law, x64):
    tau = law.quantile(process, jnp.linspace(0.05, 0.95, 4001))
    p = law.pdf(process, tau)
    assert (p > 0).all()
    np.testing.assert_allclose(jnp.sum((p[1:] + p[:-1]) / 2 * jnp.diff(tau)), 0.9, atol=1e-5)


@every
def test_samples_follow_the_distribution(process, law):
    tau = law.sample(process, stream(0, "test"), IDS)
    assert tau.shape == IDS.shape
    assert 0 < tau.min() < tau.max() <= 1
    assert kstest(np.asarray(law.cdf(process, tau)), "uniform").pvalue > 1e-3


@every
def test_strata_hold_one_sample_each(process, law):
    place = jax.random.permutation(jax.random.key(1), 64) / 64
    tau = law.stratified(process, jax.random.key(3), place)
    u = np.asarray(law.cdf(process, tau))
    order = np.sort(u)
    np.testing.assert_array_equal(np.floor(order * 64 + 1e-3 - (order * 64 % 1)[0]), np.arange(64))
    np.testing.assert_allclose((u - place) % 1, (u - place)[0] % 1, atol=1e-4)  # each its own, and one offset for all


def test_a_sample_belongs_to_its_id_and_not_to_the_batch():
    draw = lambda ids: density.LogitNormal().sample(RectifiedFlow(), stream(0, "tau", 7), ids, (3,))  # noqa: E731
    assert draw(IDS[:8]).shape == (8, 3)
    np.testing.assert_array_equal(draw(IDS[:8])[5], draw(IDS[5:6])[0])
    assert len(np.unique(draw(IDS[:8]))) == 24


def test_moments_of_the_named_laws():
    process, key = EDM(), stream(0, "test")
    log_sigma = -process.logsnr(density.LogNormal(-1.2, 1.2).sample(process, key, IDS)) / 2
    np.testing.assert_allclose([log_sigma.mean(), log_sigma.std()], [-1.2, 1.2], atol=0.06)
    tau = density.LogitNormal(0.5, 0.8).sample(process, key, IDS)
    np.testing.assert_allclose([jnp.log(tau / (1 - tau)).mean(), jnp.log(tau / (1 - tau)).std()], [0.5, 0.8], atol=0.06)


def test_uniform_logsnr_is_uniform(x64):
    process, law = CosineVP(), density.UniformLogSNR(-8.0, 8.0)
    np.testing.assert_allclose(
        process.logsnr(law.quantile(process, jnp.linspace(0.25, 0.75, 3))), [4, 0, -4], atol=1e-9
    )


def test_a_spectrum_gives_each_octave_equal_time(x64):
    """Power 3 k^-2 drowns at logsnr = 2 log k - log 3: every octave is 2 log 2 wide, and so all of logsnr is alike."""
    law = density.spectral(3.0 * np.arange(1, 33) ** -2.0, tail=0.0)
    np.testing.assert_allclose(law.levels, 2 * np.log(2.0 ** np.arange(5, -1, -1)) - np.log(3), rtol=1e-12)
    found = RectifiedFlow().logsnr(law.quantile(RectifiedFlow(), jnp.asarray([0.2, 0.4])))
    np.testing.assert_allclose(found, 2 * np.log([16, 8]) - np.log(3), rtol=1e-9)


def test_octaves_of_equal_power_are_taken_together():
    assert len(density.spectral(np.asarray([8.0, 8, 8, 8, 4, 4, 4, 1])).levels) == 2
    with pytest.raises(UserError, match="two or more finite values of logsnr that fall"):
        density.spectral(np.ones(16))
    with pytest.raises(UserError, match="finite"):
        density.spectral(np.asarray([1.0, 0.5, 0.2, 0.0]))
    with pytest.raises(UserError, match="no octave"):
        density.spectral(np.ones(1))


def test_tails_thin_out_from_the_density_of_the_octaves(x64):
    process, law = RectifiedFlow(), density.Spectral((5.0, 2.0, -1.0), tail=0.1)
    at = lambda logsnr: law.cdf(process, process.tau_of_logsnr(jnp.asarray(logsnr)))  # noqa: E731
    np.testing.assert_allclose(at([5.0, 2.0, -1.0]), [0.1, 0.5, 0.9], rtol=1e-9)
    width = 0.1 * 6 / 0.8
    np.testing.assert_allclose(at([5.0 + width, -1.0 - width]), [0.1 / np.e, 1 - 0.1 / np.e], rtol=1e-9)
    np.testing.assert_allclose(at(4.999) - at(5.001), 2 * 0.001 * 0.8 / 6, rtol=1e-3)  # no leap at the edge
    np.testing.assert_array_equal(law.cdf(process, jnp.asarray([0.0, 1.0])), [0.0, 1.0])
    with pytest.raises(UserError, match="each end"):
        density.Spectral((1.0, 0.0), tail=0.5)


def test_a_density_from_the_spectrum_waits_for_it():
    law = density.FromSpectrum(tail=0.2)
    assert law.fitted(np.arange(1, 17) ** -2.0) == density.spectral(np.arange(1, 17) ** -2.0, tail=0.2)
    with pytest.raises(UserError, match="train the run first"):
        law.sample(RectifiedFlow(), jax.random.key(0), IDS)


def test_the_grid_of_a_density_has_its_defaults():
    from diorama.sample import grid

    for name in ("LogitNormal", "FromSpectrum"):
        assert vars(getattr(density, name)()) == vars(getattr(grid, name)())
    assert density.Spectral((1.0, 0.0)).tail == grid.Spectral((1.0, 0.0)).tail
    assert density.spectral(np.arange(1, 17) ** -2.0) == density.FromSpectrum().fitted(np.arange(1, 17) ** -2.0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: density.LogitNormal(std=0.0), "std is above 0"),
        (lambda: density.LogNormal(std=-1.0), "std is above 0"),
        (lambda: density.UniformLogSNR(3.0, 3.0), "from low up to high"),
        (lambda: density.FromSpectrum(0.5), "each end"),
    ],
)
def test_laws_that_are_none_are_refused(wrong, says):
    with pytest.raises(UserError, match=says):
        wrong()

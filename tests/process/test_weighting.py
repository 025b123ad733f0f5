import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from diorama.process import EDM, CosineVP, Prediction, RectifiedFlow, density, weighting
from tests.process.test_gaussian import PROCESSES
from tests.process.test_prediction import noised

TAUS = np.linspace(0.05, 0.95, 19)
UNIFORM = density.Uniform()


def proportional(a, b):
    np.testing.assert_allclose(np.asarray(a) / b, np.asarray(a)[0] / b[0], rtol=1e-6)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize(
    ("law", "kind"),
    [
        (weighting.X0(), "x0"),
        (weighting.Epsilon(), "epsilon"),
        (weighting.V(), "v"),
        (weighting.Velocity(), "velocity"),
        (weighting.EDM(), "F"),
    ],
    ids=str,
)
def test_plain_weightings_are_the_error_they_are_named_after(process, law, kind, x64):
    """Whatever a network predicts: its value is off, and the weighted error of the pair is the named error."""
    truth, x, level = noised(process)
    taus = jnp.asarray([0.05, 0.3, 0.5, 0.8, 0.97])
    for source in ("x0", "epsilon", "velocity", "F"):
        value = truth.to(source, level)
        guess = Prediction.of(source, value + 0.1 * jnp.sin(7 * value), x, level)
        ours = law(process, taus)[:, None] * weighting.error(guess, truth.x0, truth.epsilon).reshape(5, -1)
        named = ((guess.to(kind, level) - truth.to(kind, level)) ** 2).reshape(5, -1)
        np.testing.assert_allclose(ours, named, rtol=1e-6, atol=1e-12 * float(named.max()))


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_elbo_is_the_elbo(process, x64):
    for law, w in (
        (weighting.ELBO(), lambda logsnr: 1.0 + 0 * logsnr),
        (weighting.Sigmoid(2.0), lambda logsnr: jax.nn.sigmoid(2.0 - logsnr)),
    ):
        logsnr = process.logsnr(jnp.asarray(TAUS))
        np.testing.assert_allclose(weighting.effective(process, law, UNIFORM, jnp.asarray(TAUS)), w(logsnr), rtol=1e-6)


@pytest.mark.parametrize(
    ("process", "law", "times", "w"),
    [  # the table of Kingma & Gao 2023 (arXiv 2303.00848)
        (CosineVP(), weighting.Epsilon(), UNIFORM, lambda s: 1 / np.cosh(s / 2)),
        (CosineVP(), weighting.V(), UNIFORM, lambda s: np.exp(-s / 2)),
        (RectifiedFlow(), weighting.Velocity(), UNIFORM, lambda s: np.exp(-s / 2)),
        (EDM(), weighting.EDM(), density.LogNormal(), lambda s: norm.pdf(s, 2.4, 2.4) * (np.exp(-s) + 0.25)),
        (CosineVP(), weighting.MinSNR(5), UNIFORM, lambda s: np.minimum(1, 5 * np.exp(-s)) / np.cosh(s / 2)),
        (CosineVP(), weighting.P2(0.5), UNIFORM, lambda s: (1 + np.exp(s)) ** -0.5 / np.cosh(s / 2)),
    ],
    ids=["epsilon, cosine", "v, cosine", "flow matching", "EDM", "min-SNR, cosine", "P2, cosine"],
)
def test_effective_weights_of_the_literature(process, law, times, w, x64):
    tau = jnp.asarray(TAUS)
    proportional(weighting.effective(process, law, times, tau), w(np.asarray(process.logsnr(tau))))


def test_weight_is_a_matter_of_logsnr_and_not_of_the_process(x64):
    """The ELBO of two processes at equal logsnr is the same: only the speed through the levels differs."""
    logsnr = jnp.linspace(-4, 6, 11)
    values = [
        weighting.effective(p, weighting.Sigmoid(), UNIFORM, p.tau_of_logsnr(logsnr)) for p in (RectifiedFlow(), EDM())
    ]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6)


def test_elbo_integrates_to_the_likelihood_of_a_gaussian(x64):
    """I-MMSE: for x0 ~ N(0, 1), the exact denoiser's weighted error integrates to what the noise hides of x0.

    mmse(snr) = 1/(1 + snr), so 1/2 integral mmse d snr from snr1 to snr0 = 1/2 log((1 + snr0)/(1 + snr1)).
    """
    process, tau = RectifiedFlow(), jnp.linspace(0.05, 0.95, 20001)
    snr = jnp.exp(process.logsnr(tau))
    error = (1 + snr) / (1 + snr)  # |dx0|^2 + |depsilon|^2 = (1 + snr) mmse
    value = weighting.ELBO()(process, tau) * error
    total = jnp.sum((value[1:] + value[:-1]) / 2 * jnp.diff(tau))
    np.testing.assert_allclose(total, 0.5 * jnp.log((1 + snr[0]) / (1 + snr[-1])), rtol=1e-6)

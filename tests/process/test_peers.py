"""The effective weights of well-known models are those of the table of Kingma & Gao 2023 (arXiv 2303.00848)."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from diorama.process.peers import PEERS
from diorama.process.weighting import effective

TABLE = {
    "DDPM, cosine": lambda s: 1 / np.cosh(s / 2),
    "min-SNR 5": lambda s: np.minimum(1, 5 * np.exp(-s)) / np.cosh(s / 2),
    "flow matching": lambda s: np.exp(-s / 2),
    "SD3": lambda s: np.exp(-s / 2) * norm.pdf(-s / 2) / (expit(s / 2) * expit(-s / 2)),  # times the density of tau
    "EDM": lambda s: norm.pdf(s, 2.4, 2.4) * (np.exp(-s) + 0.25),
    "sigmoid 2": lambda s: expit(2 - s),
}


@pytest.mark.parametrize("name", PEERS)
def test_weights_of_the_literature(name, x64):
    process, weighting, density = PEERS[name]
    logsnr = np.linspace(-6.0, 10.0, 33)
    found = effective(process, weighting, density, process.tau_of_logsnr(jnp.asarray(logsnr)))
    ratio = np.asarray(found) / TABLE[name](logsnr)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)

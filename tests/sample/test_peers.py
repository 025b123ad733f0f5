"""Recorded numbers of an independent implementation: the sums that diffusers' own scheduler tests assert.

Their dummy model is model(x, t) = x t / (t + 1) on a fixed ramp, with linear betas; nothing is drawn.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

from diorama.process import Prediction, Process
from diorama.sample import DDIM, DPMSolver
from tests.sample.truths import march

RAMP = jnp.asarray((np.arange(768).reshape(3, 8, 8, 4) / 768).transpose(3, 0, 1, 2)[:, None], jnp.float32)


@dataclass(frozen=True)
class Discrete(Process):
    """Linear betas: tau = (i + 1) / steps is DDPM's step i, and tau = 0 the data before it."""

    steps: int = 1000
    beta_start: float = 1e-4

    def table(self):
        return np.concatenate([[1.0], np.cumprod(1 - np.linspace(self.beta_start, 0.02, self.steps))])

    def alpha(self, tau):
        return jnp.interp(tau, np.linspace(0, 1, self.steps + 1), np.sqrt(self.table()))

    def sigma(self, tau):
        return jnp.interp(tau, np.linspace(0, 1, self.steps + 1), np.sqrt(1 - self.table()))


def dummy(process, kind, limit=np.inf):
    """diffusers' dummy model as a denoiser; its DDIM keeps x0 in [-1, 1] and leaves epsilon."""

    def denoise(x, tau):
        t = (tau * process.steps - 1).reshape(-1, 1, 1, 1, 1)
        pair = Prediction.of(kind, x * t / (t + 1), x, process.at(tau, x.ndim))
        return Prediction(jnp.clip(pair.x0, -limit, limit), pair.epsilon)

    return denoise


@pytest.mark.parametrize(
    ("beta_start", "kind", "total", "mean"),
    [(1e-4, "epsilon", 172.0067, 0.223967), (1e-4, "v", 52.5302, 0.0684), (1e-2, "epsilon", 149.8295, 0.1951)],
)
def test_ddim(beta_start, kind, total, mean):
    process = Discrete(beta_start=beta_start)
    taus = np.append(np.arange(901, 0, -100), 0) / 1000
    found = np.abs(march(DDIM(), process, dummy(process, kind, limit=1), taus, RAMP))
    assert found.sum() == pytest.approx(total, abs=1e-2)
    assert found.mean() == pytest.approx(mean, abs=1e-3)


@pytest.mark.parametrize(("kind", "mean"), [("epsilon", 0.3301), ("v", 0.2251)])
def test_dpm_solver(kind, mean):
    """test_scheduler_dpm_multi.py: order 2, midpoint, ten steps that end at the first noise level, not in data."""
    taus = (np.append(np.linspace(0, 999, 11).round()[:0:-1], 0) + 1) / 1000
    found = march(DPMSolver(2), Discrete(), dummy(Discrete(), kind), taus, RAMP)
    assert np.abs(found).mean() == pytest.approx(mean, abs=1e-3)

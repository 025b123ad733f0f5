"""A denoiser with conditions, and predictions to combine."""

import jax
import jax.numpy as jnp
import numpy as np

from diorama.process import Prediction, RectifiedFlow
from tests.sample.truths import gaussian

FLOW = RectifiedFlow()
X = jax.random.normal(jax.random.key(0), (4, 3, 4, 4, 2))
TAU = jnp.asarray([[0.2, 0.5, 0.9]] * 4)
ONES, TWO = jnp.ones(4), jnp.full((4,), 2.0)


def tilting(process=FLOW):
    """A denoiser that differs in more than size: conditions turn its prediction towards a fixed pattern."""
    bare, pattern = gaussian(process, variance=2.0), jax.random.normal(jax.random.key(1), X.shape[1:])

    def denoise(x, tau, conditions):
        pair, at = bare(x, tau), process.at(tau, x.ndim)
        share = at.sigma**2 / (at.alpha**2 + at.sigma**2)
        x0 = pair.x0 + conditions[:, None, None, None, None] * share * pattern
        return Prediction.of("x0", x0, x, at)

    return denoise


def counting(denoiser):
    """`denoiser`, and the batch sizes it was run with."""
    batches = []

    def counted(x, tau, conditions):
        jax.debug.callback(lambda: batches.append(x.shape[0]))
        return denoiser(x, tau, conditions)

    return counted, batches


def same(a: Prediction, b: Prediction, **tolerance):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, **(tolerance or {"rtol": 0, "atol": 0}))

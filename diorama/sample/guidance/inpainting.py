"""Inpainting: part of a clip is known, and the rest is made to fit."""

from typing import Any

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.convert import Denoiser
from diorama.process.gaussian import Process, divide
from diorama.process.prediction import Prediction


def inpainted(denoiser: Denoiser, process: Process, known: Array, where: Array) -> Denoiser:
    """`denoiser` that knows the x0 of a part: `known` (b, t, h, w, c) where `where` (b, t, h, w, 1) is true.

    Replacement (Song et al. 2021, arXiv 2011.13456, appendix I.2; Lugmayr et al. 2022, 2201.09865, equation 8): at each
    noise time the known part is what is known, noised. Here no noise has to be drawn for that, because x there *is*
    alpha known + sigma epsilon with the noise that it began with, and whatever a solver added: once its x0 is known, so
    is its epsilon. The last step leaves `known` itself.

    The rest fits what lies around it only so well, for the network sees the known part as noisy as the rest: on a
    smooth Gaussian field the known half moved the other by 0.36 of what it should with the flow's solvers, and by 0.5
    with ancestral ones. Restarts (RePaint's resampling, algorithm 1) and stochastic solvers help. Put it around a
    guided denoiser, not into one.
    """

    def filled(x: Array, tau: Array, conditions: Any) -> Prediction:
        pair, at = denoiser(x, tau, conditions), process.of(x.shape[1:]).at(tau, x.ndim)
        noise = divide(x - at.alpha * known, at.sigma)
        return Prediction(jnp.where(where, known, pair.x0), jnp.where(where, noise, pair.epsilon))

    return filled

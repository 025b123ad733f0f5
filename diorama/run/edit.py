"""Edits by inversion: a clip is taken up to noise under the words that describe it, and down again under others."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.codec import Codec, PixelCodec
from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.diffusion import Denoiser
from diorama.evaluate import quantise
from diorama.process import Prediction, Process
from diorama.run.against import guided
from diorama.run.examples import conditions
from diorama.run.generate import Generator
from diorama.run.resolution import signals_of
from diorama.run.run import Bucket, Sampling
from diorama.sample import plan
from diorama.sample.invert import FixedPoint, Naive, Reversible


@dataclass(frozen=True)
class Edited:
    """An edit, and what the inversion is worth."""

    media: np.ndarray  # (t, h, w, 3) uint8, under the new words
    again: np.ndarray  # (t, h, w, 3) uint8, back under the old words: what no edit would leave as it is
    error: float  # root mean square of latents after that round trip, beside those that went in
    residual: float  # of the inversion's own equation, NaN where it solves none


def edit(
    generator: Generator,
    media: np.ndarray,
    source: tuple[str, int],
    target: tuple[str, int],
    *,
    strength: float,
    method: type[Naive] | type[FixedPoint] | type[Reversible],
    sampling: Sampling,
) -> Edited:
    """`media` (t, h, w, 3) uint8, which `source` describes, made into what `target` says; each a caption and a class.

    The clip goes up to the noise time `strength` in (0, 1] under `source` alone, for guidance does not contract, and
    down under `target` as `sampling` says. Nothing is drawn at random. Raises `UserError` for a strength outside, and
    a solver that has no inverse.
    """
    if not 0 < strength <= 1:
        raise UserError(f"strength {strength:g} is no noise time: above 0 and at most 1")
    if sampling.restart is not None:
        raise UserError("edits walk straight down: leave out restarts with --set sampling.restart=None")
    inversion = method(sampling.solver)
    sampling = generator.folder.fitted(replace(generator.run, sampling=sampling)).sampling
    codec, denoiser = generator.codec, generator.denoiser
    t, h, w, _ = media.shape
    shape = codec.latent_shape(t, h, w)
    taus = sampling.grid(denoiser.process.of(shape), sampling.steps)
    matrix = plan.joint(np.concatenate([[strength], taus[taus < strength]]), shape[0])

    @jax.jit
    def run(
        codec: Codec | PixelCodec, denoiser: Denoiser, weak: Denoiser | None, media: Array, old: Any, new: Any
    ) -> tuple[Array, ...]:
        process: Process = denoiser.process
        told, wanted = denoiser.conditions.signals(old), denoiser.conditions.signals(new)
        led, wanted = guided(sampling, denoiser, weak, wanted, len(media))

        def plain(x: Array, tau: Array) -> Prediction:
            return denoiser(x, tau, told)

        latents = codec.encode(media)
        up = inversion.invert(plain, process, matrix, latents)
        again = inversion.generate(plain, process, matrix, up.state)
        changed = inversion.generate(lambda x, tau: led(x, tau, wanted), process, matrix, up.state)
        error = jnp.sqrt(((again - latents) ** 2).mean())
        return codec.decode(changed), codec.decode(again), error, up.residual

    bucket = Bucket(frames=t, height=h, width=w, batch=1)
    low = signals_of(generator.run, codec, bucket, media[None], np.zeros(1))
    old, new = (
        {name: jnp.asarray(value) for name, value in signals.items()}
        for signals in (_signals(generator, *words) | low for words in (source, target))
    )
    weak = sampling.against.load(generator.folder)
    scaled = jnp.asarray(media[None] / np.float32(127.5) - 1)
    changed, again, error, residual = run(codec, denoiser, weak, scaled, old, new)
    cut = (0, slice(t), slice(h), slice(w))
    return Edited(quantise(changed)[cut], quantise(again)[cut], float(error), float(residual[0]))


def _signals(generator: Generator, caption: str, label: int) -> dict[str, np.ndarray]:
    return conditions(generator.run, generator.folder, [caption], np.array([label], np.int32))

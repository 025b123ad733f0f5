"""Exactly tilted guidance by sequential Monte Carlo: particles walk the guided SDE, and weights say what it got wrong.

Classifier-free guidance walks by the score of p_tau^(1-w) p_tau,cond^w at every noise time, but these laws are not
what noising the tilted law gives, and its samples are of neither. In the variance-exploding coordinates y = x / alpha,
s = (sigma / alpha)^2, each p obeys the heat equation d log p / ds = (laplacian log p + |grad log p|^2) / 2, so the
guided flow misses

    d log weight = w (w - 1) / 2 |score_cond - score|^2 (-ds)                               (1)

(Skreta et al. 2025, "Feynman-Kac correctors", arXiv 2503.02819, for the guided SDE; Langevin noise changes nothing, as
it keeps the law). Scores are -epsilon / sqrt(s) and x0_cond - x0 is -sqrt(s) (epsilon_cond - epsilon), so in the share
of noise q = s / (1 + s), which is finite at both ends, the weight's equation is

    d log weight = w (w - 1) / 2 g (-dq),   g = |x0_cond - x0|^2 + (2 + 1 / s) |epsilon_cond - epsilon|^2     (2)

integrated by the trapezoidal rule, and summed over frames, each with its own s. It holds upwards too, where noise is
added: so the particles move as in Karras et al. 2022 (arXiv 2206.00364, algorithm 2), by as much new noise as a step
takes away, and then by Heun's step of the guided ODE. Each of these is of second order in the step. The reverse SDE
itself, in steps of first order, is not near enough: 80 of them lose a seventh of a Gaussian's variance.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Float, Shape, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module
from diorama.core.random import per_example, stream, uniform
from diorama.process.convert import Denoiser
from diorama.process.gaussian import Process, divide, expand
from diorama.process.noise import Brownian, White
from diorama.process.prediction import Prediction
from diorama.sample.guidance.guidance import apart, like, plus, together
from diorama.sample.sample import check


class Particles(Module):
    """What `tilted` returns: for each of b examples, n weighted clips that stand for its tilted law."""

    clips: Float[Array, "b n t h w c"]
    log_weights: Float[Array, "b n"]  # of each, relative: their exponentials sum to 1
    log_evidence: Float[Array, "b"]  # an estimate of log of the integral of p^(1-w) p_cond^w
    effective: Float[Array, "steps b"]  # 1 / (n sum of squared weights) after each step; 1/n where one has it all

    def choose(self, ids: UInt32[Array, "b"], *, seed: int) -> Float[Array, "b t h w c"]:
        """One clip an example, drawn by weight from (seed, id)."""
        keys = per_example(stream(seed, "tilted/choose"), ids)
        number = jax.vmap(jax.random.categorical)(keys, self.log_weights)
        return jax.vmap(lambda clips, i: clips[i])(self.clips, number)


def tilted(
    denoiser: Denoiser,
    process: Process,
    plan: np.ndarray,
    ids: UInt32[Array, "b"],
    shape: Shape,
    *,
    reference: Any,
    scale: Array | float,
    particles: int,
    seed: int,
    conditions: Any = None,
    given: Float[Array, "b t h w c"] | None = None,
    threshold: float = 0.5,
) -> Particles:
    """Clips of p^(1-scale) p_cond^scale for `ids` (b,), `shape` = (t, h, w, c), from `particles` of each.

    `denoiser`, `process`, `plan`, `conditions` and `given` are as for `sample`; `reference` and `scale`, a number or
    (b,), as for `Guidance`: conditions that say nothing, or a worse denoiser, whose law p then is. The denoiser sees
    2 b n examples at once, twice a step. Particles are drawn anew by their weights (systematic resampling) where fewer
    than `threshold` n of them count. That happens within an example alone: it comes out the same in any company.

    Weights spread with the number of values a clip has, as g in (2) is a sum over all: where `effective` falls to 1/n,
    the particles are too few, and the clip is but the best of n. Raises `UserError` for a plan that rises, does not
    fit or leaves [0, 1], frames that are known and not given, and coloured noise.
    """
    _check(process, plan, shape, given, particles)
    b, n, process = ids.shape[0], particles, process.of(shape)
    numbers = jnp.arange(n)

    def each(key: Array) -> Array:
        return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)

    begin = each(stream(seed, "tilted/start"))
    start = jax.vmap(lambda key: process.noise.draw(key, ids, shape), out_axes=1)(begin).reshape(b * n, *shape)
    motion = Brownian(jax.vmap(each)(per_example(stream(seed, "tilted/step"), ids)).reshape(-1), shape, process.noise)
    rows = jnp.asarray(plan, start.dtype)
    first = jnp.broadcast_to(rows[0], (b * n, shape[0]))
    known = 0.0 if given is None else jnp.where(expand(first, start.ndim) < 1, jnp.repeat(given, n, axis=0), 0.0)
    conditions = jax.tree.map(lambda c: jnp.repeat(c, n, axis=0), conditions)
    if not callable(reference):
        reference = jax.tree.map(lambda r: r if len(r) == 1 else jnp.repeat(r, n, axis=0), reference)
    w = jnp.broadcast_to(jnp.asarray(scale, start.dtype), (b,))
    each_w = expand(jnp.repeat(w, n), start.ndim)

    def share(tau: Array) -> Array:
        """q at every frame."""
        at = process.at(tau, tau.ndim)
        return at.sigma**2 / (at.alpha**2 + at.sigma**2)

    def told(x: Array, tau: Array) -> tuple[Prediction, Array]:
        """The guided pair, and g of equation (2) for every frame."""
        if callable(reference):
            strong, weak = denoiser(x, tau, conditions), reference(x, tau, conditions)
        else:
            strong, weak = together(denoiser, x, tau, conditions, like(reference, conditions))
        at, change = process.at(tau, x.ndim), apart(strong, weak)
        g = change.x0**2 + (2 + divide(at.alpha, at.sigma) ** 2) * change.epsilon**2
        return plus(strong, each_w - 1, change), g.sum((2, 3, 4))

    def step(state: tuple[Array, ...], now: tuple[Array, ...]) -> tuple[tuple[Array, ...], Array]:
        (x, g, log_weights, log_evidence), (index, *times) = state, now
        tau, tau_next = (jnp.broadcast_to(row, (b * n, shape[0])) for row in times)
        left = divide(share(tau_next) * (1 - share(tau)), share(tau) * (1 - share(tau_next)), otherwise=1.0)  # s' / s
        risen = process.tau_of_logsnr(process.logsnr(tau) - jnp.log1p(1 - left))
        tau_hat = jnp.where(tau_next < tau, jnp.clip(risen, tau, 1.0), tau)
        x = process.renoise(x, tau, tau_hat, motion.at(tau))

        here, g_hat = told(x, tau_hat)
        a, c = process.at(tau_hat, x.ndim), process.at(tau_next, x.ndim)
        moves, inside = expand(tau_next != tau, x.ndim), expand(tau_next > 0, x.ndim)
        euler = jnp.where(moves, process.add_noise(here.x0, here.epsilon, tau_next), x)
        there, g_next = told(euler, tau_next)
        bend = (c.alpha - a.alpha) * (there.x0 - here.x0) + (c.sigma - a.sigma) * (there.epsilon - here.epsilon)
        x = euler + jnp.where(moves & inside, bend / 2, 0.0)  # Heun's step; Euler's into data, where no noise is left

        up = (g + g_hat) / 2 * (share(tau) - share(tau_hat))
        down = jnp.where(tau_next > 0, (g_hat + g_next) / 2, g_hat) * (share(tau_hat) - share(tau_next))
        log_weights = log_weights + (w * (w - 1) / 2)[:, None] * (up + down).sum(1).reshape(b, n)
        total = jax.nn.logsumexp(log_weights, axis=1, keepdims=True)
        weights = jnp.exp(log_weights - total)
        effective = 1 / (n * (weights**2).sum(1))
        again = (effective < threshold)[:, None]
        mark = (uniform(stream(seed, "tilted/resample", index), ids)[:, None] + numbers) / n
        parents = jax.vmap(jnp.searchsorted)(jnp.cumsum(weights, axis=1), mark)
        parents = jnp.where(again, jnp.minimum(parents, n - 1), numbers) + n * jnp.arange(b)[:, None]
        x, g = x[parents.ravel()], g_next[parents.ravel()]
        log_evidence = log_evidence + jnp.where(again, total - np.log(n), 0.0)[:, 0]
        return (x, g, jnp.where(again, 0.0, log_weights), log_evidence), effective

    x = process.add_noise(known + jnp.zeros_like(start), start, first)
    g = jnp.zeros((b * n, shape[0]), x.dtype)  # at tau = 1 it does not count, for no noise is added there
    if ((plan[0] > 0) & (plan[0] < 1)).any():
        g = told(x, first)[1]
    begun: tuple[Array, ...] = (x, g, jnp.zeros((b, n), x.dtype), jnp.zeros(b, x.dtype))
    (x, _, log_weights, log_evidence), effective = jax.lax.scan(
        step, begun, (jnp.arange(len(rows) - 1), rows[:-1], rows[1:])
    )
    total = jax.nn.logsumexp(log_weights, axis=1)
    return Particles(x.reshape(b, n, *shape), log_weights - total[:, None], log_evidence + total - np.log(n), effective)


def _check(process: Process, plan: np.ndarray, shape: Shape, given: Array | None, particles: int) -> None:
    if (np.diff(plan, axis=0) > 0).any():
        raise UserError("particles walk a plan that never rises, and this one does")
    check(plan, shape, given)
    if not isinstance(process.noise, White):
        raise UserError("particles are weighed by differences of scores in white noise: use a process with White()")
    if particles < 1:
        raise UserError(f"particles={particles}: at least 1")

"""Rollouts: videos of any length, piece by piece, in memory that does not grow with it.

A piece is sampled as a clip is, by any solver and guidance, and sees what lies before it in one of two ways:

    Cached      keys and values of done frames (`net.memory`), for transformers that are causal in time. They are those
                that a network with all frames before it would have: while the window holds the whole video, it is the
                one that `plan.autoregressive` gives with the same noise (tests/sample/test_rollout.py).
    Recomputed  the last frames once more, clean beside the new ones: for every network that was trained with frames of
                their own noise levels (`Denoising.independent`, arXiv 2407.01392), joint ones and U-Nets too.

Noise is a function of (seed, example id, number of the frame), so a longer video begins with the shorter one, and an
id's video is the same alone and in any batch.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Float, Int, Key, Shape, UInt32
from diorama.core.errors import UserError
from diorama.core.random import per_example, stream
from diorama.diffusion import Denoiser
from diorama.net import Transformer
from diorama.net.condition import Remembering
from diorama.net.memory import Memory
from diorama.process.convert import Denoiser as Denoises
from diorama.process.convert import as_process
from diorama.process.gaussian import Process
from diorama.process.noise import Brownian, Noise
from diorama.sample.guidance import Guidance
from diorama.sample.guidance.guidance import like
from diorama.sample.plan import joint
from diorama.sample.sample import descend
from diorama.sample.solver import Solver

Asked = tuple[Any, Any]  # conditions; and what is weak: conditions too, another `Denoiser`, or None


@dataclass(frozen=True)
class Cached:
    """Past frames as keys and values. All is counted in latent frames, and in whole blocks of the network's.

    Args:
        window: how many of the last frames are seen.
        chunk: how many are made together.
        sink: how many first frames are seen for good.
        noise: the noise time at which done frames are shown; above 0, their small errors are not taken for the truth
            (Oasis; Self-Forcing, arXiv 2506.08009), and their details are not seen.
    """

    window: int = 16
    chunk: int = 1
    sink: int = 0
    noise: float = 0.0

    def __post_init__(self) -> None:
        _check(self)
        if self.sink < 0:
            raise UserError(f"{self}: a sink has at least 0 frames")

    @property
    def beside(self) -> int:
        """How many past frames lie beside new ones."""
        return 0

    def check(self, denoiser: Denoiser) -> None:
        """Raises `UserError` for a network that this is not for."""
        net = denoiser.net
        if not isinstance(net, Transformer) or not net.config.causal:
            raise UserError(
                "only a transformer that is causal in time can keep what it made of past frames: train one, with "
                "reach=(Reach(future=0),) in its recipe, or roll out with Recomputed"
            )
        sizes = (self.window, self.chunk, self.sink)
        if any(size % net.config.together for size in sizes):
            raise UserError(f"{self}: the network goes on by {net.config.together} frames, so give multiples of that")

    def begin(self, denoiser: Denoiser, x: Array, conditions: Any) -> Memory:
        """Empty, for pieces like `x` (b, chunk, h, w, c)."""
        found = jax.eval_shape(lambda: _looked(denoiser, denoiser.process, x, jnp.zeros(x.shape[:2]), conditions))
        assert isinstance(denoiser.net, Transformer)
        each = denoiser.net.config.patch[0]
        return Memory.empty(found, (self.window + self.sink) // each, self.sink // each)

    def said(self, conditions: Any, memory: Memory) -> Any:
        """Conditions with what is known of the past."""
        return Remembering(conditions, memory)

    def after(self, memory: Memory, denoiser: Denoiser, process: Process, x: Array, tau: Array, said: Any) -> Memory:
        """With done frames `x`, noised to `tau` (b, t) of `process`: one evaluation."""
        return memory.after(_looked(denoiser, process, x, tau, said))


@dataclass(frozen=True)
class Recomputed:
    """Past frames beside the new ones. The first piece is made together: of all `window + chunk` frames.

    Args:
        window: how many of the last frames are seen. A joint network knows clips of its training's length alone: with
            the chunk, they should be as many.
        chunk, noise: as of `Cached`.
    """

    window: int = 8
    chunk: int = 8
    noise: float = 0.0

    def __post_init__(self) -> None:
        _check(self)

    @property
    def beside(self) -> int:
        return self.window

    def check(self, denoiser: Denoiser) -> None:
        net = denoiser.net
        if isinstance(net, Transformer) and (self.window % net.config.together or self.chunk % net.config.together):
            raise UserError(f"{self}: the network goes on by {net.config.together} frames, so give multiples of that")

    def begin(self, denoiser: Denoiser, x: Array, conditions: Any) -> tuple[()]:
        return ()

    def said(self, conditions: Any, memory: Any) -> Any:
        return conditions

    def after(self, memory: Any, denoiser: Denoiser, process: Process, x: Array, tau: Array, said: Any) -> tuple[()]:
        return ()


Past = Cached | Recomputed


def usual(denoiser: Denoiser, frames: int) -> Past:
    """How a denoiser of clips of so many latent frames goes on: it sees nothing farther away than there.

    Raises `UserError` for one of single frames.
    """
    net = denoiser.net
    chunk = net.config.together if isinstance(net, Transformer) else 1
    if frames < 2 * chunk:
        raise UserError("a network of single frames cannot go on from them: train it on clips")
    if isinstance(net, Transformer) and net.config.causal:
        return Cached((frames - chunk) // chunk * chunk, chunk)
    piece = frames // 2 // chunk * chunk
    return Recomputed((frames - piece) // chunk * chunk, piece)


def rollout(
    denoiser: Denoiser, past: Past, solver: Solver, taus: np.ndarray, ids: UInt32[Array, "b"], shape: Shape,
    asked: Iterable[Asked], *, seed: int, guidance: Guidance | None = None, frames: int | None = None,
    given: Float[Array, "b g h w c"] | None = None,
) -> Iterator[Float[Array, "b n h w c"]]:  # fmt: skip
    """The latents of videos for `ids`, piece by piece. One program is compiled, for all of them and any length.

    Args:
        past: how pieces see what lies before them, and how long they are.
        taus: the noise times that each piece walks down, (steps + 1,).
        shape: (t, h, w, c) of clips as the denoiser was trained on; t says no more than how its noise is shifted.
        asked: for each piece its conditions and what guidance leads away from, as `Guidance` takes them, but another
            denoiser as it is; the last of them holds on. It is asked as late as can be, so it may depend on what was
            seen. Strong and weak remember each what they saw: after a change, the past is still what it was asked for.
        guidance: the rule; None asks for the conditions alone.
        frames: how many; None goes on for ever.
        given: the first frames, if they are known; the first pieces hold them as they are.

    Raises `UserError` for a network that does not go with `past`, and noise that joins frames.
    """
    denoiser = replace(denoiser, process=denoiser.process.of(shape))
    past.check(denoiser)
    if denoiser.process.noise.joins_frames:
        raise UserError(f"{denoiser.process.noise} joins the frames of a clip: a rollout takes noise with time=0")
    guidance = None if guidance is None or _is_one(guidance.scale) else guidance
    how = _How(past, solver, tuple(map(float, taus)), guidance)
    keys = tuple(stream(seed, f"rollout/{name}") for name in ("start", "step", "past"))
    size, known, begin, done = past.beside + past.chunk, 0 if given is None else given.shape[1], 0, 0
    x = jnp.zeros((len(ids), size, *shape[1:]), jnp.float32)
    memories, pairs = None, iter(asked)
    said: Asked = ({}, None)
    while frames is None or done < frames:
        said = next(pairs, said)
        conditions, reference = said[0], None if guidance is None else said[1]
        if isinstance(reference, Denoiser):
            reference = replace(reference, process=reference.process.of(shape))
            past.check(reference)
        if memories is None:
            memories = tuple(past.begin(*side) for side in _sides(denoiser, x, conditions, reference))
        fresh = np.zeros((len(ids), begin + size - done, *shape[1:]), np.float32)
        if given is not None and done < known:
            part = np.asarray(given[:, done : begin + size])
            fresh[:, : part.shape[1]] = part
        context = jnp.concatenate([x[:, size - (done - begin) :], fresh], axis=1)
        held = begin + np.arange(size) < max(done, known)
        x, memories = _piece(how, denoiser, conditions, reference, memories, ids, keys, np.int32(begin), context, held)
        yield x[:, done - begin :][:, : None if frames is None else frames - done]
        begin, done = begin + size - past.beside, begin + size


@dataclass(frozen=True)
class _How:
    """What a program depends on beside arrays."""

    past: Past
    solver: Solver
    taus: tuple[float, ...]
    guidance: Guidance | None


@partial(jax.jit, static_argnames="how", donate_argnames="memories")
def _piece(
    how: _How, denoiser: Denoiser, conditions: Any, reference: Any, memories: tuple[Any, ...], ids: Array,
    keys: tuple[Key, ...], begin: Int[Array, ""], context: Float[Array, "b t h w c"], held: Array,
) -> tuple[Float[Array, "b t h w c"], tuple[Any, ...]]:  # fmt: skip
    """Frames `begin` and later, those that are `held` (t,) as `context` has them; and memories with them."""
    process, past, shape = denoiser.process, how.past, context.shape[1:]
    wide = held[:, None, None, None]
    start, again = (per_frame(process.noise, key, ids, begin, shape) for key in (keys[0], keys[2]))
    motion = Brownian(per_example(keys[1], ids), shape, process.noise, first=begin)
    plan = joint(np.asarray(how.taus), shape[0])
    taus = jnp.where(held, past.noise, plan.astype(np.float32))[:, None].repeat(len(ids), axis=1)
    sides = _sides(denoiser, context, conditions, reference)
    said = [past.said(c, memory) for (_, _, c), memory in zip(sides, memories, strict=True)]
    ask: Denoises = denoiser
    if how.guidance is not None and reference is not None:
        weak = _remembering(reference, said[1], process) if isinstance(reference, Denoiser) else said[1]
        ask = how.guidance(denoiser, process, weak)
    begun = jnp.where(wide, again, start)
    x, _ = descend(ask, process, how.solver, plan, taus, begun, motion, said[0], context)
    x = jnp.where(wide, context, x)
    tau = jnp.full(context.shape[:2], past.noise, jnp.float32)
    shown = process.add_noise(x, again, tau)
    return x, tuple(
        past.after(memory, model, process, shown, tau, each)
        for memory, (model, _, _), each in zip(memories, sides, said, strict=True)
    )


def per_frame(noise: Noise, key: Key, ids: UInt32[Array, "b"], begin: Int[Array, ""] | int, shape: Shape) -> Array:
    """epsilon (b, *shape) of frames `begin` and later, each a function of the example's id and its own number."""
    numbers = begin + jnp.arange(shape[0])
    each = jax.vmap(lambda own: jax.vmap(lambda n: jax.random.normal(jax.random.fold_in(own, n), shape[1:]))(numbers))
    return noise.colour(each(per_example(key, ids)))


def _sides(denoiser: Denoiser, x: Array, conditions: Any, reference: Any) -> list[tuple[Denoiser, Array, Any]]:
    """Who is asked, and for what: the denoiser, and what guidance leads away from, if anything."""
    sides = [(denoiser, x, conditions)]
    if isinstance(reference, Denoiser):
        sides.append((reference, x, conditions))
    elif reference is not None:
        sides.append((denoiser, x, like(reference, conditions)))
    return sides


def _remembering(weak: Denoiser, said: Any, process: Process) -> Denoises:
    """Another denoiser, with its own memory in place of the strong one's."""
    return as_process(lambda x, tau, _: weak(x, tau, said), weak.process, process)


def _looked(denoiser: Denoiser, process: Process, x: Array, tau: Array, said: Any) -> dict[str, Any]:
    """What the network computes on its way, asked at `tau` of `process`."""
    found: dict[str, Any] = {}

    def look(x: Array, tau: Array, said: Any) -> Any:
        pair, output = denoiser.look(x, tau, said)
        found.update(output.intermediates)
        return pair

    as_process(look, denoiser.process, process)(x, tau, said)
    return found


def _is_one(scale: Any) -> bool:
    return isinstance(scale, int | float) and scale == 1


def _check(past: Past) -> None:
    if min(past.chunk, past.window) < 1 or not 0 <= past.noise < 1:
        raise UserError(f"{past}: a chunk and a window have at least one frame each, and noise is in [0, 1)")

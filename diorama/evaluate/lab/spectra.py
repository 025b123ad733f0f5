"""Pictures and videos with an exact score: spectra of samples of Gaussian random fields, and their Fréchet distance.

Power is averaged over rings of frequencies and then over octaves. `against law` has the scatter of so many samples in
it; `against map` compares with where the exact ODE takes the same noise, which leaves the solver's error alone.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.evaluate.frechet import Moments, frechet_distance
from diorama.evaluate.lab.march import marcher
from diorama.evaluate.lab.march import rows as expanded
from diorama.evaluate.lab.row import Row
from diorama.evaluate.truth import Field
from diorama.process import EDM, Process, RectifiedFlow, rapsd
from diorama.process.spectrum import radius
from diorama.sample import DPMSolver, Solver, grid
from diorama.sample.solver.unipc import UniPC

PICTURES = Field((1, 64, 64, 3), space=2.0)
VIDEOS = Field((16, 32, 32, 3), space=2.0, time=1.0)
FLOORS = 4  # pairs of sets of exact draws


def rows(quick: bool, process: Process, solvers: Sequence[Solver]) -> list[Row]:
    """Two solvers of few evaluations on pictures and on videos, and a process that ends in too little noise."""
    flow, unipc, third = RectifiedFlow(), UniPC(3), DPMSolver(3)
    cases = [
        ("pictures", PICTURES, flow, unipc, 20, 1024, 64), ("pictures", PICTURES, flow, third, 30, 1024, 64),
        ("pictures, EDM to σ = 80", PICTURES, EDM(), unipc, 20, 1024, 64),
        ("videos", VIDEOS, flow, unipc, 20, 512, 16), ("videos", VIDEOS, flow, third, 30, 512, 16),
    ]  # fmt: skip
    return [
        Row("spectra", f"{name}, {solver}, {steps} steps", (n // 8 if quick else n, law, steps, walked),
            (solver, walked, law), partial(measure, law, solver, walked, steps, n // 8 if quick else n, batch))
        for name, law, walked, solver, steps, n, batch in cases
    ]  # fmt: skip


def measure(law: Field, solver: Solver, process: Process, steps: int, n: int, batch: int) -> dict[str, Any]:
    """Power by octave over the truth, and the distance beside that of exact draws from each other.

    The largest waves of such data have a deviation of 11, so that the grid begins at sigma = 500 or the process's end.
    """
    taus = grid.LogSNR(sigma_min=0.02, sigma_max=500.0)(process, steps)
    walk = marcher(solver, process, law.denoiser(process))
    start = float(process.sigma(jnp.ones(())))
    powers, mapped, features = [], [], []
    for part in range(n // batch):
        x = jax.random.normal(jax.random.fold_in(jax.random.key(4), part), (batch, *law.shape)) * start
        ids = jnp.arange(part * batch, (part + 1) * batch, dtype=jnp.uint32)
        seen = look(walk(x, expanded(taus, x), ids))
        powers.append(seen[0])
        features.append(seen[1])
        mapped.append(look(exact_map(law, process, x))[0])
    power, exact = (np.concatenate(part).astype(np.float64) for part in (powers, mapped))
    own, truth = Moments.of(np.concatenate(features)), ring_power(law)
    sets = exact_sets(law, n, batch)
    floors = [frechet_distance(a, b) for a, b in zip(sets[::2], sets[1::2], strict=True)]
    by_clip = octaves(power) / octaves(truth)
    return {
        "n": n, "shape": list(law.shape), "octaves": [f"{2**i}–{2 ** (i + 1)}" for i in range(by_clip.shape[1])],
        "against law": by_clip.mean(0).tolist(), "width": (1.96 * by_clip.std(0) / np.sqrt(n)).tolist(),
        "against map": (octaves(power).mean(0) / octaves(exact).mean(0)).tolist(),
        "distance": float(np.mean([frechet_distance(own, one) for one in sets])), "features": int(own.mean.size),
        "floor": float(np.mean(floors)), "floors": floors, "spectrum": power.mean(0).tolist(), "law": truth.tolist(),
    }  # fmt: skip


@jax.jit
def look(x: Array) -> tuple[Array, Array]:
    """The spectrum of each clip (b, k), and what the distance sees of it (b, features)."""
    return rapsd(x).mean((1, 3)), coarse(x)


@partial(jax.jit, static_argnums=(0, 1))
def exact_map(law: Field, process: Process, x: Array) -> Array:
    """Where the ODE takes pure noise."""
    return law.flow(process, x, 1.0, 0.0)


@cache
def exact_sets(law: Field, n: int, batch: int) -> list[Moments]:
    """What the distance sees of sets of n exact draws."""
    draw = jax.jit(lambda key: coarse(law.draw(key, batch)))
    keys = jax.random.split(jax.random.key(5), (2 * FLOORS, n // batch))
    return [Moments.of(np.concatenate([draw(key) for key in row])) for row in keys]


def coarse(x: Array) -> Array:
    """What the distance sees: means of 4 x 4 parts of the first, the middle and the last frame; (b, features)."""
    b, t, h, w, c = x.shape
    frames = x[:, sorted({0, t // 2, t - 1})]
    return frames.reshape(b, -1, 4, h // 4, 4, w // 4, c).mean((3, 5)).reshape(b, -1)


def ring_power(law: Field) -> np.ndarray:
    """What `rapsd` finds of the law on average; the power of a frame is the mean over frequencies in time."""
    _, h, w, _ = law.shape
    power, ring = law.power[..., 0].mean(0), np.rint(radius(h, w)).astype(int)
    return np.asarray([power[ring == k].mean() for k in range(1, min(h, w) // 2 + 1)])


def octaves(power: np.ndarray) -> np.ndarray:
    """Sums over rings 1, 2-3, 4-7 ... of spectra (..., k), the last with the highest frequency: (..., octaves)."""
    edges = [2**i - 1 for i in range(int(np.log2(power.shape[-1])))]
    return np.add.reduceat(power, edges, axis=-1)

"""Tuning a run: the solver and noise times that suit its own guided denoiser best, kept beside it in `tuned.json`.

tuned.json holds, by the shape of clips and by what would make it stale (the denoiser's weights and its guidance), what
was found for each number of evaluations: the choice as text, its error and that of the best fixed choices.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.core.config import parse, to_text
from diorama.core.files import hash_bytes, hash_file, write_text
from diorama.core.progress import progress
from diorama.core.random import stream
from diorama.diffusion import Denoiser
from diorama.run.against import guided
from diorama.run.examples import conditions, media_of, some, sources
from diorama.run.folder import Folder
from diorama.run.generate import Generator
from diorama.run.look import in_parts
from diorama.run.resolution import signals_of
from diorama.run.run import Bucket, Sampling
from diorama.sample import AnySolver, Heun
from diorama.sample.grid import Fitted, LogSNR, Uniform
from diorama.sample.solver.rk4 import RK4
from diorama.sample.tune import Examples, Row, Tuned, descend, tune

REFERENCE = 64  # steps of RK4, four evaluations each, that stand for the exact ODE
SHOWN = 8  # fixed choices that are written down


@dataclass(frozen=True)
class Choice:
    """What was found, to be written as text."""

    solver: AnySolver
    grid: Fitted
    steps: int


def tune_run(
    folder: Folder, bucket: Bucket, how: Sampling, evaluations: list[int], *, examples: int = 64, quiet: bool = False
) -> Iterator[dict[str, Any]]:
    """Tune a trained run for clips of `bucket`, guided as `how` says, for each of these numbers of evaluations.

    Solvers are tried on as many training prompts as `examples` says and judged on as many others, on noise of fixed
    ids. Yields what is kept of each (see `note`), written before the next is begun; what is there already is not done
    again. Raises `UserError` when the run is not trained or its catalogue is gone.
    """
    path, kept = folder.path / "tuned.json", _read(folder)
    found = kept.setdefault(str(bucket), {}).setdefault(key(folder, how), {})
    missing = [n for n in evaluations if found.get(str(n), {}).get("n") != examples]
    if missing:
        generator = Generator.load(folder.path)
        fit, judge, doubt = _problem(generator, bucket, how, examples, quiet)
    for n in dict.fromkeys(evaluations):
        if n in missing:
            process = generator.denoiser.process.of(_shape(generator, bucket))
            with progress(1000, f"tuning for {n}", "‰", show=not quiet) as bar:
                tuned = tune(fit, judge, process, n, advance=_shown(bar))
            found[str(n)] = note(tuned) | {"n": examples, "reference": doubt}
            write_text(path, json.dumps(kept, indent=1) + "\n")
        yield found[str(n)]


def _shown(bar: Any) -> Callable[[float, str], None]:
    def advance(share: float, error: str) -> None:
        bar.advance(1000 * share)
        bar.note(f"error {error}")

    return advance


def key(folder: Folder, how: Sampling) -> str:
    """What a choice is good for: the denoiser's weights, and all of `how` that is neither the way nor beside it."""
    rest = replace(how, solver=Heun(), grid=Uniform(), steps=1, restart=None, batch=1, rate=1.0)
    weights = [hash_file(path) for path in folder.drawn_by(how) if path.name == "denoiser.safetensors"]
    return hash_bytes("\n".join([*weights, to_text(rest)]).encode(), 8)


def note(tuned: Tuned) -> dict[str, Any]:
    """What is kept: the choice as `choice`, with `error` and its interval `low` to `high` on new prompts and noise, the
    `ratio` to the fixed choice that turned out best there with its interval, and those choices as `fixed`; as `grid`
    the fixed grid that stood where fitted times did not hold, or "fitted"."""
    best = tuned.best
    choice = to_text(Choice(best.solver, best.grid, best.steps))  # type: ignore[arg-type]
    fixed = [_row(row) | {"grid": str(row.grid)} for row in tuned.fixed[:SHOWN]]
    return {
        "choice": choice,
        "ratio": list(tuned.ratio),
        **_row(best),
        "grid": str(tuned.fallback or "fitted"),
        "fixed": fixed,
    }


def _row(row: Row) -> dict[str, Any]:
    figures = {name: getattr(row, name) for name in ("steps", "evaluations", "error", "low", "high")}
    return {"solver": str(row.solver), **figures}


def tuned(
    folder: Folder, bucket: Bucket, how: Sampling, evaluations: int | None = None, steps: int | None = None
) -> Sampling | None:
    """`how` with what was tuned for at most so many `evaluations`, or in so many `steps`; None where nothing was.

    What was tuned for other weights or another guidance does not count.
    """
    found = _read(folder).get(str(bucket), {}).get(key(folder, how), {})
    fitting = [
        one
        for n, one in found.items()
        if (evaluations is None or int(n) <= evaluations) and steps in (None, one["steps"])
    ]
    if not fitting:
        return None
    choice = parse(min(fitting, key=lambda one: one["error"])["choice"], Choice, fill=True)
    return replace(how, solver=choice.solver, grid=choice.grid, steps=choice.steps, restart=None)


def budgets(folder: Folder, bucket: Bucket, how: Sampling) -> list[int]:
    """For which numbers of evaluations `tuned` has something, ascending."""
    return sorted(map(int, _read(folder).get(str(bucket), {}).get(key(folder, how), {})))


def stale(folder: Folder, bucket: Bucket, how: Sampling) -> bool:
    """Whether clips of this shape were tuned, though for other weights or another guidance."""
    found = _read(folder).get(str(bucket), {})
    return bool(found) and key(folder, how) not in found


def _read(folder: Folder) -> dict[str, dict[str, dict[str, Any]]]:
    path: Path = folder.path / "tuned.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _shape(generator: Generator, bucket: Bucket) -> tuple[int, ...]:
    return generator.codec.latent_shape(bucket.frames, bucket.height, bucket.width)


def _problem(
    generator: Generator, bucket: Bucket, how: Sampling, n: int, quiet: bool
) -> tuple[Examples, Examples, float]:
    """The examples to fit and those to judge by, and how far the reference of the latter is from one of half as many
    steps: it is much nearer to the exact ODE than that."""
    run, folder, denoiser = generator.run, generator.folder, generator.denoiser
    source, shape = dict(sources(folder.catalogue(), run.denoiser.buckets))[bucket], _shape(generator, bucket)
    rows = np.resize(some(len(source), 2 * n, run.seed), 2 * n)
    batch = conditions(run, folder, [source.captions[i] for i in rows], source.labels[rows])
    if run.denoiser.denoiser.low:
        batch |= signals_of(run, generator.codec, bucket, media_of(source, rows), np.arange(2 * n))
    process, weak = denoiser.process.of(shape), how.against.load(folder)
    epsilon = process.noise.draw(stream(run.seed, "tune"), jnp.arange(2 * n, dtype=jnp.uint32), shape)
    x = np.asarray(process.sigma(jnp.ones(())) * epsilon)

    @cache
    def program(solver: AnySolver) -> Any:
        return jax.jit(partial(_descend, solver=solver, how=how))

    def ends(solver: Any, taus: np.ndarray, part: int) -> np.ndarray:
        padded = np.pad(taus, (0, REFERENCE + 1 - len(taus))).astype(np.float32)
        mine = jax.tree.map(lambda a: a[part::2], (x, batch))
        return in_parts(lambda x, batch: program(solver)(denoiser, weak, x, batch, padded, len(taus) - 1),
                        min(how.batch, n), *mine)  # fmt: skip

    with progress(5, "reference", "parts", show=not quiet) as bar:
        truths = []
        for part in range(2):
            truths.append(ends(RK4(), LogSNR()(process, REFERENCE), part))
            bar.advance(2)
        near = ends(RK4(), LogSNR()(process, REFERENCE // 2), 1)
        bar.advance(1)
    fit, judge = (Examples(partial(_ends, ends, part), truths[part]) for part in range(2))
    return fit, judge, float(np.sqrt(((near - truths[1]) ** 2).mean()))


def _ends(ends: Callable[..., np.ndarray], part: int, solver: Any, taus: np.ndarray) -> np.ndarray:
    return ends(solver, taus, part)


def _descend(
    denoiser: Denoiser, weak: Denoiser | None, x: Array, batch: dict[str, Array], taus: Array, steps: int,
    solver: AnySolver, how: Sampling,
) -> Array:  # fmt: skip
    denoises, signals = guided(how, denoiser, weak, denoiser.conditions.signals(batch), len(x))
    return descend(solver, denoiser.process.of(x.shape[1:]), lambda x, tau: denoises(x, tau, signals), x, taus, steps)

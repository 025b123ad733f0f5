"""Models out of a run's folder: the parameters, an average that was kept, or one of another width."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from diorama.core.errors import UserError
from diorama.core.layout import Layout
from diorama.core.module import paths
from diorama.core.random import stream
from diorama.train import ema
from diorama.train.checkpoint import (
    CHECKPOINTS,
    SNAPSHOTS,
    abstract,
    check_shapes,
    progress_of,
    reader,
    rebuild,
    steps_of,
)


def load_model(
    folder: Path | str, init: Callable[[Any], Any], which: str | None = None, layout: Layout | None = None
) -> Any:
    """A model from the newest checkpoint of a run's folder.

    Args:
        folder: what was given to `train`.
        init: what was given to `train`; says the structure and is not computed.
        which: "model" for the parameters as they are, or "ema0", "ema1", ... for the averages; the first average if
            None, or the parameters where no average is kept.
        layout: where the arrays go; one device if None.

    Raises:
        UserError: there is no checkpoint, no such average, or the checkpoint is of another model.
    """
    steps = steps_of(Path(folder) / CHECKPOINTS)
    if not steps:
        raise UserError(f"{folder} holds no checkpoint: train first")
    newest = Path(folder).resolve() / CHECKPOINTS / str(max(steps))
    return _load(newest, init, which or ("ema0" if progress_of(newest)["ema_std"] else "model"), layout)


def reconstruct(
    folder: Path | str, init: Callable[[Any], Any], std: float, examples: int | None = None,
    layout: Layout | None = None,
) -> Any:  # fmt: skip
    """The model averaged with a width that was not kept, from the snapshots of a run (EDM2, section 3.2).

    Args:
        folder, init, layout: as for `load_model`.
        std: the width wanted.
        examples: the moment the average looks back from; the newest snapshot if None.

    Raises:
        UserError: the run kept no snapshots (`train.snapshot_every`), or none up to `examples`.
    """
    steps = steps_of(Path(folder) / SNAPSHOTS)
    examples = examples or max(steps, default=0)
    stored = [
        (step, i, width)
        for step in sorted(steps)
        if step <= examples
        for i, width in enumerate(progress_of(Path(folder) / SNAPSHOTS / str(step))["ema_std"])
    ]
    if not stored:
        until = f" up to {examples:,} examples" if examples else ""
        raise UserError(
            f"{folder} holds no snapshots{until}: train with some, such as --set denoiser.train.snapshot_every=10000"
        )
    weights = ema.combination([(step, width) for step, _, width in stored], examples, std)
    total: Any = None
    for (step, i, _), weight in zip(stored, weights, strict=True):
        model = _load(Path(folder).resolve() / SNAPSHOTS / str(step), init, f"ema{i}", layout)
        part = jax.tree.map(lambda x, w=float(weight): x * w if jnp.issubdtype(x.dtype, jnp.floating) else x, model)
        total = part if total is None else jax.tree.map(_add_floats, total, part)
    return total


def _add_floats(a: Any, b: Any) -> Any:
    return a + b if jnp.issubdtype(a.dtype, jnp.floating) else b


def _load(checkpoint: Path, init: Callable[[Any], Any], which: str, layout: Layout | None) -> Any:
    if not (checkpoint / which).is_dir():
        have = sorted(p.name for p in checkpoint.iterdir() if p.name == "model" or p.name.startswith("ema"))
        raise UserError(f"{checkpoint} holds no '{which}': choose one of {', '.join(have)}")
    like = abstract(jax.eval_shape(init, stream(0, "init")), layout or Layout())
    check_shapes(checkpoint / which, paths(like))
    arrays = reader().restore(checkpoint / which, args=ocp.args.StandardRestore(paths(like)))
    return rebuild(like, arrays)

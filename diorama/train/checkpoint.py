"""Checkpoints (Orbax): written aside while training goes on, renamed into place when whole; the last few are kept.

    checkpoints/<examples>/   model, ema0, ema1, ..., optimizer: arrays by path;  progress: JSON
    snapshots/<examples>/     ema0, ema1, ..., progress: kept for good, for averages of other widths

`progress` holds the widths of the averages, the running means not yet logged, and the position in the data of every
process. A checkpoint that a kill left half written has a temporary name and is removed at the next start.
"""

import json
import shutil
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from diorama.core.errors import UserError
from diorama.core.layout import Layout
from diorama.core.module import paths
from diorama.core.random import stream
from diorama.train import ema
from diorama.train.state import State, Tally, Train

CHECKPOINTS, SNAPSHOTS = "checkpoints", "snapshots"


class Restored(NamedTuple):
    """What a run goes on from: the state, its examples, the means not yet logged, the position in the data."""

    state: State
    examples: int
    tally: dict[str, Any]
    position: Any


class Checkpoints:
    """The checkpoints of one run folder. Close it: the last save may still be on its way to the disk."""

    def __init__(self, folder: Path | str, config: Train):
        self.folder, self._stds = Path(folder).resolve(), list(config.ema_std)
        self._checkpoints = _manager(self.folder / CHECKPOINTS, config.keep)

    @cached_property
    def _snapshots(self) -> ocp.CheckpointManager:
        return _manager(self.folder / SNAPSHOTS, None)

    def save(self, state: State, examples: int, tally: Tally, position: Any) -> None:
        """Save all of a run at `examples`; returns when the arrays are copied, and writes in the background."""
        if examples in self._checkpoints.all_steps():
            return
        progress = {
            "examples": examples,
            "tally": {"sums": _floats(tally.sums), "weights": _floats(tally.weights)},
            "ema_std": self._stds,
            "data": _of_all_processes(position),
        }
        items = {name: ocp.args.StandardSave(paths(tree)) for name, tree in _items(state).items()}
        items["progress"] = ocp.args.JsonSave(progress)
        self._checkpoints.save(examples, args=ocp.args.Composite(**items))

    def snapshot(self, state: State, examples: int) -> None:
        """Keep the averages at `examples` for good."""
        items = {f"ema{i}": ocp.args.StandardSave(paths(e)) for i, e in enumerate(state.ema)}
        items["progress"] = ocp.args.JsonSave({"ema_std": self._stds})
        self._snapshots.save(examples, args=ocp.args.Composite(**items))

    def restore(self, like: State) -> Restored | None:
        """The newest checkpoint that can be read, laid out as `like` (abstract, with shardings); None if there is none.

        A newer one whose files are damaged is set aside as `<examples>.damaged`, which standard error is told; what
        fails for another reason (memory, permissions) is raised and everything stays. Snapshots that are newer than
        what is restored are removed: the run will make them again.
        Raises `UserError` when the checkpoints are of another model or optimiser.
        """
        restored = None
        for step in sorted(self._checkpoints.all_steps(), reverse=True):
            try:
                restored = self._read(step, like)
                break
            except UserError:
                raise
            except Exception as error:  # Orbax and TensorStore raise many kinds for damaged files
                damage = _damage(error)
                if damage is None:
                    raise
                if jax.process_index() == 0:
                    broken = self.folder / CHECKPOINTS / str(step)
                    aside = broken.with_name(f"{step}.damaged")
                    shutil.rmtree(aside, ignore_errors=True)  # of an earlier time
                    broken.rename(aside)
                    say = f"diorama: checkpoint {step} of {self.folder} is damaged and set aside: {damage}"
                    print(say, file=sys.stderr, flush=True)  # no warning: the command line filters those
        self._checkpoints.reload()
        for step in _steps(self.folder / SNAPSHOTS):
            if step > (restored.examples if restored else 0):
                self._snapshots.delete(step)
        return restored

    def _read(self, step: int, like: State) -> Restored:
        progress = _progress(self.folder / CHECKPOINTS / str(step))
        if progress["ema_std"] != self._stds:
            raise UserError(
                f"{self.folder} holds averages of width {progress['ema_std']} and train.ema_std is {self._stds}: "
                "keep train.ema_std as it was, or use another folder"
            )
        items = _items(like)
        for name, tree in items.items():
            _check_shapes(self.folder / CHECKPOINTS / str(step) / name, paths(tree))
        args = {name: ocp.args.StandardRestore(paths(tree)) for name, tree in items.items()}
        arrays = self._checkpoints.restore(step, args=ocp.args.Composite(**args))
        got = {name: _rebuild(tree, arrays[name]) for name, tree in items.items()}
        averages = tuple(got[f"ema{i}"] for i in range(len(like.ema)))
        state = State(got["counters"]["step"], got["counters"]["examples"], got["model"], got["optimizer"], averages)
        position = json.loads(progress["data"][jax.process_index()])
        return Restored(state, progress["examples"], progress["tally"], position)

    def _managers(self) -> list[ocp.CheckpointManager]:
        return [self._checkpoints, *([self._snapshots] if "_snapshots" in vars(self) else [])]

    def wait(self) -> None:
        """Wait until everything is on the disk."""
        for manager in self._managers():
            manager.wait_until_finished()

    def close(self) -> None:
        """Wait until everything is on the disk, and save no more."""
        for manager in self._managers():
            manager.close()


def examples_done(folder: Path | str) -> int:
    """The training examples of the newest checkpoint in a run's folder; 0 if there is none."""
    return max(_steps(Path(folder) / CHECKPOINTS), default=0)


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
    steps = _steps(Path(folder) / CHECKPOINTS)
    if not steps:
        raise UserError(f"{folder} holds no checkpoint: train first")
    newest = Path(folder).resolve() / CHECKPOINTS / str(max(steps))
    return _load(newest, init, which or ("ema0" if _progress(newest)["ema_std"] else "model"), layout)


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
    steps = _steps(Path(folder) / SNAPSHOTS)
    examples = examples or max(steps, default=0)
    stored = [
        (step, i, width)
        for step in sorted(steps)
        if step <= examples
        for i, width in enumerate(_progress(Path(folder) / SNAPSHOTS / str(step))["ema_std"])
    ]
    if not stored:
        raise UserError(f"{folder} holds no snapshots up to {examples} examples: train with train.snapshot_every set")
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
    _check_shapes(checkpoint / which, paths(like))
    arrays = _reader().restore(checkpoint / which, args=ocp.args.StandardRestore(paths(like)))
    return _rebuild(like, arrays)


def abstract(tree: Any, layout: Layout) -> Any:
    """Shapes, dtypes and shardings of a tree of (abstract) arrays."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, layout.shardings(tree))


def _items(state: State) -> dict[str, Any]:
    counters = {"step": state.step, "examples": state.examples}
    averages = {f"ema{i}": average for i, average in enumerate(state.ema)}
    return {"model": state.model, **averages, "optimizer": state.optimizer, "counters": counters}


def _rebuild(like: Any, arrays: dict[str, Any]) -> Any:
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[path] for path in paths(like)])


def _reader() -> ocp.StandardCheckpointHandler:
    """The layer below `Checkpointer`, which would warn of every item that is not asked for."""
    return ocp.StandardCheckpointHandler()


def _progress(checkpoint: Path) -> dict[str, Any]:
    return ocp.JsonCheckpointHandler().restore(checkpoint.resolve() / "progress")


def _check_shapes(item: Path, want: dict[str, Any]) -> None:
    stored = {path: list(meta.shape) for path, meta in _reader().metadata(item).items()}
    for path in [*want, *stored]:
        have, need = stored.get(path), list(want[path].shape) if path in want else None
        if have != need:
            kind = item.name if item.name == "optimizer" else "model"
            raise UserError(
                f"{item.parent} is of another {kind}: '{path}' is {have} there and {need} in this configuration: "
                "use the configuration and libraries that it was trained with, or another folder"
            )


def _damage(error: BaseException) -> str | None:
    """What is wrong with a checkpoint's files: missing, cut short, or not what was written.

    None where they are not at fault but the machine is (out of memory, no permission, too many open files): a good
    checkpoint must not be lost to that.
    """
    while error.__cause__:  # Orbax wraps what TensorStore says of an array
        error = error.__cause__
    text = str(error)
    by_tensorstore = isinstance(error, ValueError) and ("Error reading" in text or "Error opening" in text)
    if by_tensorstore:  # it notes where the system refused, of which only a file that is not there is damage
        damaged = text.startswith("NOT_FOUND") or "os_error_code" not in text
    else:
        damaged = isinstance(error, FileNotFoundError | json.JSONDecodeError | UnicodeDecodeError)
    return text.partition(" [tensorstore_spec")[0] if damaged else None


def _floats(tree: dict[str, Any]) -> dict[str, float]:
    return {name: float(x) for name, x in tree.items()}


def _of_all_processes(position: Any) -> list[str]:
    """The position of every process, as JSON: hosts read different files."""
    text = json.dumps(position)
    if jax.process_count() == 1:
        return [text]
    raw = np.frombuffer(text.encode(), np.uint8)
    longest = int(multihost_utils.process_allgather(np.array(raw.size)).max())
    padded = multihost_utils.process_allgather(np.pad(raw, (0, longest - raw.size), constant_values=ord(" ")))
    return [bytes(row).decode() for row in np.asarray(padded)]


def _steps(folder: Path) -> list[int]:
    return [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []


def _manager(folder: Path, keep: int | None) -> ocp.CheckpointManager:
    policy = ocp.checkpoint_managers.LatestN(keep) if keep else None
    options = ocp.CheckpointManagerOptions(
        cleanup_tmp_directories=True, preservation_policy=policy,
        # Processes meet at barriers by name; without names of its own, one manager's saves wait for the other's.
        multiprocessing_options=ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=folder.name),
    )  # fmt: skip
    return ocp.CheckpointManager(folder, options=options)

"""Checkpoints (Orbax): written aside while training goes on, renamed into place when whole; the last few are kept.

    checkpoints/<examples>/   model, ema0, ema1, ..., optimizer: arrays by path;  progress: JSON
    snapshots/<examples>/     ema0, ema1, ..., progress: kept for good, for averages of other widths

`progress` holds the widths of the averages, the running means not yet logged, the position in the data of every
process, how often the run went back (`train.guard`), and the sums of the arrays' bits (`train.verify`). A checkpoint
that a kill left half written has a temporary name, and one that it left half removed lies in `removed/`: both go at the
next start.

Each is read back as soon as it is written, aside, and its sums are compared with those that were computed where the
arrays lay. A bad one is set aside, and older ones are removed only when a newer one was found good. What is restored is
compared again: disks forget.
"""

import json
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from diorama.core.errors import UserError
from diorama.core.layout import Layout
from diorama.core.module import paths
from diorama.train import verify
from diorama.train.state import State, Tally, Train

CHECKPOINTS, SNAPSHOTS, REMOVED = "checkpoints", "snapshots", "removed"


class Restored(NamedTuple):
    """What a run goes on from: the state, its examples, the means not yet logged, the position in the data, and how
    often it had gone back."""

    state: State
    examples: int
    tally: dict[str, Any]
    position: Any
    events: int


class Checkpoints:
    """The checkpoints of one run folder. Close it: the last save may still be on its way to the disk."""

    def __init__(self, folder: Path | str, config: Train):
        self.folder, self._config, self._stds = Path(folder).resolve(), config, list(config.ema_std)
        self._checkpoints = _manager(self.folder / CHECKPOINTS)
        self._reader = ThreadPoolExecutor(1, "verify")
        self._writing: tuple[int, Future[str | None]] | None = None

    @cached_property
    def _snapshots(self) -> ocp.CheckpointManager:
        return _manager(self.folder / SNAPSHOTS)

    def save(
        self, state: State, examples: int, tally: Tally, position: Any, *, due: bool = True, events: int = 0
    ) -> None:
        """Save all of a run at `examples`; returns when the arrays are copied, and writes in the background.

        due: whether its time had come; False where the run was told to stop, or ends. events: how often the run has
        gone back so far.
        """
        self._settle()
        if examples in self._checkpoints.all_steps():
            return
        items = {name: paths(tree) for name, tree in _items(state).items()}
        sums = {name: verify.sums(arrays) for name, arrays in items.items()}
        totals, weights = jax.device_get((tally.sums, tally.weights))
        progress = {
            "examples": examples,
            "step": int(jax.device_get(state.step)),
            "due": due,
            "tally": {"sums": _floats(totals), "weights": _floats(weights)}
            | ({"watch": tally.watch.saved()} if tally.watch else {}),
            "ema_std": self._stds,
            "data": _of_all_processes(position),
            "events": events,
            "sums": sums,
        }
        parts = {name: ocp.args.StandardSave(arrays) for name, arrays in items.items()}
        parts["progress"] = ocp.args.JsonSave(progress)
        self._checkpoints.save(examples, args=ocp.args.Composite(**parts))
        self._writing = examples, self._reader.submit(self._verify, examples, sums)

    def _verify(self, examples: int, sums: dict[str, verify.Sums]) -> str | None:
        """What is wrong with a checkpoint once it is written; None if it is good, or kept unread."""
        self._checkpoints.wait_until_finished()
        for last in (False, True):
            try:
                return verify.read_back(self.folder / CHECKPOINTS / str(examples), sums)
            except Exception as error:  # Orbax and TensorStore raise many kinds for damaged files
                if damage := _damage(error):
                    return damage
                if last:  # the machine is at fault
                    _say(f"checkpoint {examples} of {self.folder} is kept, and could not be read back: {error!r}")
        return None

    def _settle(self) -> bool:
        """Wait for the last save and what was read back of it; set a bad one aside, else remove what is not kept.

        Returns whether it was good.
        """
        if self._writing is None:
            return True
        (examples, wrong), self._writing = (self._writing[0], self._writing[1].result()), None
        bad = np.array(wrong is not None)
        if multihost_utils.process_allgather(bad).any() if jax.process_count() > 1 else bad:
            self._set_aside(examples, wrong or "another process cannot read it back")
            self._checkpoints.reload()
            return False
        _remove(self._checkpoints, sorted(set(self._checkpoints.all_steps()) - self._kept()))
        return True

    def _kept(self) -> set[int]:
        """The newest of all, the last few whose time had come, the first from each multiple of `keep_every` on, and the
        last from before what may turn out to be a spike."""
        found, every = self._found(), self._config.keep_every
        steps, due = sorted(found), [n for n in sorted(found) if found[n].get("due", True)]
        watch = found[steps[-1]]["tally"].get("watch") if steps else None
        before = _by(found, found[steps[-1]]["step"] - max(watch["above"])) if watch else []
        kept = {*steps[-1:], *due[-self._config.keep :], *before[-1:]}
        firsts = {step // every: step for step in reversed(steps) if step >= every} if every else {}
        return kept | set(firsts.values())

    def roll_back(self, step: int) -> tuple[int, int]:
        """Remove all that came after optimiser step `step`, and what was not saved at its time: a run that was stopped
        goes back to the same place as one that never was.

        Returns the examples and the steps of the checkpoint that is now the newest; (0, 0) where none was saved at its
        time so far. Raises `UserError`, and removes nothing, where some were and none is from before that step.
        """
        self._settle()
        found = self._found()
        good = _by(found, step)
        if not good and any(progress.get("due", True) for progress in found.values()):
            raise UserError(
                f"{self.folder} holds no checkpoint that is known to be from before step {step}, to go back to: lower "
                "train.learning_rate in a new folder, or remove its checkpoints to begin anew"
            )
        to = good[-1] if good else 0
        _remove(self._checkpoints, [n for n in found if n > to])
        return to, found[to]["step"] if good else 0

    def _found(self) -> dict[int, dict[str, Any]]:
        """What was noted of each checkpoint, by its examples."""
        return {n: progress_of(self.folder / CHECKPOINTS / str(n)) for n in self._checkpoints.all_steps()}

    def _set_aside(self, step: int, damage: str) -> None:
        """Rename a checkpoint that is no good, and say so."""
        if jax.process_index() == 0:
            broken = self.folder / CHECKPOINTS / str(step)
            aside = broken.with_name(f"{step}.damaged")
            shutil.rmtree(aside, ignore_errors=True)  # of an earlier time
            broken.rename(aside)
            _say(f"checkpoint {step} of {self.folder} is damaged and set aside: {damage}")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"set aside {step}")

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
                self._set_aside(step, damage)
        self._checkpoints.reload()
        done = restored.examples if restored else 0
        if newer := [step for step in sorted(steps_of(self.folder / SNAPSHOTS)) if step > done]:
            _remove(self._snapshots, newer)
        return restored

    def _read(self, step: int, like: State) -> Restored:
        progress = progress_of(self.folder / CHECKPOINTS / str(step))
        if progress["ema_std"] != self._stds:
            raise UserError(
                f"{self.folder} holds averages of width {progress['ema_std']} and train.ema_std is {self._stds}: "
                "keep train.ema_std as it was, or use another folder"
            )
        items = _items(like)
        for name, tree in items.items():
            check_shapes(self.folder / CHECKPOINTS / str(step) / name, paths(tree))
        args = {name: ocp.args.StandardRestore(paths(tree)) for name, tree in items.items()}
        arrays = self._checkpoints.restore(step, args=ocp.args.Composite(**args))
        for name, saved in progress.get("sums", {}).items():  # earlier versions kept none
            if wrong := verify.differing(verify.sums(arrays[name]), saved):
                raise _Damaged(f"{name}: {wrong}")
        got = {name: rebuild(tree, arrays[name]) for name, tree in items.items()}
        averages = tuple(got[f"ema{i}"] for i in range(len(like.ema)))
        state = State(got["counters"]["step"], got["counters"]["examples"], got["model"], got["optimizer"], averages)
        position = json.loads(_position_of(self.folder, progress["data"]))
        return Restored(state, progress["examples"], progress["tally"], position, progress.get("events", 0))

    def wait(self) -> None:
        """Wait until everything is on the disk, and read back. Raises `UserError` where the last save was no good."""
        good = self._settle()
        for manager in self._managers():
            manager.wait_until_finished()
        if not good:
            raise UserError(
                f"the last checkpoint of {self.folder} is not what was saved: see to the disk, and start again from "
                f"{examples_done(self.folder):,} examples"
            )

    def close(self) -> None:
        """Wait until everything is on the disk, and save no more."""
        self._reader.shutdown()
        for manager in self._managers():
            manager.close()

    def _managers(self) -> list[ocp.CheckpointManager]:
        return [self._checkpoints, *([self._snapshots] if "_snapshots" in vars(self) else [])]


def examples_done(folder: Path | str) -> int:
    """The training examples of the newest checkpoint in a run's folder; 0 if there is none."""
    return max(steps_of(Path(folder) / CHECKPOINTS), default=0)


def abstract(tree: Any, layout: Layout) -> Any:
    """Shapes, dtypes and shardings of a tree of (abstract) arrays."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, layout.shardings(tree))


def _items(state: State) -> dict[str, Any]:
    counters = {"step": state.step, "examples": state.examples}
    averages = {f"ema{i}": average for i, average in enumerate(state.ema)}
    return {"model": state.model, **averages, "optimizer": state.optimizer, "counters": counters}


def rebuild(like: Any, arrays: dict[str, Any]) -> Any:
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[path] for path in paths(like)])


def reader() -> ocp.StandardCheckpointHandler:
    """The layer below `Checkpointer`, which would warn of every item that is not asked for."""
    return ocp.StandardCheckpointHandler()


def progress_of(checkpoint: Path) -> dict[str, Any]:
    return ocp.JsonCheckpointHandler().restore(checkpoint.resolve() / "progress")


def check_shapes(item: Path, want: dict[str, Any]) -> None:
    stored = {path: list(meta.shape) for path, meta in reader().metadata(item).items()}
    for path in [*want, *stored]:
        have, need = stored.get(path), list(want[path].shape) if path in want else None
        if have != need:
            kind = item.name if item.name == "optimizer" else "model"
            raise UserError(
                f"{item.parent} is of another {kind}: '{path}' is {have} there and {need} in this configuration: "
                "use the configuration and libraries that it was trained with, or another folder"
            )


def _say(text: str) -> None:
    print(f"diorama: {text}", file=sys.stderr, flush=True)  # no warning: the command line filters those


def _by(found: dict[int, dict[str, Any]], step: int) -> list[int]:
    """The checkpoints saved at their time, by optimiser step `step`, oldest first; earlier versions noted no step."""
    return sorted(n for n, p in found.items() if p.get("due", True) and "step" in p and p["step"] <= step)


class _Damaged(Exception):
    """Arrays that can be read are not those that were saved."""


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
        damaged = isinstance(error, _Damaged | FileNotFoundError | json.JSONDecodeError | UnicodeDecodeError)
    return text.partition(" [tensorstore_spec")[0] if damaged else None


def _floats(tree: dict[str, Any]) -> dict[str, float]:
    return {name: float(x) for name, x in tree.items()}


def _position_of(folder: Path, positions: list[str]) -> str:
    """This process's position in the data, of those of all processes that there were.

    Hosts read equal parts of the same batches, so their positions are alike and hold for any number of them. Raises
    `UserError` where they are not and the number of processes is another.
    """
    if len(positions) == jax.process_count():
        return positions[jax.process_index()]
    if len(set(positions)) > 1:
        raise UserError(
            f"{folder} was trained by {len(positions)} processes, at different places in their data: go on with as many"
        )
    return positions[0]


def _of_all_processes(position: Any) -> list[str]:
    """The position of every process, as JSON: hosts read different files."""
    text = json.dumps(position)
    if jax.process_count() == 1:
        return [text]
    raw = np.frombuffer(text.encode(), np.uint8)
    longest = int(multihost_utils.process_allgather(np.array(raw.size)).max())
    padded = multihost_utils.process_allgather(np.pad(raw, (0, longest - raw.size), constant_values=ord(" ")))
    return [bytes(row).decode() for row in np.asarray(padded)]


def steps_of(folder: Path) -> list[int]:
    return [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []


def _manager(folder: Path) -> ocp.CheckpointManager:
    """Keeps everything: what is removed, and when, is said in `Checkpoints`."""
    _empty(folder)
    options = ocp.CheckpointManagerOptions(
        cleanup_tmp_directories=True,
        todelete_subdir=REMOVED,
        # Processes meet at barriers by name; without names of its own, one manager's saves wait for the other's.
        multiprocessing_options=ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=folder.name),
    )  # fmt: skip
    return ocp.CheckpointManager(folder, options=options)


def _remove(manager: ocp.CheckpointManager, steps: list[int]) -> None:
    """Remove checkpoints: renamed first, for a kill amid their files must leave none that looks whole.

    None goes before every process has found out which: they all look at the same files.
    """
    if steps and jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"remove {steps} from {manager.directory.name}")
    for step in steps:
        manager.delete(step)
    _empty(Path(manager.directory))


def _empty(folder: Path) -> None:
    if jax.process_index() == 0:
        shutil.rmtree(folder / REMOVED, ignore_errors=True)

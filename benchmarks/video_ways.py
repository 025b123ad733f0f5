"""The ways of making video, trained equally long on one real task and judged by one classifier, in one table.

Install:   python -m pip install -e .
Command:   diorama curate weizmann64 --out CATALOGUE
           python -m benchmarks.video_ways --data CATALOGUE --out FOLDER [--minutes 10] [--only joint,cascade]
               [--frames 33] [--count 64]
Hardware:  two CPU cores. Linux, which tells the peak memory of a process.

The task is that of the recipe `weizmann_action`: captioned actions of a few people, windows of 9 frames of 64 x 64.

    joint    a transformer, the whole clip at once, everything seeing everything
    frames   the same transformer, causal in time, every frame with a noise level of its own (diffusion forcing):
             frame after frame, what is done remembered as keys and values
    chunks   the network of `frames`, two latent frames together: other sampling, no other training
    unet     the recipe's U-Net, the whole clip at once
    cascade  the recipe `weizmann_cascade`: few small frames, more frames, more pixels; no codec

All but the last work on the latents of one codec, which is trained once. Each is trained for `--minutes` of processor
time: how many examples that is, follows from the time of a step, measured first. The codec gets half as much, and the
cascade what the codec took on top of its own. Optimiser, learning rate (chosen for the U-Net), solver, steps and
guidance are the recipes'.

Every way draws for the same prompts, those of held-back clips, with the same ids: clips of the training's length, and
videos of `--frames`. A joint network goes on from its last latent frame, given beside new ones. Windows of the
training's length are then judged by where they begin: Fréchet distance to the training clips in the features of a
classifier trained on these, the share in which it sees the action that was asked for, and how much moves, over what
moves in training clips. Rows of real clips say what can be reached: training clips, as many of them; the same through
the codec; clips of the held-back person, who looks like nobody in the training.

Each training and each sampling is a process of its own, so that its memory can be told. What is done is kept in FOLDER
and not done again; a benchmark that was stopped or killed goes on. Writes ways.json, ways.md (the tables), drift.png,
sheet.png (a row for each way) and long.png (the same of the long videos). The last line is JSON.
"""

import argparse
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.ways_judged import Truth, plot, row_of, sheet, tables
from diorama.cli.recipes import resolve, trainable
from diorama.codec import Codec, decode_chunks
from diorama.core.config import parse
from diorama.core.errors import UserError
from diorama.core.files import write_aside, write_text
from diorama.core.layout import Layout
from diorama.core.memory import keep_memory
from diorama.core.module import count
from diorama.core.progress import progress
from diorama.core.random import stream
from diorama.data import Catalogue
from diorama.diffusion import Denoising
from diorama.evaluate import multi_hot, quantise, right
from diorama.net import LabelConfig, TextConfig, TransformerConfig
from diorama.net.places import Reach
from diorama.process.density import Uniform
from diorama.run import CodecStage, Folder, Generator, Run, TrainedConfig
from diorama.run.cascade import Cascade, Cascaded, CascadeFolder, train_cascade
from diorama.run.examples import clips, conditions, some
from diorama.run.folder import codec_like
from diorama.run.train import latents, learn_tokenizer, train_codec, train_run
from diorama.sample.rollout import Cached, Recomputed, rollout
from diorama.train import Objective, Train
from diorama.train.state import State, Tally, fault_names
from diorama.train.step import make_step, metric_names

CODEC = 0.5  # of --minutes, for the codec
STAGES = (0.35, 0.2, 0.45)  # parts of the cascade's time: base, frames, pixels
STEPS = 6  # that are timed, after the first
TOGETHER = 16  # clips that are drawn together
EVERY = 5.0  # seconds between notes of what was spent
Kind = TypeVar("Kind", Run, Cascade)
Draw = Callable[[list[str], np.ndarray, np.ndarray], np.ndarray]
"""`draw(captions, labels, ids)`: clips (b, t, h, w, 3) uint8."""


@dataclass(frozen=True)
class Way:
    """A row of the table.

    Args:
        title: what it is called there.
        training: the folder of what it draws from; two ways may share it.
        past: how videos longer than those of the training go on; None where they cannot.
        rolled: whether clips of the training's length are rolled out too, and not drawn at once.
    """

    title: str
    training: str
    past: Cached | Recomputed | None = None
    rolled: bool = False


WAYS = {
    "joint": Way("joint transformer", "joint", Recomputed(window=1, chunk=2)),
    "frames": Way("transformer, frame by frame", "forcing", Cached(window=2, chunk=1, noise=0.1), rolled=True),
    "chunks": Way("the same, two by two", "forcing", Cached(window=1, chunk=2, noise=0.1), rolled=True),
    "unet": Way("joint U-Net", "unet", Recomputed(window=1, chunk=2)),
    "cascade": Way("cascade in pixels", "cascade"),
}  # windows and chunks are three latent frames together, as the training's clips are


def action() -> Run:
    """The run that all ways share but for what they are about."""
    return resolve("weizmann_action", [])


def latent_run(name: str, codec: Path) -> Run:
    """The run of a way on latents: the recipe's with another network, or trained for another purpose."""
    run = replace(action(), name=name, codec=CodecStage(TrainedConfig(str(codec.resolve()))))
    if name == "unet":
        return run
    causal = name == "forcing"
    net = TransformerConfig(reach=(Reach(future=0 if causal else None),))
    objective = Denoising(density=Uniform(), independent=1.0) if causal else run.denoiser.objective
    denoiser = replace(run.denoiser.denoiser, net=net)
    return replace(run, denoiser=replace(run.denoiser, denoiser=denoiser, objective=objective))


def long_enough(name: str, how: Train, seconds: float, each: float, batch: int) -> Train:
    """The same training for so long, at so many seconds an example; whole batches, and at least two."""
    examples = max(int(seconds / each) // batch, 2) * batch
    print(f"{name}: {1e3 * each:.0f} ms an example: {examples:,} examples", flush=True)
    return replace(
        how, examples=examples, warmup=examples // 12, preview_every=0,
        checkpoint_every=max(examples // 6, batch), log_every=max(examples // 20, batch),
    )  # fmt: skip


def seconds_an_example(how: Train, init: Callable, objective: Objective, batch: dict[str, np.ndarray]) -> float:
    """Processor time of a training step over its examples: the median of some steps."""
    layout = Layout()
    state = jax.jit(lambda: State.init(init(stream(0, "init")), how))()
    step = make_step(how, objective, layout.shardings(state), 0, layout)
    given = layout.put(batch)
    names = metric_names(objective, state.model, given, how.roles)
    tally = jax.device_put(Tally.blank(names, len(fault_names(state.model))), layout.sharding())
    times = []
    for _ in range(STEPS + 1):
        began = time.process_time()
        state, tally = step(state, tally, given)
        jax.block_until_ready((state, tally))
        times.append(time.process_time() - began)
    return median(times[1:]) / len(batch["id"])


def codec_budgeted(run: Run, seconds: float) -> Run:
    """The run with as many examples of its codec's training as take so long."""
    stage, bucket = run.codec, run.codec.buckets[0]
    assert stage.learned is not None
    assert stage.train is not None
    objective = stage.loss.objective(stage.learned, None)
    media = np.random.default_rng(0).uniform(-1, 1, (bucket.batch, bucket.frames, bucket.height, bucket.width, 3))
    batch = {"media": media.astype(np.float32), "id": np.arange(bucket.batch, dtype=np.uint32)}
    each = seconds_an_example(stage.train, objective.init, objective, batch)
    how = long_enough("codec", stage.train, seconds, each, bucket.batch)
    return replace(run, codec=replace(stage, train=how))


def budgeted(run: Run, seconds: float) -> Run:
    """The run with as many examples of its denoiser's training as take so long."""
    stage, bucket, rng = run.denoiser, run.denoiser.buckets[0], np.random.default_rng(0)
    taken = run.codec.codec
    codec = taken.load() if isinstance(taken, TrainedConfig) else codec_like(taken)  # type: ignore[arg-type]
    shape, b = codec.latent_shape(bucket.frames, bucket.height, bucket.width), bucket.batch
    batch: dict[str, np.ndarray] = {
        "media": rng.normal(size=(b, *shape)).astype(np.float32), "id": np.arange(b, dtype=np.uint32),
    }  # fmt: skip
    for name, config in stage.denoiser.conditions.items():
        if isinstance(config, TextConfig):
            batch[name] = np.ones((b, config.length), np.int32)
        elif isinstance(config, LabelConfig):
            batch[name] = np.zeros(b, np.int32)
        else:
            batch[name] = np.ones((b, *shape[:3], shape[3] + 2), np.float32)
    init = partial(stage.denoiser.init, channels=shape[-1])
    each = seconds_an_example(stage.train, init, stage.objective, batch)
    return replace(run, denoiser=replace(stage, train=long_enough(run.name, stage.train, seconds, each, b)))


def cascade_budgeted(seconds: float) -> Cascade:
    """The recipe's cascade, with as many examples of all stages as take so long."""
    cascade = trainable("weizmann_cascade", [])
    assert isinstance(cascade, Cascade)
    parts = zip(cascade.stages, STAGES, strict=True)
    return replace(cascade, stages=tuple(budgeted(stage, part * seconds) for stage, part in parts))


def peak() -> float:
    """Megabytes that this process held at most, in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@contextmanager
def noted(path: Path, about: dict[str, Any]) -> Iterator[None]:
    """Adds what is spent here to the file `path`, every few seconds, so that it is told of what was killed too.

    A process whose parent died is asked to stop, as by SIGTERM.
    """
    before = spent(path)
    clock, cpu, parent, over = time.perf_counter(), time.process_time(), os.getppid(), threading.Event()

    def note(done: bool = False) -> None:
        now = {
            "cpu": before["cpu"] + time.process_time() - cpu, "clock": before["clock"] + time.perf_counter() - clock,
            "peak_mb": max(before["peak_mb"], peak()), "done": done,
        }  # fmt: skip
        write_text(path, json.dumps(about | now) + "\n")

    def watch() -> None:
        while not over.wait(EVERY):
            note()
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    watching, done = threading.Thread(target=watch, daemon=True), False
    watching.start()
    try:
        yield
        done = True
    finally:
        over.set()
        watching.join()
        note(done)


def spent(path: Path) -> dict[str, Any]:
    """What `noted` wrote, nothing yet if it did not."""
    return json.loads(path.read_text()) if path.exists() else {"cpu": 0.0, "clock": 0.0, "peak_mb": 0.0, "done": False}


def train_way(name: str, data: Path, out: Path, minutes: float) -> None:
    """Train `name`, or go on with it, in `out`/`name`. asked.txt there has its budget, measured once; spent.json what
    it took."""
    path, catalogue, seconds = out / name, Catalogue(data), 60 * minutes
    codec, asked, about = out / "codec", path / "asked.txt", {"minutes": minutes}

    def once(make: Callable[[], Run | Cascade], kind: type[Kind]) -> Kind:
        if not asked.exists():
            print(f"{name}: timing a step", flush=True)
            write_text(asked, make().text())
        return parse(asked.read_text(), kind)

    path.mkdir(parents=True, exist_ok=True)
    if name == "codec":
        run = once(lambda: codec_budgeted(action(), CODEC * seconds), Run)
        with noted(path / "spent.json", about):
            folder = Folder.claim(path, run, catalogue)
            learn_tokenizer(run, catalogue, folder)
            train_codec(run, catalogue, folder)
            latents(run, catalogue, folder, run.denoiser.buckets[0])
    elif name == "cascade":
        whole = seconds + spent(codec / "spent.json")["cpu"]
        cascade = once(lambda: cascade_budgeted(whole), Cascade)
        with noted(path / "spent.json", about):
            train_cascade(cascade, catalogue, path)
    else:
        run = once(lambda: budgeted(latent_run(name, codec), seconds), Run)
        with noted(path / "spent.json", about):
            train_run(run, catalogue, path)


@dataclass(frozen=True)
class Prompts:
    """What every way is asked for: those of held-back clips, spread over all of them. `rows` are these clips'."""

    rows: np.ndarray
    captions: list[str]
    labels: np.ndarray

    @staticmethod
    def of(run: Run, catalogue: Catalogue, most: int) -> "Prompts":
        """`most` of them; fewer where fewer clips are held back. Raises `UserError` where none is."""
        source = clips(catalogue, run.denoiser.buckets[0], "test")
        if source is None:
            raise UserError(f"{catalogue.path} holds back no clip: curate weizmann64 anew, without settings")
        rows = some(len(source), most, run.seed)
        return Prompts(rows, [source.captions[i] for i in rows], source.labels[rows])


def rolled(
    generator: Generator, past: Cached | Recomputed, frames: int, captions: list[str], labels: np.ndarray,
    ids: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Videos (b, frames, h, w, 3) uint8, as `diorama.run.roll` makes one."""
    run, codec, denoiser, bucket = generator.run, generator.codec, generator.denoiser, generator.run.denoiser.buckets[0]
    assert isinstance(codec, Codec)
    how, shape = run.sampling, codec.latent_shape(bucket.frames, bucket.height, bucket.width)
    said = conditions(run, generator.folder, captions, labels)
    signals = denoiser.conditions.signals({name: jnp.asarray(value) for name, value in said.items()})
    pieces = rollout(
        denoiser, past, how.solver, how.taus(denoiser.process.of(shape)), jnp.asarray(ids, jnp.uint32), shape,
        [how.against(denoiser, signals, None, len(ids))], seed=run.seed, guidance=how.guidance,
        frames=codec.latent_shape(frames, bucket.height, bucket.width)[0],
    )  # fmt: skip
    media = [np.asarray(piece) for piece in decode_chunks(codec, pieces)]
    return quantise(np.concatenate(media, axis=1)[:, :frames, : bucket.height, : bucket.width])


def timed(draw: Draw, prompts: Prompts, together: int, what: str) -> tuple[np.ndarray, dict[str, float]]:
    """All clips, `together` at a time, and seconds a clip. The first batch is drawn once before, and not counted."""
    n, cpu, clock = len(prompts.rows), 0.0, 0.0
    out: list[np.ndarray] = []
    with progress(n, what, "clips") as bar:
        for start in (0, *range(0, n, together)):
            part = np.arange(start, min(start + together, n))
            take = np.resize(part, together)  # filled up with repetitions: one program
            if len(out) == 1:
                cpu, clock = time.process_time(), time.perf_counter()
            media = draw([prompts.captions[i] for i in take], prompts.labels[take], take)
            out.append(media[: len(part)])
            bar.advance(len(part) if len(out) > 1 else 0)
    each = 1 / (together * (len(out) - 1))
    spent = {"cpu": (time.process_time() - cpu) * each, "clock": (time.perf_counter() - clock) * each}
    return np.concatenate(out[1:]), spent | {"peak_mb": peak()}


def draw_way(name: str, data: Path, out: Path, most: int, frames: int, kept: Path) -> None:
    """The clips and the long videos of a way, and what they took, into the file `kept`."""
    way, run, path = WAYS[name], action(), out / WAYS[name].training
    prompts, bucket, together = Prompts.of(run, Catalogue(data), most), run.denoiser.buckets[0], min(TOGETHER, most)
    drawer = Cascaded.load(path) if CascadeFolder.holds(path) else Generator.load(path)
    denoisers = [each.denoiser for each in drawer.generators] if isinstance(drawer, Cascaded) else [drawer.denoiser]
    found: dict[str, Any] = {"parameters": sum(count(denoiser) for denoiser in denoisers)}
    kinds: dict[str, Draw] = {}

    def at_once(captions: list[str], labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
        if isinstance(drawer, Cascaded):
            ways = [replace(each.run.sampling, batch=together) for each in drawer.generators]
            return drawer.draw(captions, labels, ids=ids, bucket=bucket, sampling=ways)
        how = replace(drawer.run.sampling, batch=together)
        return drawer.draw(captions, labels, ids=ids, bucket=bucket, sampling=how)

    kinds["short"] = at_once
    if way.past is not None:
        assert isinstance(drawer, Generator)
        kinds["long"] = partial(rolled, drawer, way.past, frames)
        if way.rolled:
            kinds["short"] = partial(rolled, drawer, way.past, bucket.frames)
    media = {}
    for kind, draw in kinds.items():
        media[kind], found[kind] = timed(draw, prompts, together, f"{name}: {kind} videos")
    with write_aside(kept) as aside:
        np.savez(aside, found=np.array(json.dumps(found)), **media)  # type: ignore[arg-type]


def alone(call: Callable[..., None], *given: Any) -> None:
    """Call it in a process of its own. Raises `SystemExit` where that does not end well, once it has stopped."""
    child = get_context("spawn").Process(target=plainly, args=(call, *given))
    child.start()
    try:
        child.join()
    except KeyboardInterrupt:  # it got that too, and saves a checkpoint
        child.join()
    if child.exitcode:
        raise SystemExit(1 if child.exitcode == 1 else "stopped: the same command goes on")


def plainly(call: Callable[..., None], *given: Any) -> None:
    """Call it as commands do, and end with a user's error in one sentence."""
    keep_memory()
    try:
        call(*given)
    except UserError as error:
        raise SystemExit(f"video_ways: {error}") from None


def compare(data: Path, out: Path, minutes: float, names: list[str], frames: int, most: int) -> dict[str, Any]:
    """Train, draw, judge; everything that is done already is read."""
    run, catalogue = action(), Catalogue(data)
    prompts, length = Prompts.of(run, catalogue, most), run.denoiser.buckets[0].frames
    if frames <= length or (frames - 1) % (length - 1):
        raise UserError(f"--frames is {frames}: give {2 * length - 1} or more by whole {length - 1}")
    for training in dict.fromkeys(["codec", *(WAYS[name].training for name in names)]):
        path = out / training / "spent.json"
        known = spent(path)
        if known.get("minutes", minutes) != minutes:
            raise UserError(f"{path.parent} was trained with --minutes {known['minutes']:g}: use another --out")
        if not known["done"]:
            print(f"{training}: training", flush=True)
            alone(train_way, training, data, out, minutes)
        print(f"{training}: {spent(path)['cpu']:.0f} s of processor time", flush=True)
    files = {name: out / "drawn" / f"{name}.{len(prompts.rows)}x{frames}.npz" for name in names}
    for name, file in files.items():
        if not file.exists():
            alone(draw_way, name, data, out, len(prompts.rows), frames, file)
    print("judging", flush=True)
    truth, codec = Truth.of(run, catalogue), Folder.open(out / "codec").codec()
    assert isinstance(codec, Codec)
    real, rows, drawn = truth.real(codec, len(prompts.rows)), {}, {}
    for name, file in files.items():
        with np.load(file) as kept:
            took = spent(out / WAYS[name].training / "spent.json")
            rows[name] = row_of(WAYS[name].title, truth, prompts.labels, kept, took)
            drawn[name] = {kind: kept[kind] for kind in ("short", "long") if kind in kept}
        print(f"{name}: distance {rows[name]['distance']:.3f}, as asked {rows[name]['as_asked']:.0%}", flush=True)
    held = multi_hot([[int(label)] for label in truth.held.labels], len(truth.judge.names))
    about = {
        "n": len(prompts.rows), "length": length, "frames": frames, "minutes": minutes,
        "judge": float(right(truth.judge.logits(truth.held.media), held).mean()),
        "codec": {"parameters": count(codec)} | spent(out / "codec" / "spent.json"),
    }  # fmt: skip
    found = about | {"real": real, "ways": rows}
    write_text(out / "ways.json", json.dumps(found, indent=1) + "\n")
    write_text(out / "ways.md", tables(rows, real, about))
    plot(rows, real, out / "drift.png")
    shown = {"held back": truth.held.media[prompts.rows]} | {name: media["short"] for name, media in drawn.items()}
    sheet(shown, prompts.captions, prompts.labels, out / "sheet.png")
    longer = {name: media["long"] for name, media in drawn.items() if "long" in media}
    if longer:
        sheet(longer, prompts.captions, prompts.labels, out / "long.png")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="CATALOGUE")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=10, help="of processor time that each way is trained for")
    parser.add_argument("--only", default=",".join(WAYS), metavar="WAYS", help="some of them, with commas between")
    parser.add_argument("--frames", type=int, default=33, help="of the long videos")
    parser.add_argument("--count", type=int, default=64, help="clips that each way draws")
    args = parser.parse_args()
    names = args.only.split(",")
    if unknown := [name for name in names if name not in WAYS]:
        parser.error(f"--only {unknown[0]}: the ways are {', '.join(WAYS)}")
    try:
        found = compare(args.data, args.out, args.minutes, names, args.frames, args.count)
    except UserError as error:
        raise SystemExit(f"video_ways: {error}") from None
    print((args.out / "ways.md").read_text())
    print(json.dumps(found))


if __name__ == "__main__":
    main()

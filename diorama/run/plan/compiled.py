"""The training step of a run, compiled for devices that need not be there: what it holds, computes and sends.

It is the step that `train` runs (`train.step.make_step`), lowered for shapes: nothing is allocated. `main`, a process
of its own, reads jobs from standard input and writes one line of JSON for each; `plan` starts it with as many simulated
devices as it plans for, because a process has to know their number before JAX begins.

The compiler is that of the CPU, which stands for an accelerator's: XLA partitions a program for all of them alike, but
fuses and orders it for each in its own way, so temporaries differ by some. It computes bfloat16 in float32, and would
count such arrays twice; for an accelerator's plan float16, which it has, takes the place of bfloat16. Attention by a
GPU's flash kernel is not there: it holds the scores, or where they are many some at a time (`net/attend.py`).
"""

import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diorama.codec import Codec, PixelCodec
from diorama.core import release
from diorama.core.collectives import Collective, collectives
from diorama.core.config import parse
from diorama.core.errors import UserError
from diorama.core.flops import PRODUCTS, flops
from diorama.core.layout import Layout
from diorama.core.random import stream
from diorama.data.embed.dense import OwnPlaces, Places, PretrainedPlaces, Seeing
from diorama.data.embed.patches import Encoder
from diorama.diffusion import Denoising
from diorama.diffusion.align import Aligned
from diorama.net import LabelConfig, LowResolutionConfig, TextConfig
from diorama.process.density import FromSpectrum
from diorama.run.features import grid_of
from diorama.run.folder import codec_like
from diorama.run.packing import Packing
from diorama.run.run import Bucket, CodecStage, Run, Taken
from diorama.train import State, Train
from diorama.train.checkpoint import abstract
from diorama.train.state import Objective, Tally, fault_names
from diorama.train.step import Step, make_step, metric_names

Stage = Literal["codec", "denoiser"]
GUESSED = np.arange(1, 9) ** -2.0  # a spectrum in the place of one that is not known yet; it changes no shape


@dataclass(frozen=True)
class Job:
    """What to compile: the step of a stage, for one of its buckets, on a layout (sizes by axis)."""

    stage: Stage
    bucket: int
    layout: dict[str, int]


@dataclass(frozen=True)
class Memory:
    """Bytes of one device. `batch`: the one that is computed and the next; `rest`: what the objective holds, tallies;
    `temporary`: gradients, activations, and what is gathered."""

    parameters: int
    optimizer: int
    averages: int
    batch: int
    rest: int
    temporary: int

    @property
    def total(self) -> int:
        """All of it at the step's fullest moment."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Compiled:
    """What a step is found to be.

    Args:
        job: what was compiled.
        memory: of one device.
        collectives: what one device sends in a step, by kind.
        flops: of the loss and its gradient, of all devices together; what is computed twice to save memory counts once.
        done: with what is computed twice.
        moved: bytes that products of matrices and convolutions read and write, of all devices together.
        seconds: that compiling took.
    """

    job: Job
    memory: Memory
    collectives: tuple[Collective, ...]
    flops: float
    done: float
    moved: float
    seconds: float

    @staticmethod
    def read(line: dict[str, Any]) -> "Compiled":
        """From what `asdict` made of one."""
        sent = tuple(Collective(**each) for each in line["collectives"])
        return Compiled(**line | {"job": Job(**line["job"]), "memory": Memory(**line["memory"]), "collectives": sent})


def compiled(run: Run, job: Job, *, node: int, memory: float = np.inf, halved: bool = True) -> Compiled:
    """Compile a job's step.

    Args:
        run: what is trained. Its own layout is that of `job` here.
        node: devices of a node, see `collectives`.
        memory: bytes of a device; a state that is larger is not compiled.
        halved: float16 in the place of bfloat16.

    Raises `UserError` for what cannot be trained so, and for a state that is larger than `memory`.
    """
    began = time.perf_counter()
    layout = replace(run.layout, **job.layout)
    given = shapes(run, job.stage, batches(run, job.stage)[job.bucket], layout, halved)
    held = _bytes(given.state)
    if held > memory:
        raise UserError(f"the state alone takes {held / 1e9:.1f} GB of a device")
    traced = given.step.func.trace(*given[1:4], **given.step.keywords)  # type: ignore[attr-defined]
    program = traced.lower().compile()
    done, moved = _work(traced.jaxpr.jaxpr)
    return Compiled(
        job, memory_of(program, given), tuple(collectives(program.as_text(), layout.mesh.size, node)),
        flops(lambda m, b: given.objective(m, b, stream(0, "objective")).value, given.state.model, given.batch,
              gradient=True),
        done, moved, time.perf_counter() - began,
    )  # fmt: skip


class Shapes(NamedTuple):
    """A step, and the shapes with shardings of what it takes."""

    step: Step
    state: State
    tally: Tally
    batch: dict[str, Any]
    objective: Objective


def shapes(run: Run, stage: Stage, bucket: Bucket, layout: Layout, halved: bool) -> Shapes:
    """The step of a stage for batches of a bucket; `halved` as of `compiled`. Raises `UserError` for undivided ones."""
    train, objective, init, like = parts(run, stage, bucket)
    if halved and train.policy.compute == "bfloat16":
        train = replace(train, policy=replace(train.policy, compute="float16"))  # type: ignore[arg-type]
    over = layout.data * layout.fsdp
    if bucket.batch % (over * train.accumulate):
        raise UserError(f"a batch of {bucket.batch} does not divide over {over} devices and {train.accumulate} parts")
    state = abstract(jax.eval_shape(lambda: State.init(init(stream(run.seed, "init")), train)), layout)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout.batch), like)
    names = metric_names(objective, state.model, batch, train.roles)
    blank = Tally.blank(names, len(fault_names(state.model)), train.guard)
    tally = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout.sharding()), blank)
    step = make_step(train, objective, jax.tree.map(lambda x: x.sharding, state), run.seed, layout)
    return Shapes(step, state, tally, batch, objective)


def memory_of(program: Any, given: Shapes) -> Memory:
    """What a compiled step holds, on one device."""
    found, state = program.memory_analysis(), given.state
    parameters, optimizer, averages, fed = map(_bytes, (state.model, state.optimizer, state.ema, given.batch))
    rest = _bytes((state.step, state.examples, given.tally, given.step.keywords))
    unshared = found.output_size_in_bytes - found.alias_size_in_bytes
    return Memory(parameters, optimizer, averages, 2 * fed, rest, found.temp_size_in_bytes + unshared)


def parts(run: Run, stage: Stage, bucket: Bucket) -> tuple[Train, Objective, Any, dict[str, Any]]:
    """How a stage is trained, for what, from which parameters (`init(key)`), and the shapes of a batch."""
    sizes = bucket.frames, bucket.height, bucket.width
    if stage == "codec":
        assert run.codec.train is not None
        objective = _codec_objective(run.codec)
        return run.codec.train, objective, objective.init, _batch(bucket, (*sizes, 3))
    codec, how = codec_of(run), run.denoiser
    aim, density = how.objective, how.objective.density
    if isinstance(density, FromSpectrum):
        aim = replace(aim, density=density.fitted(GUESSED))
    init = partial(how.denoiser.init, channels=codec.config.channels)
    media = bucket.batch, *codec.latent_shape(*sizes)
    if how.packing:
        return _packed(run, how.packing, aim, init)
    batch = _batch(bucket, media[1:])
    batch |= {name: _signal(name, config, media) for name, config in how.denoiser.conditions.items()}
    if not how.align:
        return how.train, aim, init, batch
    if how.features:
        batch["features"] = _features(run, how.features, bucket)
    aligned, width = Aligned(aim, how.align), batch["features"].shape[-1] if how.features else 0
    return how.train, aligned, partial(aligned.init, config=how.denoiser, shape=media[1:], features=width), batch


def _features(run: Run, encoder: OwnPlaces | PretrainedPlaces, bucket: Bucket) -> jax.ShapeDtypeStruct:
    """What an encoder sees in a batch. Raises `UserError` for one that cannot be read, a layer that is not there, and
    latents without places."""
    if isinstance(encoder, OwnPlaces):  # is fitted to the run's clips
        places = Places(jax.eval_shape(partial(Encoder.blank, encoder.filters, encoder.width)), encoder.side)
    else:
        places, _ = encoder.made(Path(), lambda n: np.zeros(0))
    codec, sizes = codec_of(run), (bucket.frames, bucket.height, bucket.width)
    frames = 1 if isinstance(codec, PixelCodec) else codec.config.temporal
    seeing = Seeing(places, frames, grid_of(run.denoiser, codec.latent_shape(*sizes)))
    return jax.ShapeDtypeStruct((bucket.batch, *seeing.latent_shape(*sizes)), jnp.float32)


def _packed(run: Run, packing: Packing, aim: Denoising, init: Any) -> tuple[Train, Objective, Any, dict[str, Any]]:
    """As `parts`, of rows as full as rows of clips of all shapes can be."""
    codec, how, b, n = codec_of(run), run.denoiser, packing.rows, packing.tokens
    shapes = [codec.latent_shape(bucket.frames, bucket.height, bucket.width) for bucket in how.buckets]
    packing.fits(shapes)
    s, f = n // min(t * h * w for t, h, w, _ in shapes), n // min(h * w for _, h, w, _ in shapes)
    said = {
        name: jax.ShapeDtypeStruct((b, s, *each.shape[1:]), each.dtype)
        for name, config in how.denoiser.conditions.items()
        for each in [_signal(name, config, (b, *shapes[0]))]
    }
    rows = {
        "media": jax.ShapeDtypeStruct((b, n, 1, 1, codec.config.channels), jnp.float32),
        "position": jax.ShapeDtypeStruct((b, n, 3), jnp.float32),
        "segment": jax.ShapeDtypeStruct((b, n), jnp.int32), "index": jax.ShapeDtypeStruct((b, n), jnp.int32),
        "frame": jax.ShapeDtypeStruct((b, n), jnp.int32), "first": jax.ShapeDtypeStruct((b, f), jnp.int32),
        "clip": jax.ShapeDtypeStruct((b, s), jnp.uint32), "id": jax.ShapeDtypeStruct((b,), jnp.uint32),
    }  # fmt: skip
    return how.train, packing.objective(aim, shapes), init, rows | said


def buckets(run: Run, stage: Stage) -> tuple[Bucket, ...]:
    """What a stage is trained on; none where nothing is to learn."""
    if stage == "codec":
        return run.codec.buckets if run.codec.learned else ()
    return run.denoiser.buckets


def batches(run: Run, stage: Stage) -> tuple[Bucket, ...]:
    """What the stage's steps are compiled for: its buckets, or packs, of which the largest bucket's clips tell."""
    found, packing = buckets(run, stage), run.denoiser.packing if stage == "denoiser" else None
    if packing is None:
        return found
    return (replace(max(found, key=lambda b: b.frames * b.height * b.width), batch=packing.rows),)


def codec_of(run: Run) -> Codec | PixelCodec:
    """The codec that a run learns or takes, for its shapes. Raises `UserError` where one that it takes is not there."""
    config = run.codec.codec
    return config.load() if isinstance(config, Taken) else codec_like(config)


def _codec_objective(stage: CodecStage) -> Any:
    """What a codec is trained for. Zeros stand for a perceptual network that is trained on the way."""
    assert stage.learned is not None
    if stage.loss.own is None:
        return stage.loss.objective(stage.learned)
    like = jax.eval_shape(stage.loss.own.init, jax.random.key(0))
    with TemporaryDirectory() as where:
        own = Path(where) / "perceptual.safetensors"
        release.save(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like), own)
        return stage.loss.objective(stage.learned, own)


def _batch(bucket: Bucket, shape: tuple[int, ...]) -> dict[str, Any]:
    b = bucket.batch
    return {"media": jax.ShapeDtypeStruct((b, *shape), jnp.float32), "id": jax.ShapeDtypeStruct((b,), jnp.uint32)}


def _signal(name: str, config: Any, media: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """A condition of a batch of latents (b, t, h, w, c)."""
    b, *grid, channels = media
    match config:
        case TextConfig():
            return jax.ShapeDtypeStruct((b, config.length), jnp.int32)
        case LabelConfig():
            return jax.ShapeDtypeStruct((b,), jnp.int32)
        case LowResolutionConfig():
            return jax.ShapeDtypeStruct((b, *grid, channels + 2), jnp.float32)
    raise UserError(f"the shape of the condition '{name}' is not known to plans: it is a {type(config).__name__}")


def _bytes(tree: Any) -> int:
    """Of all arrays of a tree of shapes with shardings, on one device."""
    leaves = jax.tree.leaves(tree)
    return sum(int(np.prod(x.sharding.shard_shape(x.shape), dtype=np.int64)) * x.dtype.itemsize for x in leaves)


def _work(program: Any) -> tuple[float, float]:
    """FLOPs of the products and convolutions of a program, and the bytes that they read and write; loops by length."""
    total = np.zeros(2)
    for line in program.eqns:
        name, params = line.primitive.name, line.params
        if name in PRODUCTS:
            arrays = [v.aval for v in (*line.invars, *line.outvars)]
            total += PRODUCTS[name](line), sum(x.size * x.dtype.itemsize for x in arrays)
        times = params["length"] if name == "scan" else 1
        if name == "shard_map":  # its program is that of one shard
            times = int(np.prod([params["mesh"].shape[axis] for axis in params["newly_manual_axes"]]))
        inner = [_work(each) for each in map(_program, params.values()) if each is not None]
        total += times * np.sum(inner, axis=0) if inner else 0.0
        if name == "cond":
            total += np.max([_work(branch.jaxpr) for branch in params["branches"]], axis=0)
    return float(total[0]), float(total[1])


def _program(value: Any) -> Any:
    """The program that a line of a program holds under some name, or None."""
    value = getattr(value, "jaxpr", value)
    return value if hasattr(value, "eqns") else None


def main() -> None:
    """Jobs in, one line a job out: {"compiled": ...}, or {"error": what is wrong with it}."""
    given = json.loads(sys.stdin.read())
    run, out = parse(given["run"], Run), sys.stdout
    for each in given["jobs"]:
        try:
            row = compiled(run, Job(**each), node=given["node"], memory=given["memory"], halved=given["halved"])
            line: dict[str, Any] = {"compiled": asdict(row)}
        except UserError as error:
            line = {"error": str(error)}
        except jax.errors.JaxRuntimeError as error:  # XLA does not partition all that there is
            line = {"error": f"it does not compile: {str(error).splitlines()[0]}"}
        print(json.dumps(line), file=out, flush=True)
        jax.clear_caches()

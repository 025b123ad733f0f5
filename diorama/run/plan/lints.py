"""What of a recipe does not fit together: settings without effect, and what would fail late or be learned for nothing.

Each is a function from a run to sentences that say what to do. What makes a run impossible to build is no lint: its
components refuse it.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial

import jax
import numpy as np

from diorama.core.errors import UserError
from diorama.process.density import FromSpectrum
from diorama.run.against import Null
from diorama.run.plan.compiled import Stage, batches, buckets, codec_of, parts
from diorama.run.run import Bucket, Run
from diorama.sample import grid
from diorama.train import Role, State, Train
from diorama.train.rate import InverseSquareRoot

Lint = Callable[[Run], Iterator[str]]
MOST_SHAPES = 32
FULL = 0.85  # of a row, at the least


def lint(run: Run) -> list[str]:
    """All that is found, in the order of `LINTS`. Raises `UserError` for a codec to be taken that is not there."""
    return [said for each in LINTS for said in each(run)]


def undivided(run: Run, stages: tuple[Stage, ...] = ("codec", "denoiser")) -> Iterator[str]:
    """Batches that do not divide over devices and parts."""
    over = run.layout.data * run.layout.fsdp
    for stage, train, bucket in _stages(run):
        parts = over * train.accumulate
        if stage in stages and bucket.batch % parts:
            yield (
                f"{stage}.buckets {bucket}: a batch of {bucket.batch} does not divide over layout.data x layout.fsdp = "
                f"{over} devices and {stage}.train.accumulate = {train.accumulate} parts: make it a multiple of {parts}"
            )


def shapes(run: Run) -> Iterator[str]:
    """Clips that a network does not take, such as latents that cannot be halved as often as a U-Net has levels."""
    for stage, _, bucket in _stages(run):
        try:
            train, objective, init, batch = parts(run, stage, bucket)
            model = jax.eval_shape(lambda key, i=init, t=train: State.init(i(key), t).model, jax.random.key(0))
            jax.eval_shape(objective, model, batch, jax.random.key(0))
        except UserError as error:
            yield f"{stage}.buckets {bucket}: {error}"


def warmup(run: Run) -> Iterator[str]:
    """Learning rates that never get to their height."""
    for stage, train in _trained(run):
        paces: list[tuple[str, Train | Role]] = [(f"{stage}.train", train)]
        for name, how in paces + [(f"{stage}.train.roles {role.path}", role) for role in train.roles]:
            if how.warmup >= train.examples:
                yield f"{name}.warmup is {how.warmup:,} of {train.examples:,} examples: lower it to a tenth or less"


def decay(run: Run) -> Iterator[str]:
    """A decay that begins after the end."""
    for stage, train in _trained(run):
        if isinstance(train.decay, InverseSquareRoot) and train.decay.reference >= train.examples:
            yield (
                f"{stage}.train.decay begins after {train.decay.reference:,} examples and training ends at "
                f"{train.examples:,}, so it does nothing: lower reference, or take Constant()"
            )


def intervals(run: Run) -> Iterator[str]:
    """What is to happen every so many examples and never does."""
    what = {
        "checkpoint_every": "a run that is killed begins anew", "snapshot_every": "no snapshot is kept",
        "preview_every": "the only preview is the last", "log_every": "the only log line is the last",
    }  # fmt: skip
    for stage, train in _trained(run):
        for name, means in what.items():
            if getattr(train, name) >= train.examples:
                yield f"{stage}.train.{name} is {getattr(train, name):,} of {train.examples:,} examples: {means}"
        if not train.checkpoint_every:
            yield f"{stage}.train.checkpoint_every is 0: a run that is killed begins anew"


def averages(run: Run) -> Iterator[str]:
    """Averages of weights that take memory and that nothing reads."""
    for stage, train in _trained(run):
        if len(train.ema_std) > 1 and not train.snapshot_every:
            yield (
                f"{stage}.train.ema_std keeps {len(train.ema_std)} averages and only the first is released: set "
                "snapshot_every, from which other widths are made after training, or keep one"
            )


def still(run: Run) -> Iterator[str]:
    """Settings about time where nothing that is trained on moves."""
    codec = codec_of(run)
    times = [codec.latent_shape(b.frames, b.height, b.width)[0] for b in run.denoiser.buckets]
    if max(times) > 1:
        return
    net = run.denoiser.denoiser.net
    for name in {"causal", "previous"} & {field.name for field in fields(net)}:
        if getattr(net, name):
            yield f"denoiser.denoiser.net.{name} has no effect on latents of one frame: set it to False"
    if run.denoiser.objective.independent:
        yield "denoiser.objective.independent has no effect on latents of one frame: set it to 0"


def rollout(run: Run) -> Iterator[str]:
    """A causal network is there to go on frame by frame, which asks for noise times that differ between frames."""
    moving = any(bucket.frames > 1 for bucket in run.denoiser.buckets)
    if moving and run.denoiser.denoiser.net.causal and not run.denoiser.objective.independent:
        yield (
            "denoiser.denoiser.net.causal is set and denoiser.objective.independent is 0: sampling frame by frame "
            "gives frames noise times of their own, which training never does: set independent to 0.25 or more"
        )


def blocks(run: Run) -> Iterator[str]:
    """Blocks of frames that share noise times of their own, where no clip has such."""
    aim = run.denoiser.objective
    if aim.block > 1 and not aim.independent:
        yield (
            f"denoiser.objective.block is {aim.block} and has no effect with denoiser.objective.independent at 0: set "
            "independent to 0.25 or more, or block to 1"
        )


def remembering(run: Run) -> Iterator[str]:
    """A rollout that the network is not for; it would be found out when it is sampled from."""
    if run.sampling.rollout is None:
        return
    init = partial(run.denoiser.denoiser.init, channels=codec_of(run).config.channels)
    try:
        run.sampling.rollout.check(jax.eval_shape(init, jax.random.key(0)))
    except UserError as error:
        yield f"sampling.rollout: {error}"


def windows(run: Run) -> Iterator[str]:
    """Buckets that find no clip, or whose settings do nothing."""
    for stage in ("codec", "denoiser"):
        for bucket in buckets(run, stage):  # type: ignore[arg-type]
            if bucket.kind == "image" and bucket.frames > 1:
                yield f"{stage}.buckets {bucket}: no still has {bucket.frames} frames: set kind to None, or frames to 1"
            if bucket.frames == 1 and bucket.stride > 1:
                yield f"{stage}.buckets {bucket}: stride={bucket.stride} has no effect on one frame: leave it out"


def motion(run: Run) -> Iterator[str]:
    """A codec that compresses time and is to code videos, and has never seen one."""
    learned = run.codec.learned
    if learned is None or learned.temporal == 1:
        return
    if all(b.frames == 1 for b in run.codec.buckets) and any(b.frames > 1 for b in run.denoiser.buckets):
        yield "codec.buckets hold stills only, and denoiser.buckets videos: give the codec a bucket with frames too"


def guidance(run: Run) -> Iterator[str]:
    """Guidance away from what was never trained, or from nothing."""
    conditions, how = run.denoiser.denoiser.conditions, run.sampling
    if not isinstance(how.against, Null):
        return
    if not conditions:
        yield "sampling.guidance has no effect, for the model has no condition: take against=PerturbedAttention()"
        return
    never = [name for name, config in conditions.items() if config.dropout == 0]
    if never:
        yield (
            f"sampling.guidance leads away from the model without conditions, and {' and '.join(never)} with dropout 0 "
            "is never left out in training: set its dropout to 0.1"
        )


def spectrum(run: Run) -> Iterator[str]:
    """`FromSpectrum` on latents that are too small for a spectrum; it would be found out when they are encoded."""
    fitted = [
        name
        for name, held, kind in (
            ("denoiser.objective.density", run.denoiser.objective.density, FromSpectrum),
            ("sampling.grid", run.sampling.grid, grid.FromSpectrum),
        )
        if isinstance(held, kind)
    ]
    first = run.denoiser.buckets[0]
    _, h, w, _ = codec_of(run).latent_shape(first.frames, first.height, first.width)
    if fitted and min(h, w) < 4:
        yield f"{' and '.join(fitted)}: latents of {first} are {h}x{w}, and a spectrum takes 4x4: name the levels"


def critic(run: Run) -> Iterator[str]:
    """An adversary that comes too late."""
    adversary, train = run.codec.loss.adversary, run.codec.train
    if run.codec.learned and train and adversary and adversary.start >= train.examples:
        yield (
            f"codec.loss.adversary starts after {adversary.start:,} examples and training ends at {train.examples:,}: "
            "lower start, or leave the adversary out"
        )


def names(run: Run) -> Iterator[str]:
    """Names of classes that are not as many as there are classes."""
    classes = {c.classes for c in run.denoiser.denoiser.conditions.values() if hasattr(c, "classes")}
    told = len(run.evaluation.names)
    if told and run.evaluation.labels == "label" and classes and told not in classes:
        yield f"evaluation.names has {told} names and the label {max(classes)} classes: give one each"


def heads(run: Run) -> Iterator[str]:
    """Attention that tensor parallelism would cut through."""
    net, tensor = run.denoiser.denoiser.net, run.layout.tensor
    if net.heads % tensor:
        yield f"layout.tensor = {tensor} does not divide denoiser.denoiser.net.heads = {net.heads}: change either"


def compilations(run: Run) -> Iterator[str]:
    """Shapes that compiling takes longer than training is worth."""
    for stage, _ in _trained(run):
        number = len({(b.frames, b.height, b.width, b.batch) for b in batches(run, stage)})
        if number > MOST_SHAPES:
            yield (
                f"{stage}.buckets have {number} shapes, and a step is compiled for each: take fewer lengths or ratios, "
                "or for a transformer denoiser.packing"
            )


def empty(run: Run) -> Iterator[str]:
    """Rows that no clips fill, however they are put together."""
    packing, codec = run.denoiser.packing, codec_of(run)
    if packing is None:
        return
    sizes = {int(np.prod(codec.latent_shape(b.frames, b.height, b.width)[:3])) for b in run.denoiser.buckets}
    sums = {0}
    for n in range(1, packing.tokens + 1):
        if any(n - size in sums for size in sizes):
            sums.add(n)
    if max(sums) < FULL * packing.tokens:
        yield (
            f"denoiser.packing.tokens is {packing.tokens:,}, of which clips fill {max(sums):,} at the most: set it to "
            "that, or to a multiple"
        )


LINTS: tuple[Lint, ...] = (
    undivided, shapes, warmup, decay, intervals, averages, still, rollout, blocks, remembering, windows, motion,
    guidance, spectrum, critic, names, heads, compilations, empty,
)  # fmt: skip


def _trained(run: Run) -> Iterator[tuple[Stage, Train]]:
    """The stages that learn."""
    if run.codec.learned and run.codec.train:
        yield "codec", run.codec.train
    yield "denoiser", run.denoiser.train


def _stages(run: Run) -> Iterator[tuple[Stage, Train, Bucket]]:
    """Every stage that learns with each of its buckets, or its packs."""
    for stage, train in _trained(run):
        for bucket in batches(run, stage):
            yield stage, train, bucket

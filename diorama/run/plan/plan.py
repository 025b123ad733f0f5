"""A plan of a run on so many devices of a kind: memory, time and cost of every step it would train, by layout."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import inf, prod
from typing import Any, Literal

from diorama.core.chips import Chip
from diorama.core.errors import UserError
from diorama.core.layout import AXES, named
from diorama.core.progress import progress
from diorama.run.plan.compiled import Compiled, Job, Stage, batches, codec_of
from diorama.run.plan.roofline import Seconds, seconds
from diorama.run.run import Bucket, Run
from diorama.train import Train

# LLVM's work changes neither memory nor collectives, and is half of the time that compiling takes.
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


@dataclass(frozen=True)
class Tried:
    """A layout (sizes by axis) and what became of it: the step's figures, or why there are none."""

    layout: dict[str, int]
    found: Compiled | None
    seconds: Seconds | None
    refused: str | None = None


@dataclass(frozen=True)
class Step:
    """One step of the run on the layout that was chosen."""

    stage: Stage
    bucket: Bucket
    found: Compiled
    seconds: Seconds

    compute: Literal["float32", "bfloat16"]

    def utilisation(self, chip: Chip, devices: int) -> float:
        """Model FLOPs over what the chips could do in the time (MFU)."""
        return self.found.flops / (devices * chip.peak(self.compute) * self.seconds.total)


@dataclass(frozen=True)
class Plan:
    """What `plan` found.

    Args:
        run: with the layout that was chosen; where none goes, with its own, or the one that was asked for.
        chip, devices: what it was planned for.
        tried: every layout, the best first, those that do not go last; figures are of the denoiser's largest bucket.
        steps: of every stage and bucket, on the best layout; empty where none goes.
    """

    run: Run
    chip: Chip
    devices: int
    tried: tuple[Tried, ...]
    steps: tuple[Step, ...]

    @property
    def hours(self) -> dict[str, float]:
        """Of training, by stage; encoding latents, previews and evaluation come on top."""
        return {stage: _hours(train_of(self.run, stage), steps) for stage, steps in self.by_stage().items()}

    @property
    def device_hours(self) -> float:
        """Of all stages and devices."""
        return self.devices * sum(self.hours.values())

    def told(self, price: float | None = None) -> dict[str, Any]:
        """All figures, as JSON has them; bytes and seconds."""
        return {
            "chip": asdict(self.chip), "devices": self.devices, "layout": self.tried[0].layout if self.steps else None,
            "layouts": [asdict(each) for each in self.tried], "hours": self.hours, "device_hours": self.device_hours,
            "cost": None if price is None else price * self.device_hours,
            "steps": [
                asdict(step) | {"total": step.found.memory.total, "seconds_total": step.seconds.total,
                                "utilisation": step.utilisation(self.chip, self.devices)}
                for step in self.steps
            ],
        }  # fmt: skip

    def by_stage(self) -> dict[Stage, list[Step]]:
        """The steps of each stage that learns."""
        found: dict[Stage, list[Step]] = {}
        for step in self.steps:
            found.setdefault(step.stage, []).append(step)
        return found


def plan(run: Run, devices: int, chip: Chip, fixed: dict[str, int] | None = None) -> Plan:
    """Compile the steps of a run for `devices` chips, and find the layout with the least time that fits their memory.

    Args:
        run: what is to be trained; its own layout does not count.
        devices: how many, simulated here: one process compiles for all, and allocates nothing.
        chip: what each is.
        fixed: sizes of mesh axes, instead of trying all products; an axis that is not named has one device.

    Raises `UserError` for a codec that is not there, or a layout of another number of devices.
    """
    codec_of(run)  # is it there?
    choices = [dict.fromkeys(AXES, 1) | fixed] if fixed else layouts(devices)
    if prod(choices[0].values()) != devices:
        raise UserError(
            f"the layout {named(choices[0])} is not of {devices} devices: the product of its sizes is to be that"
        )
    own = batches(run, "denoiser")
    largest = max(range(len(own)), key=lambda i: _numbers(own[i]))
    jobs = [Job("denoiser", largest, layout) for layout in choices]
    answers = compile_all(run, jobs, devices, chip, "layouts")
    tried = sorted((_tried(run, answer, job.layout, devices, chip) for job, answer in answers), key=_rank)
    steps: tuple[Step, ...] = ()
    while not steps and (best := tried[0]).found and not best.refused:
        answer = _steps(run, best.found, devices, chip)
        if isinstance(answer, str):
            tried = sorted([replace(best, refused=answer), *tried[1:]], key=_rank)
        else:
            steps = answer
    if steps or fixed:
        run = replace(run, layout=replace(run.layout, **tried[0].layout))
    return Plan(run, chip, devices, tuple(tried), steps)


def _steps(run: Run, known: Compiled, devices: int, chip: Chip) -> tuple[Step, ...] | str:
    """Every step of a run on the layout of one that is known; or which of them does not go there, and why."""
    stages: tuple[Stage, ...] = ("codec", "denoiser")
    jobs = [Job(stage, i, known.job.layout) for stage in stages for i in range(len(batches(run, stage)))]
    rest = [job for job in jobs if job != known.job]
    found = {known.job.stage: {known.job.bucket: known}}
    for job, answer in compile_all(run, rest, devices, chip, "steps"):
        if refused := answer if isinstance(answer, str) else _over(answer, chip):
            return f"{job.stage} {batches(run, job.stage)[job.bucket]}: {refused}"
        assert isinstance(answer, Compiled)
        found.setdefault(job.stage, {})[job.bucket] = answer
    steps = []
    for job in jobs:
        step, compute = found[job.stage][job.bucket], train_of(run, job.stage).policy.compute
        took = seconds(step, chip, devices, compute)
        steps.append(Step(job.stage, batches(run, job.stage)[job.bucket], step, took, compute))
    return tuple(steps)


def _over(found: Compiled, chip: Chip) -> str | None:
    """What is wrong with a step that a device has no room for."""
    held = found.memory.total
    return f"it takes {size(held)} of a device" if held > chip.memory else None


def _tried(run: Run, answer: Compiled | str, layout: dict[str, int], devices: int, chip: Chip) -> Tried:
    if isinstance(answer, str):
        return Tried(layout, None, None, answer)
    took = seconds(answer, chip, devices, run.denoiser.train.policy.compute)
    return Tried(layout, answer, took, _over(answer, chip))


def _rank(each: Tried) -> tuple[bool, float]:
    """The quickest first, what does not go last."""
    return each.refused is not None, each.seconds.total if each.seconds else inf


def train_of(run: Run, stage: Stage) -> Train:
    """How a stage is trained."""
    train = run.codec.train if stage == "codec" else run.denoiser.train
    assert train is not None
    return train


def _hours(train: Train, steps: list[Step]) -> float:
    """Of training on as many examples as `train` says, buckets taking turns by their weights."""
    weight = sum(step.bucket.weight for step in steps)
    examples, took = (
        sum(step.bucket.weight * value(step) for step in steps) / weight
        for value in (lambda step: step.bucket.batch, lambda step: step.seconds.total)
    )
    return train.examples / examples * took / 3600


def _numbers(bucket: Bucket) -> int:
    """How many numbers a batch holds."""
    return bucket.batch * bucket.frames * bucket.height * bucket.width


def axes(text: str) -> dict[str, int]:
    """A layout from "data=2,fsdp=4". Raises `UserError` for one that is not written so."""
    found = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        if name not in AXES or not number.isdigit() or int(number) < 1:
            raise UserError(f"--layout {text} is not a layout: write sizes of {', '.join(AXES)}, such as data=2,fsdp=4")
        found[name] = int(number)
    return found


def size(count: float) -> str:
    """Bytes, to be read: 1.23 GB."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1e3:.3g} kB"


def compile_all(run: Run, jobs: list[Job], devices: int, chip: Chip, what: str) -> Iterator[tuple[Job, Compiled | str]]:
    """What becomes of every job, in a process with so many simulated devices: its step, or what is wrong with it."""
    if not jobs:
        return
    given = {
        "run": run.text(), "jobs": [asdict(job) for job in jobs], "node": chip.node, "memory": chip.memory,
        "halved": chip.name != "cpu",
    }  # fmt: skip
    flags = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS} --xla_force_host_platform_device_count={devices}"
    worker = subprocess.Popen(
        [sys.executable, "-c", "from diorama.run.plan.compiled import main; main()"],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(json.dumps(given))
        worker.stdin.close()
        with progress(len(jobs), f"compiling {what}", what) as bar:
            for job in jobs:
                bar.note(" ".join(f"{axis}={n}" for axis, n in job.layout.items() if n > 1))
                line = worker.stdout.readline()
                if not line:
                    raise UserError(
                        f"compiling for {devices} devices ended with exit code {worker.wait()} at the layout "
                        f"{job.layout}: is there enough memory on this machine?"
                    )
                answer = json.loads(line)
                yield job, Compiled.read(answer["compiled"]) if "compiled" in answer else answer["error"]
                bar.advance()
    finally:
        worker.kill()
        worker.wait()


def layouts(devices: int) -> list[dict[str, int]]:
    """Every way to lay so many devices on the axes of a mesh."""

    def ways(n: int, axes: int) -> Iterator[tuple[int, ...]]:
        if axes == 1:
            yield (n,)
            return
        for size in (d for d in range(1, n + 1) if n % d == 0):
            for rest in ways(n // size, axes - 1):
                yield (*rest, size)

    return [dict(zip(AXES, sizes, strict=True)) for sizes in ways(devices, len(AXES))]

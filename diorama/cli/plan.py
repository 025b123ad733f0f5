"""`diorama plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diorama.cli import recipes
from diorama.cli.console import complain, say

if TYPE_CHECKING:
    from diorama.core.layout import Layout
    from diorama.run.plan import Plan


def plan(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's name, its .py file, or a run's config.txt.")
    ],
    devices: Annotated[int, typer.Option(metavar="N", min=1, max=4096, help="How many.")] = 1,
    kind: Annotated[
        str, typer.Option("--chip", metavar="KIND", help="h100, h200, v5e, v5p, v6e, or cpu: as this machine is.")
    ] = "h100",
    layout: Annotated[
        str | None,
        typer.Option(metavar="AXIS=N,...", help="Such as data=2,fsdp=4.", show_default="all, and the best of them"),
    ] = None,
    price: Annotated[float | None, typer.Option(metavar="PRICE", min=0, help="Of one device for an hour.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a setting, as of `train`.")
    ] = None,
    transformer: Annotated[
        str | None, typer.Option("--size", metavar="S", help="Of its transformer: XS, S, B, ..., as of `train`.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write all figures there.")] = None,
) -> None:
    """Say before a run what it needs on so many devices: memory, time, and what of the recipe does not fit together.

    The training steps are compiled for simulated devices; nothing is allocated, and no accelerator is needed. Each
    layout takes as long as compiling does: a quarter of a minute for small networks.

    The exit code is 1 where no layout fits.

    Example:  [bold]diorama plan latent_video --devices 8 --chip h100 --set denoiser.buckets.0.batch=256[/bold]
    """
    import json

    from diorama.core import UserError
    from diorama.core.chips import CHIPS, chip
    from diorama.run.plan import axes, lint
    from diorama.run.plan import plan as planned

    run, known = recipes.resolve(recipe, settings or [], size=transformer), chip(kind)
    if known is None:
        names = ", ".join(each.name for each in CHIPS)
        raise UserError(f"--chip {kind} is not known: use one of {names}, or cpu, which is this machine")
    found = planned(run, devices, known, axes(layout) if layout else None)
    for said in lint(found.run):
        complain(f"note: {said}")
    for line in (*_layouts(found), *_steps(found), *_cost(found, price, run.layout)):
        say(line)
    if out:
        out.write_text(json.dumps(found.told(price), indent=1) + "\n")
    if not found.steps:
        raise typer.Exit(1)


def _layouts(found: "Plan") -> list[str]:
    """A table of the layouts, if several were tried or the one does not go."""
    from diorama.core.layout import named
    from diorama.run.plan import size

    if len(found.tried) == 1 and not found.tried[0].refused:
        return []
    rows = [["layout", "a device holds", "step", "bound by", ""]]
    for each in found.tried:
        name, took = named(each.layout), each.seconds
        held = size(each.found.memory.total) if each.found else ""
        rows.append([name, held, _time(took.total) if took else "", took.bound if took else "", each.refused or ""])
    return [f"layouts of {found.devices} {found.chip.name}, {size(found.chip.memory)} each", *_table(rows), ""]


def _steps(found: "Plan") -> list[str]:
    """What every step of the run holds, sends and takes."""
    from diorama.run.plan import size

    lines = []
    for step in found.steps:
        m, took = step.found.memory, step.seconds
        parts = ("parameters", "optimizer", "averages", "batch", "rest", "temporary")
        held = ", ".join(f"{name} {size(getattr(m, name))}" for name in parts if getattr(m, name) >= 1e5)
        lines += [
            f"{step.stage} {step.bucket}, batch {step.bucket.batch}",
            f"  memory of a device   {size(m.total)}: {held}",
            f"  model FLOPs          {step.found.flops:.3g} a step, {step.found.done:.3g} computed",
            f"  step, at the least   {_time(took.total)}: computing {_time(took.compute)}, "
            f"memory {_time(took.memory)}, sending {_time(took.communication)}; "
            f"utilisation {step.utilisation(found.chip, found.devices):.0%} at most",
        ]
        for each in step.found.collectives:
            where = "across nodes" if each.across else "within nodes"
            lines.append(f"  {each.kind:<20} {each.count:,} times, {size(each.bytes)} from each device, {where}")
    return lines


def _cost(found: "Plan", price: float | None, own: "Layout") -> list[str]:
    """The whole run, and how to set its layout where the recipe has its `own`."""
    if not found.steps:
        return [f"no layout of {found.devices} {found.chip.name} takes this recipe: see above what each lacks"]
    best = " ".join(f"--set layout.{axis}={n}" for axis, n in found.tried[0].layout.items() if n != getattr(own, axis))
    lines = [f"{stage}: {hours:.2g} hours of training at the least" for stage, hours in found.hours.items()]
    cost = f", {price * found.device_hours:,.2f} at {price:g} each" if price is not None else ""
    lines.append(f"run: {found.device_hours:.2g} device-hours{cost}")
    if (count := len(found.tried)) > 1:
        lines.append(f"best layout of {count} tried: {best or 'as the recipe has it'}")
    elif best:
        lines.append(f"the one layout tried: {best}")
    if found.chip.name != "cpu":
        lines.append("compiled for CPU devices, which stand for these: temporaries differ by some, times are bounds")
    return lines


def _table(rows: list[list[str]]) -> list[str]:
    """Rows in columns as wide as they need."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(f"{cell:<{n}}" for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]


def _time(seconds: float) -> str:
    """1.23 s, 45.6 ms or 78.9 µs."""
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e6:.3g} µs"

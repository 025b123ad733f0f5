"""The report of a run: one HTML file that needs nothing beside it."""

import math
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from diorama.codec import PixelCodecConfig
from diorama.core.files import write_text
from diorama.evaluate import read_scores
from diorama.run import Folder, Run
from diorama.run.look import Look, look
from diorama.serve import plots
from diorama.serve.embed import shown, strip
from diorama.train.log import read_log


def write_report(folder: Folder) -> Path:
    """Write `report.html` in the folder of a trained run and return its path.

    What needs the models is computed first (`diorama.run.look`) and kept, so writing again is quick. Scores are those
    of `evaluation/scores.json`; before `diorama evaluate` the page says so in their place.

    Raises `UserError` when the run is not trained or its catalogue is gone.
    """
    seen = look(folder)
    run, scores = folder.run(), read_scores(folder.scores) if folder.scores.exists() else []
    logs = {stage: read_log(folder.path / stage) for stage in ("codec", "denoiser")}
    page = _environment().get_template("report.html.j2").render(
        run=run, name=folder.path.name, about=seen.about, config=folder.config.read_text(), scores=scores,
        codec_scores=[s for s in scores if re.match(r"codec|JPEG", s.name)],
        learned=not isinstance(run.codec.codec, PixelCodecConfig), facts=_facts(run, seen, logs),
        commands=_commands(run, folder, seen), what=_what(run, seen), main_bucket=_bucket(seen), held="held-back clips" if seen.about["held_back"] else "clips",
        figures={"curves": plots.curves(logs["codec"], logs["denoiser"]), "spectra": plots.spectra(seen.arrays),
                 "noise": plots.noise(seen.arrays, "held-back clips" if seen.about["held_back"] else "other clips")},
        **_clips(run, seen),
    )  # fmt: skip
    path = folder.path / "report.html"
    write_text(path, page)
    return path


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("diorama.serve", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {"figure": _figure, "whole": lambda n: f"{n:,}", "kinds": _counted}
    return environment


def _figure(score: float | None, digits: int = 3) -> str:
    """A number for a table: few digits, never an exponent that a reader must undo."""
    if score is None or math.isnan(score):
        return "–"
    size = abs(score)
    return f"{score:.2e}" if 0 < size < 1e-3 else f"{score:,.{max(0, digits - len(str(int(size))))}f}"


def _counted(counts: dict[str, int]) -> str:
    """Counts by name, as text."""
    return ", ".join(f"{n:,} {name}" for name, n in counts.items())


def _bucket(seen: Look) -> str:
    """The shape of the clips that are shown, as buckets are written."""
    return "x".join(str(seen.about["bucket"][axis]) for axis in ("frames", "height", "width"))


def _what(run: Run, seen: Look) -> str:
    """One sentence: what the run is and what it learned from."""
    steered = [name for name in ("text", "label") if name in run.denoiser.denoiser.conditions]
    kinds = sorted({"image" if b.frames == 1 else "video" for b in run.denoiser.buckets})
    by = {"text": "steered by text", "label": "steered by class"}
    size = f"{seen.about['bucket']['height']} × {seen.about['bucket']['width']}"
    return (
        f"A generator of {' and '.join(f'{kind}s' for kind in kinds)} of {size} pixels, "
        f"{' and '.join(by[s] for s in steered) or 'without prompts'}, trained from scratch on the "
        f"{seen.about['data']['splits'].get('train', 0):,} training clips of “{seen.about['data']['name']}”."
    )


def _facts(run: Run, seen: Look, logs: dict[str, list[dict[str, Any]]]) -> list[tuple[str, str, str]]:
    """What stands at the head of the page: name, value, and what is to say about it."""
    about, examples = seen.about, {stage: log[-1]["examples"] if log else 0 for stage, log in logs.items()}
    machine, times = about["machine"], {stage: _seconds(log) for stage, log in logs.items()}
    latents = " × ".join(map(str, about["codec"]["latents"]))
    hardware = ", ".join(f"{n} {name}" for name, n in machine["devices"].items()) or f"{machine['cores']} CPU cores"
    stages = [stage for stage in ("codec", "denoiser") if examples[stage]]
    return [
        ("Trained on", f"{about['data']['splits'].get('train', 0):,} clips", _counted(about["data"]["kinds"])),
        ("Examples seen", f"{sum(examples.values()):,}", ", ".join(f"{s} {examples[s]:,}" for s in stages)),
        ("Training time", _duration(sum(times.values())), ", ".join(f"{s} {_duration(times[s])}" for s in stages)),
        ("Parameters", _millions(sum(about["parameters"].values())),
         ", ".join(f"{s} {_millions(n)}" for s, n in about["parameters"].items() if n)),
        ("Compression", f"{about['codec']['compression']:.3g}×" if stages[0] == "codec" else "none",
         f"latents {latents}" if stages[0] == "codec" else "works on pixels"),
        ("Looked at on", hardware, machine["cpu"]),
    ]  # fmt: skip


def _seconds(log: Sequence[dict[str, Any]]) -> float:
    """Time in training: the log's clock starts again whenever a run goes on, so its last reading of each start."""
    times = [line["seconds"] for line in log]
    return sum(a for a, b in zip(times, [*times[1:], 0.0], strict=True) if b < a)


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds / 60:.0f} min {seconds % 60:.0f} s" if seconds >= 60 else f"{seconds:.0f} s"
    return str(timedelta(seconds=round(seconds / 60) * 60)).removesuffix(":00") + " h"


def _millions(n: int) -> str:
    return f"{n / 1e6:.2f} M" if n >= 1e5 else f"{n:,}"


def _commands(run: Run, folder: Folder, seen: Look) -> list[tuple[str, str]]:
    """The command of each step, and what it does."""
    catalogue, name = folder.catalogue().path, folder.path
    prompt = next((p for p in seen.about["samples"]["prompts"] if p), "") if folder.text_config() else ""
    return [
        (f"diorama train {run.name} --data {catalogue} --out {name}", "train again, or go on where it stopped"),
        (f"diorama sample {name}" + (f' --prompt "{prompt}"' if prompt else ""), "draw from it"),
        (f"diorama evaluate {name}", "measure it"),
        (f"diorama report {name}", "write this page again"),
    ]


def _clips(run: Run, seen: Look) -> dict[str, Any]:
    """Every picture and clip of the page, as elements."""
    a, about = seen.arrays, seen.about
    rate, prompts = run.sampling.rate, about["samples"]["prompts"]
    sheets = [
        [(shown(clip, rate, 72, name), name) for clip, name in zip(a[f"train{i}"], names, strict=True)]
        for i, names in enumerate(about["data"]["captions"])
    ]
    error = np.abs(a["held"].astype(np.int16) - a["again"])
    codec = [
        {"original": shown(x, rate, 88), "again": shown(y, rate, 88), "error": shown(_bright(e), rate, 88),
         "latents": strip(z, 88 // len(z) if len(z) > 1 else 88)}
        for x, y, e, z in zip(a["held"], a["again"], error, a["colours"], strict=True)
    ]  # fmt: skip
    rows = len(a["grid"])
    own = about["samples"]["scales"].index(about["samples"]["own"])
    grid = [
        {"prompt": prompt, "cells": [shown(clip, rate, 96, prompt) for clip in row], "strip": strip(row[own], 48, prompt)}
        for row, prompt in zip(a["grid"], prompts, strict=False)
    ]
    drawn = [(shown(clip, rate, 88, p), p) for clip, p in zip(a["drawn"], prompts[rows:], strict=True)]
    return {"sheets": sheets, "codec_clips": codec, "grid": grid, "drawn": drawn,
            "evaluated": [_evaluated(a, i, e, rate) for i, e in enumerate(about["evaluated"])]}  # fmt: skip


def _evaluated(arrays: dict[str, np.ndarray], i: int, about: dict[str, Any], rate: float) -> dict[str, Any]:
    """The samples of one bucket that were measured, and those nearest to a training clip beside it."""
    near = zip(*(arrays[f"{name}{i}"] for name in ("near_sample", "near_train")),
               about["distance"], about["asked"], about["captions"], strict=True)  # fmt: skip
    return about | {
        "clips": [(shown(c, rate, 72, p), p) for c, p in zip(arrays[f"sampled{i}"], about["prompts"], strict=True)],
        "near": [
            {"sample": shown(x, rate, 88, p), "train": shown(y, rate, 88, q), "distance": d, "asked": p, "caption": q}
            for x, y, d, p, q in near
        ],
    }


def _bright(error: np.ndarray) -> np.ndarray:
    """Absolute differences four times brighter."""
    return np.minimum(4 * error, 255).astype(np.uint8)


"""The report of a run: one HTML file that needs nothing beside it."""

import json
import math
import re
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from diorama.codec import PixelCodecConfig
from diorama.core.files import write_text
from diorama.evaluate import Score
from diorama.run import Folder, Run
from diorama.run.evaluate import kept_scores
from diorama.run.look import Look, look
from diorama.serve import plots
from diorama.serve.embed import TILE, joined, shown, strip
from diorama.serve.template import template
from diorama.train.log import read_log


def write_report(folder: Folder) -> Path:
    """Write `report.html` in the folder of a trained run and return its path.

    What needs the models is computed first (`diorama.run.look`) and kept, so writing again is quick. Scores are those
    of `diorama evaluate` for the run as it is now; where there are none the page says so in their place.

    Raises `UserError` when the run is not trained or its catalogue is gone.
    """
    seen = look(folder)
    run, scores = folder.run(), kept_scores(folder) or []
    logs = {stage: read_log(folder.path / stage) for stage in ("codec", "denoiser")}
    notes = {stage: folder.path / stage / "machine.json" for stage in logs}
    machines = {stage: json.loads(note.read_text()) for stage, note in notes.items() if note.exists()}
    held_back = seen.about["held_back"]
    figures = {
        "curves": plots.curves(logs["codec"], logs["denoiser"]) if logs["denoiser"] else "",
        "noise": plots.noise(seen.arrays, held_back),
        "weights": plots.weights(seen.arrays),
        "spectra": plots.spectra(seen.arrays),
    }
    page = template("report.html.j2", {"figure": _figure, "kinds": _counted, "shape": _shape}).render(
        run=run, path=_near(folder.path), about=seen.about, config=folder.config.read_text(), figures=figures,
        held="held-back clips" if held_back else "training clips (none is held back)",
        learned=_learned(run), learns_error=run.denoiser.denoiser.uncertainty is not None, what=_what(run, seen),
        facts=_facts(run, seen, logs, machines),
        commands=_commands(run, folder, seen), scores=_grouped(scores),
        jpeg=_beside_jpeg(_grouped(scores)), **_clips(run, seen),
    )  # fmt: skip
    path = folder.path / "report.html"
    write_text(path, page)
    return path


def _figure(score: float | None, digits: int = 3) -> str:
    """A number for a table, with `digits` digits that count or as many decimals."""
    if score is None or math.isnan(score):
        return "–"
    whole = len(str(int(abs(score)))) if abs(score) >= 1 else 0
    return f"{score:.1e}" if 0 < abs(score) < 10**-digits else f"{score:,.{max(0, digits - whole)}f}"


def _counted(counts: dict[str, int]) -> str:
    """Counts by name, as text."""
    return ", ".join(f"{n:,} {name}" for name, n in counts.items())


def _shape(bucket: str) -> str:
    """A bucket in words: "9x32x32" is "videos of 9 frames, 32 × 32"."""
    frames, height, width = map(int, bucket.split("x"))
    return (f"videos of {frames} frames" if frames > 1 else "stills") + f", {height} × {width}"


def _grouped(scores: Sequence[Score]) -> list[tuple[str, list[tuple[str, Score]]]]:
    """Scores by what they were measured on, each with its name alone: a run of several buckets names them in each."""
    groups: dict[str, list[tuple[str, Score]]] = {}
    for score in scores:
        name, _, bucket = score.name.rpartition(", ")
        one = re.fullmatch(r"\d+x\d+x\d+", bucket)
        name, group = (name, _shape(bucket)) if one else (score.name, "")
        groups.setdefault(group, []).append((re.sub(r", (video|still)$", "", name), score))
    return list(groups.items())


def _beside_jpeg(groups: list[tuple[str, list[tuple[str, Score]]]]) -> list[tuple[str, Score, Score]]:
    """The codec and JPEG at as many bits, with their PSNR and SSIM; empty where no stills were measured."""
    psnr, ssim = "PSNR (dB)", "SSIM"
    tables = [table for _, named in groups if (table := dict(named)) and f"JPEG {psnr}" in table]
    return [(who, table[f"{who} {psnr}"], table[f"{who} {ssim}"]) for table in tables for who in ("codec", "JPEG")]


def _what(run: Run, seen: Look) -> str:
    """One sentence: what the run is and what it learned from."""
    named = {"text": "steered by text", "label": "steered by class"}
    how = " and ".join(named.get(name, f"steered by {name}") for name in run.denoiser.denoiser.conditions)
    kinds = sorted({"images" if b.frames == 1 else "videos" for b in run.denoiser.buckets})
    origin = f"on the latents of the codec in “{run.codec.taken.path}”," if run.codec.taken else "from scratch"
    _, height, width = seen.about["bucket"].split("x")
    data = seen.about["data"]
    return (
        f"A generator of {' and '.join(kinds)} of {height} × {width} pixels, {how or 'without prompts'}, "
        f"trained {origin} on {seen.about['trained']:,} clips of “{data['name']}”."
    )


def _learned(run: Run) -> bool:
    """Whether the run has a codec that somebody trained."""
    return not isinstance(run.codec.codec, PixelCodecConfig)


def _facts(
    run: Run, seen: Look, logs: dict[str, list[dict[str, Any]]], machines: dict[str, dict[str, Any]]
) -> list[tuple[str, str, str]]:
    """What stands at the head of the page: name, value, and what is to say about it."""
    about, examples = seen.about, {stage: log[-1]["examples"] if log else 0 for stage, log in logs.items()}
    data, times = about["data"], {stage: _seconds(log) for stage, log in logs.items()}
    latents = " × ".join(map(str, about["codec"]["latents"]))
    stages = [stage for stage in ("codec", "denoiser") if examples[stage]]
    return [
        ("Trained on", f"{about['trained']:,} clips", f"of {data['clips']:,}: {_counted(data['kinds'])}"),
        ("Examples seen", f"{sum(examples.values()):,}", ", ".join(f"{s} {examples[s]:,}" for s in stages)),
        ("Training time", _duration(sum(times.values())), ", ".join(f"{s} {_duration(times[s])}" for s in stages)),
        ("Parameters", _millions(sum(about["parameters"].values())),
         ", ".join(f"{s} {_millions(n)}" for s, n in about["parameters"].items() if n)),
        ("Compression", f"{about['codec']['compression']:.3g}×" if _learned(run) else "none",
         f"latents {latents}" if _learned(run) else "works on pixels"),
        *_hardware(machines, about["machine"]),
    ]  # fmt: skip


def _hardware(machines: dict[str, dict[str, Any]], here: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What each stage was trained on, one line if it was the same; runs that did not note it show this machine."""
    seen = {json.dumps(m): (stage, m) for stage, m in machines.items()}
    named = {f"{stage} trained on".capitalize() if len(seen) > 1 else "Hardware": m for stage, m in seen.values()}
    return [(name, _devices(m), m["cpu"]) for name, m in (named or {"Pictures made on": here}).items()]


def _devices(machine: dict[str, Any]) -> str:
    devices = ", ".join(f"{n} {name}" for name, n in machine["devices"].items()) or f"{machine['cores']} CPU cores"
    return devices if machine["processes"] == 1 else f"{devices}, {machine['processes']} processes"


def _seconds(log: Sequence[dict[str, Any]]) -> float:
    """Time in training: the log's clock starts again whenever a run goes on, so its last reading of each start."""
    stops = [line for line, after in pairwise(log) if _started(line, after)]
    return sum(line["seconds"] for line in [*stops, *log[-1:]])


def _started(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether the run went on anew between two lines: less time went by than their examples took."""
    took = (after["examples"] - before["examples"]) / after["examples_per_second"]
    return after["seconds"] - before["seconds"] < 0.5 * took


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _millions(n: int) -> str:
    return f"{n / 1e6:.2f} M" if n >= 1e5 else f"{n:,}"


def _near(path: Path) -> Path:
    """A path as one would type it here."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _commands(run: Run, folder: Folder, seen: Look) -> list[tuple[str, str]]:
    """The command of each step, and what it does."""
    catalogue, name = _near(folder.catalogue().path), _near(folder.path)
    prompt = next((p for p in seen.about["samples"]["prompts"] if p), "") if folder.text_config() else ""
    asked = ("--prompt", prompt) if prompt else ()
    again = ("train", name / "config.txt", "--data", catalogue, "--out", name)
    commands = {
        "go on where it stopped; with another --out, do it again": again,
        "draw from it": ("sample", name, *asked),
        "measure it": ("evaluate", name),
        "write this page again": ("report", name),
    }
    return [(shlex.join(["diorama", *map(str, words)]), what) for what, words in commands.items()]


def _clips(run: Run, seen: Look) -> dict[str, Any]:
    """Every picture and clip of the page, as elements."""
    a, about = seen.arrays, seen.about
    rate, prompts = run.sampling.rate, about["samples"]["prompts"]
    error = np.minimum(4 * np.abs(a["held"].astype(np.int16) - a["again"]), 255).astype(np.uint8)
    own = about["samples"]["scales"].index(about["samples"]["own"])

    def sheet(clips: np.ndarray, names: Sequence[str]) -> list[tuple[Markup, str]]:
        return [(shown(clip, rate, name), name) for clip, name in zip(clips, names, strict=True)]

    return {
        "sheets": [(b, sheet(a[f"train{i}"], names)) for i, (b, names) in enumerate(about["data"]["captions"].items())],
        "codec_clips": [
            (shown(joined(three, 1), rate, "original, reconstruction, difference", 3 * TILE),
             strip(latents, "latents", TILE // min(len(latents), 3), frames=3))
            for *three, latents in zip(a["held"], a["again"], error, a["colours"], strict=True)
        ],
        "grid": [
            (prompt, shown(joined(row, 2), rate, prompt), strip(row[own], prompt))
            for row, prompt in zip(a["grid"], prompts, strict=False)
        ],
        "drawn": sheet(a["drawn"], prompts[len(a["grid"]) :]),
        "evaluated": [_evaluated(a, i, one, rate) for i, one in enumerate(about["evaluated"])],
        "tile": TILE * a["grid"].shape[-2] // a["grid"].shape[-3],
    }  # fmt: skip


def _evaluated(arrays: dict[str, np.ndarray], i: int, about: dict[str, Any], rate: float) -> dict[str, Any]:
    """The samples of one bucket that were measured, and those nearest to a training clip beside it."""
    near = zip(*(arrays[f"{name}{i}"] for name in ("near_sample", "near_train")),
               about["distance"], about["asked"], about["captions"], strict=True)  # fmt: skip
    return about | {
        "clips": [(shown(c, rate, p), p) for c, p in zip(arrays[f"sampled{i}"], about["prompts"], strict=True)],
        "near": [
            {"pair": shown(joined(pair, 2), rate, p), "distance": d, "asked": p, "caption": q}
            for *pair, d, p, q in near
        ],
    }

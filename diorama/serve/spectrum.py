"""The page about spectra of data or of a run: one HTML file that needs nothing beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from diorama.core.errors import UserError
from diorama.core.files import write_text
from diorama.process import RectifiedFlow
from diorama.process.spectrum import PowerLaw, band, drowning, octaves, power_law, share_in_space, share_in_time
from diorama.run import Folder
from diorama.run.spectrum import Seen, spectra_of_data, spectra_of_run
from diorama.serve.embed import TILE, joined, shown, strip
from diorama.serve.plots import INK, SERIES, STYLE, panels, svg
from diorama.serve.template import template

SHOWN = 4  # samples whose way is shown step by step
COLUMNS = 10  # steps of it
SECONDS = 3.0  # that a way takes to play
HELD = 6  # times that its end is held
DECIBELS = 12.0  # that the map's colours span, up and down
NAMES = {
    "data": ("data", SERIES[0], "-"), "again": ("reconstructions", SERIES[2], (0, (5, 1.5))),
    "drawn": ("samples", SERIES[1], (0, (5, 1.5))), "error": ("codec error", SERIES[4], "-"),
    "latents": ("latents of data", SERIES[3], "-"), "drawn_latents": ("sampled latents", SERIES[1], (0, (5, 1.5))),
}  # fmt: skip


def write_spectrum(of: Path, out: Path | None = None) -> tuple[Path, list[str]]:
    """Write `spectrum.html` of a run, a catalogue, a folder of media or one file; its path, and the figures that count.

    out: where to; if None, in the run or the catalogue, beside a file, and in a folder of media.
    Raises `UserError` where there is nothing to measure.
    """
    if not of.exists():
        raise UserError(f"there is no {of}: name a run, a catalogue, a folder of media, or a picture or video")
    run = (of / "config.txt").exists()
    seen = spectra_of_run(Folder.open(of)) if run else spectra_of_data(of)
    target = out or (of if of.is_dir() else of.parent) / "spectrum.html"
    kinds = [_kind(one) for one in seen]
    page = template("spectrum.html.j2", {"figure": "{:.3g}".format, "signed": _signed}).render(
        name=Folder.open(of).run().name if run else of.resolve().name, path=of, run=run, kinds=kinds, tile=TILE
    )
    write_text(target, page)
    return target, [line for one, kind in zip(seen, kinds, strict=True) for line in _lines(one, kind)]


def _kind(seen: Seen) -> dict[str, Any]:
    """One section of the page."""
    about, a = seen.about, seen.arrays
    frames, height, width = about["shape"]
    moving = "time_data" in a
    found = {
        "title": f"Videos of {frames} frames, {height} × {width}" if moving else f"Stills, {height} × {width}",
        "about": about, "moving": moving, "clips": [shown(clip, 8.0, "a clip") for clip in a["shown"]],
        "laws": _laws(a), "space": _octaves(a, "space", share_in_space(height, width)),
        "time": _octaves(a, "time", share_in_time(frames)) if moving else None,
        "figure_spectra": spectra(a), "figure_codec": codec(a) if "space_error" in a else None,
    }  # fmt: skip
    if "way" not in a:
        power = a["space_data"].mean(0)
        return found | {"drowned": _drowned(power, drowning(RectifiedFlow(), power)), "figure_drowning": None}
    rate = len(a["way"][0]) / SECONDS
    ways = ["way", "unguided"] if "unguided_drawn" in a else ["way"]
    found |= {
        "figures_way": [way(a, which) for which in ways],
        "drowned": None, "figure_drowning": None, "taus": _columns(a["taus"]),
        "film": shown(joined([_held(clip) for clip in a["way"]], 2), rate, "samples, from coarse to fine"),
        "strips": [strip(clip, prompt, TILE, COLUMNS)
                   for clip, prompt in zip(a["way"][:SHOWN], about["prompts"][:SHOWN], strict=True)],
    }  # fmt: skip
    if "drowns" in a:
        steps = [int((a["taus"][:-1] > tau).sum()) for tau in a["drowns"]]
        found |= {"drowned": _drowned(a["space_latents"].mean(0), a["drowns"], a["noise"], steps),
                  "figure_drowning": drowned(a)}  # fmt: skip
    return found


def _signed(value: float) -> str:
    return f"{value:+.2f}".removeprefix("+").replace("-", "−")


def _held(clip: np.ndarray) -> np.ndarray:
    return np.concatenate([clip, np.repeat(clip[-1:], HELD, axis=0)])


def _columns(taus: np.ndarray) -> list[float]:
    """The noise times of the pictures in a strip, the last of them finished."""
    return taus[np.linspace(0, len(taus) - 1, min(len(taus), COLUMNS)).round().astype(int)].tolist()


def _fitted(power: np.ndarray) -> PowerLaw | None:
    try:
        return power_law(power)
    except UserError:
        return None


def _laws(a: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Power laws of everything that has enough frequencies: exponent, its error, how it scatters from clip to clip."""
    rows = []
    for key, power in a.items():
        where, _, name = key.partition("_")
        law = _fitted(power.mean(0)) if where in ("space", "time") and name in NAMES else None
        if law is not None:
            each = [one.exponent for one in map(_fitted, power) if one is not None]
            rows.append({"of": NAMES[name][0], "where": where, "law": law, "band": band(power.shape[1]),
                         "spread": float(np.std(each)) if len(each) > 1 else None})  # fmt: skip
    return rows


def _octaves(a: dict[str, np.ndarray], where: str, share: np.ndarray) -> dict[str, Any]:
    """Variance by octave, in percent of that of the data's octaves together."""
    names = [name for name in ("data", "again", "error", "drawn") if f"{where}_{name}" in a]
    sums = {name: octaves(a[f"{where}_{name}"].mean(0), share) for name in names}
    whole = max(float(sums["data"].sum()), 1e-12)
    low = 2 ** np.arange(len(sums["data"]))
    high = np.minimum(2 * low - 1, len(share))
    rows = [
        (f"{i}" if i == j else f"{i} – {j}", [100 * float(sums[name][n]) / whole for name in names])
        for n, (i, j) in enumerate(zip(low, high, strict=True))
    ]
    return {"names": [NAMES[name][0] for name in names], "rows": rows}


def _drowned(
    power: np.ndarray, taus: np.ndarray, noise: np.ndarray | float = 1.0, steps: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """When frequencies drown, at the lower end of each octave and at the last frequency."""
    level = np.sqrt(power / noise)
    picked = sorted({int(k) for k in 2 ** np.arange(len(power).bit_length())} | {len(power)})
    return [{"k": k, "level": float(level[k - 1]), "tau": float(taus[k - 1]),
             "steps": steps[k - 1] if steps else None} for k in picked]  # fmt: skip


def _cycles(axis: Axes, n: int, label: str = "cycles over the shorter side") -> None:
    axis.set(xscale="log", xlabel=label, xlim=(0.9, 1.1 * n))
    axis.xaxis.set_major_locator(LogLocator(base=2))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _lined(axis: Axes, a: dict[str, np.ndarray], keys: Sequence[str], fitted: str) -> None:
    """Spectra by name, and the power law of `fitted` where there is one."""
    for key in keys:
        name, colour, dash = NAMES[key.partition("_")[2]]
        power = np.maximum(a[key].mean(0), 1e-12)  # of blank pictures
        axis.plot(np.arange(1, len(power) + 1), power, color=colour, ls=dash, label=name,
                  marker="o" if len(power) < 12 else None)  # fmt: skip
    power = a[fitted].mean(0)
    if law := _fitted(power):
        low, high = band(len(power))
        k = np.array([low, high])
        axis.plot(
            k,
            law(k),
            color=INK,
            lw=1,
            ls=(0, (4, 3)),
            label=f"k^{law.exponent:.2f} ± {law.error:.2f}".replace("-", "−"),
        )
    axis.set_yscale("log")
    least, most = axis.get_ylim()
    if most < 100 * least:  # few decades: plain numbers
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if most < 20 * least else (1.0, 3.0)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.legend(fontsize=8)


def spectra(a: dict[str, np.ndarray]) -> Markup:
    """Power in space, in time, and of latents."""
    media = [name for name in ("data", "again", "drawn") if f"space_{name}" in a]
    drawn = [("Pictures, in space", [f"space_{name}" for name in media], "cycles over the shorter side")]
    if "time_data" in a and a["time_data"].shape[1] > 1:
        drawn.append(("Pictures, in time", [f"time_{name}" for name in media], "cycles over the clip"))
    if "space_latents" in a:
        drawn.append(("Latents, in space", ["space_latents", "space_drawn_latents"], "cycles over the shorter side"))
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(len(drawn))
        for axis, (title, keys, label) in zip(axes, drawn, strict=True):
            _lined(axis, a, keys, keys[0])
            axis.set(title=title, ylabel="power")
            _cycles(axis, a[keys[0]].shape[1], label)
        return svg(figure, "Power spectra")


def codec(a: dict[str, np.ndarray]) -> Markup:
    """What the codec loses by frequency, and latents beside pixels, each over its own mean power."""
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(1 + ("space_latents" in a))
        data, error = a["space_data"].mean(0), a["space_error"].mean(0)
        k = np.arange(1, len(data) + 1)
        axes[0].plot(k, 100 * error / np.maximum(data, 1e-12), color=SERIES[4], label="in space")
        if "time_error" in a:
            share = 100 * a["time_error"].mean(0) / np.maximum(a["time_data"].mean(0), 1e-12)
            axes[0].plot(np.arange(1, len(share) + 1), share, color=SERIES[2], marker="o", label="in time")
        axes[0].axhline(100, color=INK, lw=1, ls=(0, (4, 3)))
        axes[0].set(title="Codec error", ylabel="percent of the data's power", yscale="log")
        axes[0].legend(fontsize=8)
        _cycles(axes[0], len(data), "cycles")
        for axis in axes[1:]:
            for name, label in (("data", "pixels"), ("latents", "latents")):
                power = a[f"space_{name}"].mean(0)
                axis.plot(np.arange(1, len(power) + 1), power / power[0], color=NAMES[name][1], label=label,
                          marker="o" if len(power) < 12 else None)  # fmt: skip
            axis.set(title="Latents against pixels", ylabel="power over that of one cycle", yscale="log")
            axis.legend(fontsize=8)
            _cycles(axis, len(data))
        return svg(figure, "What the codec does to each frequency")


def way(a: dict[str, np.ndarray], which: str) -> Markup:
    """Power of the predicted x0 over (step, frequency), in decibels above what the finished samples have.

    which: "way", as the run draws, or "unguided".
    """
    shown_of = [name for name in ("drawn", "latents") if f"{which}_{name}" in a]
    taus = a["taus"][:-1]
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = panels(2)
        for axis, name in zip(axes, shown_of, strict=False):
            *steps, power = np.maximum(a[f"{which}_{name}"], 1e-12)
            found = 10 * np.log10(steps / power)
            around = (0.5, len(power) + 0.5, len(taus) - 0.5, -0.5)
            image = axis.imshow(
                found, "RdBu_r", vmin=-DECIBELS, vmax=DECIBELS, aspect="auto", interpolation="nearest", extent=around
            )
            axis.set(title="Latents" if name == "latents" else "Pictures", xlabel="cycles over the shorter side",
                     ylabel="step, and its noise time")  # fmt: skip
            rows = np.linspace(0, len(taus) - 1, min(len(taus), 7)).round().astype(int)
            axis.set_yticks(rows, [f"{row + 1}:  τ {taus[row]:.2f}" for row in rows])
            axis.set_xticks(sorted({1, *np.linspace(1, len(power), min(len(power), 8)).round().astype(int).tolist()}))
            if name == "latents":
                least = np.minimum.accumulate(taus)  # restarts go back up
                at = np.interp(-a["drowns"], -least, np.arange(len(taus)))
                axis.plot(np.arange(1, len(power) + 1), at, color="#000000", marker="o", lw=1.4, label="drowns")
        for axis in axes[len(shown_of) :]:
            axis.set_axis_off()
        bar = figure.colorbar(image, ax=axes, shrink=0.9, label="dB above the finished sample")
        bar.outline.set_visible(False)  # type: ignore[operator]
        return svg(figure, "Power of each step's prediction by frequency")


def drowned(a: dict[str, np.ndarray]) -> Markup:
    """The noise time at which each frequency drowns, among those that sampling visits."""
    k, taus = np.arange(1, len(a["drowns"]) + 1), a["taus"]
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = panels(2)
        left, right = axes
        for tau in taus:
            left.axhline(tau, color=SERIES[0], lw=0.7, alpha=0.5)
        left.plot(k, a["drowns"], color=SERIES[1], marker="o", label="drowns here")
        left.fill_between(k, a["drowns"], 1, color=SERIES[1], alpha=0.12, lw=0)
        left.set(title="When each frequency drowns, and the steps of sampling", ylabel="noise time τ", ylim=(0, 1))
        _cycles(left, len(k))
        right.plot(k, a["space_latents"].mean(0), color=SERIES[3], marker="o", label="latents of data")
        for i in np.linspace(0, len(taus) - 1, 5).round().astype(int)[1:-1]:
            right.plot(
                k, np.exp(-a["logsnr"][i]) * a["noise"], lw=1, ls=(0, (4, 3)), label=f"noise at τ = {taus[i]:.2f}"
            )
        right.set(title="Signal and noise", ylabel="power over α²", yscale="log")
        figure.set_figheight(3.5)
        figure.legend(*right.get_legend_handles_labels(), fontsize=8, loc="outside lower right", ncols=4)
        _cycles(right, len(k))
        return svg(figure, "When each frequency drowns")


def _lines(seen: Seen, kind: dict[str, Any]) -> list[str]:
    """The main figures, for the terminal."""
    about = seen.about
    lines = [
        f"{kind['title']}: {about['n']} clip{'s' * (about['n'] != 1)}"
        + (f", {about['drawn']} samples" if "drawn" in about else "")
        + (f"; {about['left_out']} smaller or shorter left out" if about.get("left_out") else "")
    ]
    lines += [
        f"  {row['of']}, in {row['where']}: power goes as k^{row['law'].exponent:.2f} ± {row['law'].error:.2f}"
        for row in kind["laws"]
    ]
    if kind["drowned"]:
        told = ", ".join(f"{row['k']} cycle{'s' * (row['k'] > 1)} at {row['tau']:.2f}" for row in kind["drowned"])
        what = "latents drown" if "drowns" in seen.arrays else "pixels drown in rectified flow"
        lines.append(f"  {what} at noise time: {told}")
    for alarm in about.get("alarms", []):
        if alarm["verdict"]:
            lines.append(
                f"  GRID in {alarm['of']}: every {alarm['period']} pixels, {alarm['amplitude']:.2g} grey levels"
            )
    if about.get("alarms") and not any(alarm["verdict"] for alarm in about["alarms"]):
        lines.append("  no grid in samples or reconstructions")
    return lines

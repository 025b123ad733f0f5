"""The report's figures, as SVG that takes its colours from the page, so that one drawing reads in light and dark."""

import io
import re
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import matplotlib
import numpy as np
from cycler import cycler
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from diorama.process.peers import PEERS
from diorama.process.weighting import effective

# matplotlib draws in stand-in colours, which become the page's CSS variables.
INK, RULE, *SERIES = (f"#00000{i}" for i in range(1, 8))
_VARIABLES = {INK: "var(--ink)", RULE: "var(--rule)"} | {c: f"var(--s{i})" for i, c in enumerate(SERIES, 1)}
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "diorama", "font.family": "sans-serif", "font.size": 9,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": RULE,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.titlesize": 9.5, "axes.titlelocation": "left",
    "axes.titleweight": "bold", "axes.titlepad": 10, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": RULE, "grid.linewidth": 0.6, "xtick.major.size": 0, "ytick.major.size": 0,
    "xtick.minor.size": 0, "ytick.minor.size": 0, "lines.linewidth": 1.8, "lines.markersize": 3.5,
    "legend.frameon": False, "legend.labelcolor": INK, "axes.prop_cycle": cycler(color=SERIES),
}  # fmt: skip


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of `count` drawings in a row."""
    figure = Figure(figsize=(10.2, 3.1 if count > 1 else 3.4), layout="constrained")
    FigureCanvasSVG(figure)
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr,call-arg]
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def svg(figure: Figure, name: str) -> Markup:
    """The drawing as an element; `name` says to a reader who cannot see it what it shows."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, variable)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)  # the page's own letters
    label = Markup.escape(name)
    return Markup(text.replace("<svg", f'<svg class="plot" role="img" aria-label="{label}"', 1))


def _examples(axis: Axes) -> None:
    axis.set_xlabel("examples seen")
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}"))


def _log_ticks(axis: Any) -> None:
    """Few plain numbers on a logarithmic axis, also where it spans less than a decade."""
    low, high = axis.get_view_interval()
    wide = high > 20 * low
    axis.set_major_locator(LogLocator(subs=(1.0,) if high > 1000 * low else (1.0, 3.0) if wide else (1.0, 2.0, 5.0)))
    if high < 4 * low:
        axis.set_major_locator(MaxNLocator(4))
    axis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axis.set_minor_formatter(NullFormatter())


def _line(axis: Axes, log: Sequence[dict[str, Any]], key: str, label: str, **how: Any) -> None:
    points = [(line["examples"], line[key]) for line in log if line.get(key) is not None]
    axis.plot(*zip(*points, strict=True), label=label, marker="o" if len(points) < 4 else None, **how)


def curves(codec: Sequence[dict[str, Any]], denoiser: Sequence[dict[str, Any]]) -> Markup:
    """Training curves out of the logs' lines; the codec's panel is left out where nothing was trained."""
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(3 if codec else 2)
        if codec:
            axis = axes.pop(0)
            _line(axis, codec, "psnr", "PSNR")
            axis.set(title="Codec: reconstruction", ylabel="PSNR of training batches, dB")
            _examples(axis)
        whole, parts = axes
        _line(whole, denoiser, "loss", "loss")
        for key, label in (("validation", "held-back clips"), ("validation_train", "training clips, same noise")):
            if any(key in line for line in denoiser):
                _line(whole, denoiser, key, label)
                whole.legend(fontsize=8)
        learned = any(line["loss"] <= 0 for line in denoiser)  # with an uncertainty, a loss is a logarithm
        scale = "linear" if learned else "log"
        whole.set(title="Denoiser: training loss", yscale=scale, ylabel="loss" if learned else "weighted loss")
        bands = sorted({key for line in denoiser for key in line if key.startswith("loss_tau")})
        for i, key in enumerate(bands):
            _line(parts, denoiser, key, f"{i / len(bands):g} – {(i + 1) / len(bands):g}")
        parts.set(title="Denoiser: by noise time", yscale="log", ylabel="weighted loss")
        parts.legend(title="noise time τ", ncols=2, fontsize=8, title_fontsize=8)
        for axis in (whole, parts):
            _examples(axis)
            if axis.get_yscale() == "log":
                _log_ticks(axis.yaxis)
        return svg(figure, "Training curves of the codec and the denoiser")


def noise(look: dict[str, np.ndarray], held_back: bool) -> Markup:
    """Loss and error of the clean latents by noise time; training clips alone where none were held back."""
    tau, kinds = look["taus"], [("train", "training clips", SERIES[1]), ("held", "held-back clips", SERIES[0])]
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(2)
        left, right = axes
        for axis, key in ((left, "loss"), (right, "x0")):
            axis.plot(tau, look[f"{key}_blind"], color=INK, lw=1, ls=(0, (4, 3)), label="knows mean and variance only")
            for kind, label, colour in kinds[: 1 + held_back]:
                axis.plot(tau, look[f"{key}_{kind}"], color=colour, label=label)
            axis.set(xlim=(0, 1), xlabel="noise time τ   (0 = data, 1 = noise)", ylim=(0, 1.3 * axis.get_ylim()[1]))
        kind, _, colour = kinds[held_back]
        middle, spread = look[f"loss_{kind}"], look[f"spread_{kind}"]
        left.fill_between(tau, middle - spread, middle + spread, color=colour, alpha=0.2, lw=0)
        behind = left.twinx()
        behind.fill_between(tau, look["density"], color=SERIES[2], alpha=0.16, lw=0, label="how often trained on")
        behind.set(ylim=(0, 2.6 * float(look["density"].max())), yticks=[])
        behind.spines[:].set_visible(False)
        left.set(title="Loss, weighted as in training", ylabel="mean over numbers of a latent")
        right.set(title="Error of the clean latents (x0)", ylabel="mean square error")
        handles = [h for axis in (left, behind) for h in axis.get_legend_handles_labels()[0]]
        left.legend(handles=handles, fontsize=8, ncols=2, loc="upper center")
        right.legend(fontsize=8, loc="upper left")
        return svg(figure, "Loss by noise time")


def weights(look: dict[str, np.ndarray]) -> Markup:
    """The effective weight of the run over logsnr, and those of well-known models, each over its own at logsnr 0."""
    with matplotlib.rc_context(STYLE):
        figure, (axis,) = panels(1)
        for i, (name, (process, weighting, law)) in enumerate(PEERS.items()):
            logsnr = np.linspace(-10.0, 10.0, 81)
            taus = process.tau_of_logsnr(jnp.asarray(logsnr))
            peer = np.asarray(effective(process, weighting, law, taus))
            dash = (0, (4, 2)) if i < 3 else (0, (1.5, 1.5))
            axis.plot(logsnr, peer / peer[40], color=SERIES[1 + i % 3], lw=1.1, ls=dash, label=name)
        logsnr, own = look["logsnr"], look["effective"]
        middle = np.abs(logsnr).argmin()
        own = own / (own[middle] or own.max())
        axis.plot(logsnr[own > 0], own[own > 0], color=SERIES[0], lw=2.4, label="this run")
        axis.set(title="Effective weight", ylabel="w, over that at logsnr 0", yscale="log", ylim=(2e-3, 200),
                 xlim=(-10, 10), xlabel="logsnr   (noise on the left, data on the right)")  # fmt: skip
        _log_ticks(axis.yaxis)
        axis.legend(fontsize=8, ncols=2)
        return svg(figure, "Effective weight over logsnr")


def spectra(look: dict[str, np.ndarray]) -> Markup:
    """Radially averaged power of media and of latents: data's, the codec's and, where there are any, the samples'."""
    media = [("spectrum_data", "data"), ("spectrum_again", "reconstructions"), ("spectrum_drawn", "samples")]
    latents = [("spectrum_latents", "latents of data"), ("spectrum_drawn_latents", "sampled latents")]
    same = np.array_equal(look["spectrum_data"], look["spectrum_latents"])  # a codec of pixels
    media = [media[0], media[2]] if same else media
    drawn = [("Pictures", "power of pixels in [−1, 1]", media), ("Latents", "power of latents", latents)]
    drawn = [p for p in drawn if len(look[p[2][0][0]]) > 1 and not (same and p[0] == "Latents")]
    colours = {"spectrum_again": SERIES[2], "spectrum_drawn": SERIES[1], "spectrum_drawn_latents": SERIES[1]}
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(len(drawn))
        for axis, (title, unit, lines) in zip(axes, drawn, strict=True):
            for key, label in ((key, label) for key, label in lines if key in look):
                power = look[key]
                axis.plot(np.arange(1, len(power) + 1), power, color=colours.get(key, SERIES[0]), label=label,
                          ls="-" if key in ("spectrum_data", "spectrum_latents") else (0, (5, 1.5)),
                          marker="o" if len(power) < 12 else None)  # fmt: skip
            axis.set(title=title, ylabel=unit, xlabel="cycles over the shorter side", xscale="log", yscale="log")
            _log_ticks(axis.yaxis)
            axis.set_xlim(0.9, 1.1 * len(look[lines[0][0]]))
            axis.xaxis.set_major_locator(LogLocator(base=2))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.legend(fontsize=8)
        return svg(figure, "Radially averaged power spectra")

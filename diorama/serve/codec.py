"""The report on a run's codec: one HTML file that needs nothing beside it."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from diorama.codec.loss import Perceptual
from diorama.core.files import write_text
from diorama.evaluate.rate import OURS
from diorama.run import Folder
from diorama.run.diagnose import LEAST, STEP, Diagnosis, diagnose
from diorama.serve.embed import TILE, shown, strip
from diorama.serve.plots import SERIES, STYLE, panels, spectra, svg
from diorama.serve.template import template

DEAD = 0.01  # decibels: a channel worth less holds nothing that can be seen


def write_codec_report(folder: Folder, lpips: Perceptual | None = None) -> Path:
    """Write `codec.html` in the folder of a run whose codec is trained, and return its path.

    lpips: what judges pictures, beside the pixels; if None, the run's own perceptual network, where it has one.
    Raises `UserError` as `diagnose`.
    """
    run, seen = folder.run(), diagnose(folder, lpips)
    page = template("codec.html.j2", {"figure": "{:.4g}".format}).render(
        run=run, codec=folder.codec_config(), path=folder.path, tile=TILE, step=STEP, least=LEAST,
        kinds=[_kind(one, run.sampling.rate) for one in seen],
    )  # fmt: skip
    path = folder.path / "codec.html"
    write_text(path, page)
    return path


def _kind(seen: Diagnosis, rate: float) -> dict[str, Any]:
    """One section of the page."""
    about, a = seen.about, seen.arrays
    frames, height, width = map(int, about["bucket"].split("x"))
    names = [row["name"] for row in about["equal"]]
    error = np.minimum(4 * np.abs(a["media"].astype(np.int16) - a["again"]), 255).astype(np.uint8)
    return {
        "title": f"Videos of {frames} frames, {height} × {width}" if frames > 1 else f"Stills, {height} × {width}",
        "about": about,
        "resized": about["equal"][-1]["measures"],
        "dead": sum(worth < DEAD for worth in about["importance"]),
        "figures": [rates(seen), spectra(a), channels(seen)],
        "coded": [
            (shown(clip, rate, "original"), shown(again, rate, "reconstruction"), shown(off, rate, "error, four times"),
             strip(latents, "latents", TILE // min(len(latents), 3), frames=3))
            for clip, again, off, latents in zip(a["media"], a["again"], error, a["colours"], strict=True)
        ],
        "names": ["original", *names],
        "equal": [
            [shown(clip, rate, name) for name, clip in zip(["original", *names], row, strict=True)]
            for row in zip(a["media"], *(a[f"equal_{name}"] for name in names), strict=True)
        ],
    }  # fmt: skip


def rates(seen: Diagnosis) -> Markup:
    """PSNR and SSIM against bits a pixel, ours and the codecs of the world."""
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(2)
        for axis, key, label in zip(axes, ("psnr", "ssim"), ("PSNR, dB", "SSIM"), strict=True):
            for curve, colour in zip(seen.curves, SERIES, strict=False):
                axis.plot([p.bits for p in curve.points], [getattr(p, key) for p in curve.points], marker="o",
                          color=colour, label=curve.name, lw=2.4 if curve.name == OURS else 1.4)  # fmt: skip
            axis.set(xscale="log", xlabel="bits a pixel", ylabel=label)
            axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.legend(fontsize=8)
        axes[0].set(title="Quality at equal bits")
        return svg(figure, "Rate and distortion")


def channels(seen: Diagnosis) -> Markup:
    """What each channel of the latents is worth."""
    worth = np.sort(seen.about["importance"])[::-1]
    with matplotlib.rc_context(STYLE):
        figure, [axis] = panels(1)
        axis.bar(np.arange(1, len(worth) + 1), np.maximum(worth, 0), color=SERIES[0], zorder=2)
        axis.set(title="What each channel is worth", xlabel="channels, by worth",
                 ylabel="PSNR lost without it, dB")  # fmt: skip
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        return svg(figure, "What each channel is worth")

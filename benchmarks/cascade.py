"""Super-resolution by the stages of a cascade: from true and from drawn clips, over the noise that is added to them.

Install:   python -m pip install -e .
Command:   python -m benchmarks.cascade RUN [--clips 64] [--levels 0,0.1,0.2,0.3,0.5]
Hardware:  two CPU cores; a minute or so for each stage and level of `weizmann_cascade`.

RUN is a trained cascade. Each later stage draws, for the prompts of held-back clips,

- from the true low resolution: PSNR of new frames (all of them where pixels are added) against the true ones, beside
  bicubic enlargement with a linear blend in time, and nearest with frames held;
- from what the stages before drew: how well the result, made smaller again, agrees with that (there is no truth);
- Fréchet distance to training clips of both, on 8 x 8 grey pixels of each frame: what is lost to drawn input is the
  cascade's gap. Held-back clips in their place are the floor.

Writes RUN/evaluation/stages.json and stages.png.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np

from diorama.evaluate import generation_scores, pixels, psnr
from diorama.run.cascade import Cascaded
from diorama.run.evaluate import enlargement
from diorama.run.examples import clips, media_of, some
from diorama.run.resolution import low_of, lowered

matplotlib.use("agg")
import matplotlib.pyplot as plt


def measured(drawer: Cascaded, number: int, levels: list[float], most: int) -> list[dict[str, float | str]]:
    """Rows of the table, one a level, of a stage after the base."""
    each, stage = drawer.generators[number], drawer.cascade.stages[number]
    bucket = stage.denoiser.buckets[0]
    _, config = stage.denoiser.denoiser.low  # type: ignore[misc]
    held, train = (clips(each.folder.catalogue(), bucket, split) for split in ("test", "train"))
    assert held is not None
    assert train is not None
    rows = some(len(held), most, stage.seed)
    real, seen = media_of(held, rows), media_of(train, some(len(train), 16 * most, stage.seed))
    prompts, labels, ids = [held.captions[i] for i in rows], held.labels[rows], np.arange(len(rows))
    below = replace(drawer.cascade, stages=drawer.cascade.stages[: number + 1])
    drawn = None
    for i, shape in enumerate(below.way(bucket)[:-1]):
        drawn = drawer.generators[i].draw(prompts, labels, ids=ids, bucket=shape, low=drawn)
    out: list[dict[str, float | str]] = []
    true = low_of(each.run, real)
    assert true is not None
    assert drawn is not None
    for level in levels:
        how = replace(each.run.sampling, augmentation=level)
        made = {
            name: each.draw(prompts, labels, ids=ids, bucket=bucket, sampling=how, low=low, seed=number)
            for name, low in (("true", true), ("drawn", drawn))
        }
        row: dict[str, float | str] = {"stage": stage.name, "level": level, "n": len(real)}
        row |= {score.name: score.value for score in enlargement(each.run, true, made["true"], real)}
        for name, low in (("true", true), ("drawn", drawn)):
            again = np.stack([lowered(clip, config) for clip in made[name]])
            row[f"agrees with {name} input (dB)"] = float(psnr(low, again).mean())
            for score in generation_scores(made[name], seen, real, pixels(), stage.seed)[:1]:  # none of too few clips
                row |= {f"FD from {name}": score.value, "FD of held-back clips": score.floor or 0.0}
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
        out.append(row)
    return out


def draw(rows: list[dict[str, float | str]], path: Path) -> None:
    """Two panels a stage: PSNR by noise level beside the plain ways, and Fréchet distances."""
    names = list(dict.fromkeys(str(row["stage"]) for row in rows))
    figure, axes = plt.subplots(len(names), 2, figsize=(9, 3.2 * len(names)), squeeze=False, layout="constrained")
    for (left, right), name in zip(axes, names, strict=True):
        mine = [row for row in rows if row["stage"] == name]
        levels = [row["level"] for row in mine]
        for axis, mark, title in ((left, "PSNR", "PSNR of new frames (dB)"), (right, "FD", "Fréchet distance")):
            for key in (key for key in mine[0] if mark in key):
                flat = "bicubic" in key or "nearest" in key or "held-back" in key
                axis.plot(
                    levels, [row[key] for row in mine], "--" if flat else "o-", label=key.removesuffix(" PSNR (dB)")
                )
            axis.set(xlabel="noise level of the low resolution", title=f"{name}: {title}")
            axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--levels", default="0,0.1,0.2,0.3,0.5")
    args = parser.parse_args()
    drawer, levels = Cascaded.load(args.run), [float(level) for level in args.levels.split(",")]
    rows = [row for i in range(1, len(drawer.generators)) for row in measured(drawer, i, levels, args.clips)]
    where = args.run / "evaluation"
    where.mkdir(exist_ok=True)
    (where / "stages.json").write_text(json.dumps(rows, indent=1) + "\n")
    draw(rows, where / "stages.png")
    print(where / "stages.png")


if __name__ == "__main__":
    main()

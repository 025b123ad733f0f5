"""Scaling on paper: memory and communication of large video transformers on many devices, from compiled programs.

Command:   python -m benchmarks.scaling --devices 64          (then 256, 512; rows that are there are not made again)
           python -m benchmarks.scaling --plot                (docs/scaling.png and the tables of docs/scaling.md)
Hardware:  any; a row takes one to several minutes on two cores, and up to 4 GB of memory.

Nothing is allocated or run: each row is the training step of `diorama train`, compiled for simulated devices
(`diorama/run/plan/compiled.py`), of this project's transformer on latents of 16 channels with text. Rows are kept in
docs/scaling.json, one after another. Times are those of the roofline model on H100s, eight to a node.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from diorama.codec import PixelCodecConfig
from diorama.core.chips import Chip, chip
from diorama.core.module import Policy
from diorama.diffusion import DenoiserConfig
from diorama.net import TextConfig, TransformerConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Run
from diorama.run.plan.compiled import Compiled, Job
from diorama.run.plan.plan import compile_all, size
from diorama.run.plan.roofline import seconds
from diorama.train import Train

ROOT = Path(__file__).resolve().parents[1]
ROWS, FIGURE = ROOT / "docs" / "scaling.json", ROOT / "docs" / "scaling.png"
MODELS = {"2B": (2048, 30, 16), "14B": (5120, 34, 40)}  # width, depth, heads
CLIPS = {1_024: (4, 32, 32), 102_400: (25, 128, 128)}  # latents (t, h, w) of so many tokens
PER_DEVICE = {1_024: 8, 102_400: 1}  # clips in a batch for each device


def layouts(devices: int) -> dict[str, dict[str, int]]:
    """What is compared, by name: within a node of eight, all axes but data and fsdp."""
    return {
        "fsdp": {"fsdp": devices},
        "data x 8 fsdp": {"data": devices // 8, "fsdp": 8},
        "fsdp x 8 tensor": {"fsdp": devices // 8, "tensor": 8},
        "fsdp x 8 sequence": {"fsdp": devices // 8, "sequence": 8},
        "data": {"data": devices},
    }


def run_of(model: str, tokens: int, batch: int) -> Run:
    """Training of a transformer on clips of so many tokens; all scores of many would not fit, so those go in pieces."""
    (width, depth, heads), (t, h, w) = MODELS[model], CLIPS[tokens]
    net = TransformerConfig(
        width=width, depth=depth, heads=heads, modulation="shared", mixing=False, previous=False, remat="full",
        attention="xla" if tokens == 1_024 else "chunked",
    )  # fmt: skip
    return Run(
        name=f"scaling {model}",
        codec=CodecStage(codec=PixelCodecConfig(channels=16)),
        denoiser=DenoiserStage(
            denoiser=DenoiserConfig(net=net, conditions={"text": TextConfig(vocabulary=32_768, length=128, heads=8)}),
            buckets=(Bucket(frames=t, height=h, width=w, batch=batch),),
            train=Train(examples=1_000_000, policy=Policy(compute="bfloat16")),
        ),
    )


def h100() -> Chip:
    """With memory for anything: what does not fit is to be seen."""
    known = chip("h100")
    assert known is not None
    return replace(known, memory=1 << 60)


def rows() -> dict[str, Any]:
    """What was found so far, by key."""
    return json.loads(ROWS.read_text()) if ROWS.exists() else {}


def make(devices: int, models: list[str], tokens: list[int], names: list[str]) -> None:
    """Compile what is not there yet, and keep it."""
    for model in models:
        for n in tokens:
            run = run_of(model, n, PER_DEVICE[n] * devices)
            for name, layout in layouts(devices).items():
                key = f"{model} {n} {devices} {name}"
                if key in rows() or (names and name not in names):
                    continue
                [(_, answer)] = compile_all(run, [Job("denoiser", 0, layout)], devices, h100(), "rows")
                found = {"refused": answer} if isinstance(answer, str) else asdict(answer)
                ROWS.write_text(json.dumps(rows() | {key: found}, indent=1) + "\n")
                print(key, answer if isinstance(answer, str) else size(answer.memory.total), flush=True)


def main() -> None:
    """Make rows, or draw them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[64])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--tokens", type=int, nargs="+", default=list(CLIPS), choices=list(CLIPS))
    parser.add_argument("--layouts", nargs="+", default=[], help="some of: " + ", ".join(layouts(64)))
    parser.add_argument("--plot", action="store_true")
    options = parser.parse_args()
    if options.plot:
        table()
        plot()
        return
    for devices in options.devices:
        make(devices, options.models, options.tokens, options.layouts)


def _order(key: str) -> tuple[float, int, int, str]:
    """By model, tokens, devices and layout."""
    model, tokens, devices, name = key.split(" ", 3)
    return float(model[:-1]), int(tokens), int(devices), name


def table() -> None:
    """The rows as Markdown: bytes of one device, and the step's least time."""
    print("| model | tokens | devices | layout | state | temporary | total | sent | computing | memory | sending |")
    print("|---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|")
    for key, row in sorted(rows().items(), key=lambda each: _order(each[0])):
        model, tokens, devices, name = key.split(" ", 3)
        if "refused" in row:
            print(f"| {model} | {int(tokens):,} | {devices} | {name} | {row['refused']} | | | | | | |")
            continue
        found = Compiled.read(row)
        took, held = seconds(found, h100(), int(devices), "bfloat16"), found.memory
        state, sent = held.parameters + held.optimizer + held.averages, sum(each.bytes for each in found.collectives)
        times = " | ".join(f"{x:.2f} s" for x in (took.compute, took.memory, took.communication))
        print(
            f"| {model} | {int(tokens):,} | {devices} | {name} | {size(state)} | {size(held.temporary)} | "
            f"{size(held.total)} | {size(sent)} | {times} |"
        )


def plot() -> None:
    """Memory and what is sent, of one device, by model and tokens, devices and layout."""
    import matplotlib.pyplot as plt

    found = {tuple(key.split(" ", 3)): Compiled.read(row) for key, row in rows().items() if "refused" not in row}
    shown = sorted({key[:2] for key in found}, key=lambda key: (float(key[0][:-1]), int(key[1])))
    figure, axes = plt.subplots(2, len(shown), figsize=(3.4 * len(shown), 5.6), squeeze=False)
    for column, (model, tokens) in enumerate(shown):
        for name in layouts(64):
            at = sorted(
                (int(key[2]), row) for key, row in found.items() if key[:2] == (model, tokens) and key[3] == name
            )
            for i, of in enumerate(
                (lambda row: row.memory.total, lambda row: sum(each.bytes for each in row.collectives))
            ):
                axes[i][column].plot([n for n, _ in at], [of(row) / 1e9 for _, row in at], "o-", label=name, ms=4)
        axes[0][column].axhline((81_559 << 20) / 1e9, color="gray", lw=0.8, ls="--")
        axes[0][column].set_title(f"{model}, {int(tokens):,} tokens", fontsize=10)
        for i, what in enumerate(("memory of a device, GB", "sent by a device a step, GB")):
            axes[i][column].set(xscale="log", yscale="log", xlim=(50, 650), ylim=(1, (1e3, 1e4)[i]))
            axes[i][column].minorticks_off()
            axes[i][column].set(xticks=(64, 256, 512), xticklabels=("64", "256", "512"))
            if column == 0:
                axes[i][column].set_ylabel(what, fontsize=9)
        axes[1][column].set_xlabel("devices", fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=len(labels), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(FIGURE, dpi=110)


if __name__ == "__main__":
    main()

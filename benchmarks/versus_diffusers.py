"""Sampling against diffusers: the same transformer, weights, noise, steps and guidance, each with its own loop.

Install:   python -m pip install -e . 'torch==2.13.0' 'diffusers==0.42.1'     (without a GPU: PyTorch's "cpu" wheel)
Command:   taskset -c 0,1 python -m benchmarks.versus_diffusers
Hardware:  two CPU cores with nothing else on them, 5 minutes; a C++ compiler for torch.compile.

A transformer in the place of the demo's U-Net, 16 videos, 20 steps, guided. Ours is one compiled program for noise to
latents; theirs is the network in PyTorch under diffusers' scheduler, as its pipelines go: conditional and unconditional
as one batch, the text encoded once. Both must give the same latents. Contenders take turns; a ratio above 1 means that
Diorama is faster. The last line is JSON.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from benchmarks.demo import SEED, Demo
from benchmarks.torch_denoiser import Denoiser
from benchmarks.versus_torch import OURS, STEPS, Pair, begin, compare, take_turns
from diorama.core.random import normal, stream
from diorama.net import TransformerConfig

TRAIN = 1000  # diffusers' time is tau x 1000


@torch.inference_mode()
def draw(
    forward: Callable[..., Any],
    model: Denoiser,
    x: Any,
    ids: Any,
    taus: np.ndarray,
    scale: float,
) -> Any:
    """Noise `x` to latents by a scheduler of diffusers, which has no axis of frames: it sees them as one picture."""
    b, t = x.shape[:2]
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=taus[:-1].tolist(), num_inference_steps=len(taus) - 1)
    context = model.text(ids.repeat(2, 1), torch.arange(2 * b) < b)
    for time in scheduler.timesteps:
        tau = torch.full((2 * b, t), float(time) / TRAIN)
        with_text, without = forward(x.repeat(2, 1, 1, 1, 1), tau, *context).chunk(2)
        x = scheduler.step(torch.lerp(without, with_text, scale), time, x, return_dict=False)[0]
    return x


def main() -> None:
    options, report = begin(__doc__)
    demo = Demo(TransformerConfig())
    pair = Pair(demo, max(demo.stage.buckets, key=lambda bucket: bucket.frames))
    shape, scale = tuple(pair.x0.shape[1:]), demo.scale
    start = torch.from_numpy(np.array(normal(stream(SEED, "sample/start"), pair.batch["id"], shape)))
    model = pair.theirs().eval()
    kinds = {"diffusers eager": model}
    if not options.eager_only:
        kinds["diffusers compiled"] = torch.compile(model)
    taus, ours = demo.taus(STEPS), pair.draw(STEPS)
    theirs = {kind: partial(draw, forward, model, start, pair.ids, taus, scale) for kind, forward in kinds.items()}
    found, expected = np.asarray(ours()), theirs["diffusers eager"]().numpy()
    differ = float(np.abs(found - expected).max() / np.abs(expected).max())
    what = f"transformer, Euler, {STEPS} steps, {'x'.join(map(str, pair.x0.shape))}"
    print(f"{what}: latents differ by {differ:.0e} of their size")
    if differ > 1e-4:
        raise SystemExit("the two samplers are not the same")
    report[what] = compare(what, take_turns({OURS: ours} | theirs, options.rounds, options.repeat))
    print(json.dumps(report))


if __name__ == "__main__":
    main()

"""One training step of the S transformer against diffusers' DiT of the same sizes in PyTorch.

Install:   python -m pip install -e . 'torch==2.13.0' 'diffusers==0.42.1'     (without a GPU: PyTorch's "cpu" wheel)
Command:   taskset -c 0,1 python -m benchmarks.versus_dit [--size S] [--batch 4] [--eager-only]
Hardware:  two CPU cores with nothing else on them, 10 minutes; a C++ compiler for torch.compile.

Latents of 32 x 32 x 4, patches of 2 x 2 (256 tokens), classes; draw noise and times, loss, backward, clip, AdamW, one
average of the weights: all of it counts. The two are the same sizes and not the same network: DiT adds fixed positions,
ours rotates normalised queries and keys. Parameters are printed. Contenders take turns, the first repetition of each is
not counted; a ratio above 1 means that Diorama is faster. The last line is JSON.
"""

import argparse
import json
import os
import platform
from functools import partial
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiTTransformer2DModel

from benchmarks.versus_torch import OURS, Call, compare, take_turns
from diorama.core.layout import Layout
from diorama.core.memory import keep_memory
from diorama.core.module import count
from diorama.core.random import stream
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import LabelConfig, TransformerConfig
from diorama.net.sizes import SIZES, sized
from diorama.train import AdamW, Train
from diorama.train.state import State, Tally, fault_names
from diorama.train.step import make_step, metric_names

SIDE, CHANNELS, CLASSES, RATE = 32, 4, 1000, 1e-4
HOW = Train(1_000_000, learning_rate=RATE, optimizer=AdamW(), ema_std=(0.05,))


def ours(size: str, batch: dict[str, np.ndarray]) -> tuple[Call, int]:
    """A step of `diorama.train`, and the parameters."""
    net = sized(TransformerConfig(text="none", mixing=False, previous=False), size)
    config = DenoiserConfig(net, {"label": LabelConfig(CLASSES)})
    layout, objective = Layout(), Denoising()
    state = jax.jit(lambda: State.init(config.init(stream(0, "init"), CHANNELS), HOW))()
    shardings = layout.shardings(state)
    step = make_step(HOW, objective, shardings, 0, layout)
    given = layout.put(batch)
    names = metric_names(objective, state.model, given)
    tally = jax.device_put(Tally.blank(names, len(fault_names(state.model))), layout.sharding())
    held = [state, tally]

    def call() -> Any:
        held[:] = step(held[0], held[1], given)
        return jax.block_until_ready(held[1])

    return call, count(state.model)


class Theirs:
    """The same step around diffusers' DiT."""

    def __init__(self, size: str, batch: dict[str, np.ndarray], compiled: bool):
        torch.manual_seed(0)
        s = SIZES[size]
        self.model = DiTTransformer2DModel(
            num_attention_heads=s.heads, attention_head_dim=s.width // s.heads, in_channels=CHANNELS,
            out_channels=CHANNELS, num_layers=s.depth, sample_size=SIDE, patch_size=2, num_embeds_ada_norm=CLASSES,
        )  # fmt: skip
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.averages = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=RATE, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        self.x0 = torch.from_numpy(batch["media"][:, 0]).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.from_numpy(batch["label"]).long()
        self.loss = torch.compile(self._loss) if compiled else self._loss

    def _loss(self, epsilon: torch.Tensor, tau: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = torch.lerp(self.x0, epsilon, tau[:, None, None, None])
        velocity = self.model(x, timestep=tau * 1000, class_labels=labels).sample
        return F.mse_loss(velocity, epsilon - self.x0)

    def step(self) -> None:
        b = len(self.x0)
        labels = torch.where(torch.rand(b) < 0.1, CLASSES, self.labels)  # the last class is none
        loss = self.loss(torch.randn_like(self.x0), torch.sigmoid(torch.randn(b)), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.parameters, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="S", choices=SIZES)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=4)
    parser.add_argument("--eager-only", action="store_true")
    options = parser.parse_args()
    keep_memory()  # as training does; PyTorch takes its memory from the same allocator
    cores = sorted(os.sched_getaffinity(0))
    torch.set_num_threads(len(cores))
    rng = np.random.default_rng(0)
    batch = {
        "media": rng.normal(size=(options.batch, 1, SIDE, SIDE, CHANNELS)).astype(np.float32),
        "label": rng.integers(0, CLASSES, options.batch).astype(np.int32),
        "id": np.arange(options.batch, dtype=np.uint32),
    }
    call, parameters = ours(options.size, batch)
    kinds = {"diffusers eager": False} | ({} if options.eager_only else {"diffusers compiled": True})
    theirs = {name: Theirs(options.size, batch, compiled) for name, compiled in kinds.items()}
    other = sum(p.numel() for p in theirs["diffusers eager"].parameters)
    print(f"{platform.processor() or platform.machine()}, {len(cores)} cores; parameters {parameters:,} and {other:,}")
    what = f"{options.size} transformer, training step, batch {options.batch}"
    calls = {OURS: call} | {name: partial(Theirs.step, other) for name, other in theirs.items()}
    print(json.dumps({what: compare(what, take_turns(calls, options.rounds, options.repeat))}))


if __name__ == "__main__":
    main()

"""The demo's denoiser in PyTorch, which Diorama does not need: text encoder, objective, step, sampler.

Parameters are copied by path. The text is encoded once for all steps of sampling.
"""

import math
import re
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.torch_nets import Norm, SelfAttention, SpatialConv, TemporalConv, Transformer, UNet
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import TextConfig, TransformerConfig, UNetConfig
from diorama.process import RectifiedFlow
from diorama.process.density import LogitNormal
from diorama.process.weighting import Velocity
from diorama.train import AdamW, Train
from diorama.train.ema import gamma_of


class TextBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.attention, self.norm2 = Norm(width), SelfAttention(width, heads), Norm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), None, mask)
        return x + self.down(F.silu(self.up(self.norm2(x))))


class Text(nn.Module):
    """Token ids and who has any to (mean, tokens, mask)."""

    def __init__(self, config: TextConfig, width: int):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(config.vocabulary, width))
        self.position = nn.Parameter(torch.zeros(config.length, width))
        self.blocks = nn.ModuleList(TextBlock(width, config.heads) for _ in range(config.depth))
        self.norm, self.null = Norm(width), nn.Parameter(torch.zeros(width))

    def forward(self, ids: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mask = (ids != 0) & present[:, None]
        x = F.embedding(ids, self.table) + self.position
        visible = (mask[:, None] | torch.eye(ids.shape[1], dtype=torch.bool))[:, None]
        for block in self.blocks:
            x = block(x, visible)
        x = self.norm(x)
        mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return torch.where(present[:, None], mean, self.null), x, mask


class Denoiser(nn.Module):
    """Network and text encoder; predicts the velocity of rectified flow."""

    def __init__(self, config: DenoiserConfig, channels: int):
        super().__init__()
        [(self.signal, text)] = config.conditions.items()
        same = isinstance(config.process, RectifiedFlow) and config.prediction == "velocity"
        if not (same and isinstance(config.net, UNetConfig | TransformerConfig) and isinstance(text, TextConfig)):
            raise ValueError("this benchmark compares the demo's kind of denoiser only: text, rectified flow")
        net, self.text = config.net, Text(text, config.net.width)
        self.net = UNet(net, channels) if isinstance(net, UNetConfig) else Transformer(net, channels)

    def forward(self, x: Tensor, tau: Tensor, mean: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        at = tau[:, :, None, None, None]
        return self.net(x * torch.rsqrt((1 - at) ** 2 + at**2), tau, mean, tokens, mask)

    def loss(self, x0: Tensor, ids: Tensor, epsilon: Tensor, tau: Tensor, present: Tensor) -> Tensor:
        """Mean square error of the velocity at given noise and noise times `tau` (b, t)."""
        x = torch.lerp(x0, epsilon, tau[:, :, None, None, None])
        return F.mse_loss(self(x, tau, *self.text(ids, present)), epsilon - x0)

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy all parameters of a `diorama` denoiser, given by path (`core.module.paths`); left-overs raise."""
        left = dict(arrays)
        for path, module in self.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                value = self._take(left, f"{path}.{name}")
                if isinstance(module, nn.Linear) and name == "weight":
                    value = value.T
                elif (isinstance(module, SpatialConv) and name == "weight") or name == "mixing":
                    value = value.transpose(3, 2, 0, 1)
                elif isinstance(module, TemporalConv):
                    value = value.transpose(2, 1, 0)[..., None]
                assert value.shape == parameter.shape, (path, name, value.shape, parameter.shape)
                parameter.data = torch.from_numpy(np.array(value))
        self.to(memory_format=torch.channels_last)
        assert not left, f"not copied: {', '.join(left)}"

    def _take(self, left: dict[str, np.ndarray], path: str) -> np.ndarray:
        ours = re.sub("^text", f"conditions.embedders.{self.signal}", path)
        number = re.search(r"\.blocks\.(\d+)", ours)
        if number is None:
            return left.pop(ours)
        turn = ".blocks.0" if path.startswith("net.") else ".blocks"  # all blocks of the network are of one kind
        stacked, index = ours.replace(number[0], turn), int(number[1])  # one array in ours, a list here
        value = left[stacked]
        if index == len(value) - 1:
            del left[stacked]
        return value[index]


Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


class Trainer:
    """The training step of `diorama.train.step`: draw, loss, backward, clip, AdamW, average."""

    def __init__(self, model: Denoiser, config: Train, objective: Denoising, dropout: float, compiled: bool):
        density, adam = objective.density, config.optimizer
        plain = isinstance(density, LogitNormal) and objective.independent == 0
        if not (plain and isinstance(objective.weighting, Velocity) and isinstance(adam, AdamW)):
            raise ValueError("this benchmark compares the demo's objective only")
        self.config, self.density, self.dropout, self.examples = config, density, dropout, 0
        self.loss: Loss = torch.compile(model.loss) if compiled else model.loss
        self.parameters = list(model.parameters())
        self.averages = [[p.detach().clone() for p in self.parameters] for _ in config.ema_std]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=0.0, betas=adam.betas, weight_decay=adam.weight_decay, fused=True
        )

    def step(self, x0: Tensor, ids: Tensor) -> Tensor:
        b, t = x0.shape[:2]
        tau = torch.sigmoid(self.density.mean + self.density.std * torch.randn(b, 1)).expand(b, t)
        loss = self.loss(x0, ids, torch.randn_like(x0), tau, torch.rand(b) >= self.dropout)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm, foreach=True)
        middle, self.examples = self.examples + b / 2, self.examples + b
        rise = min(1.0, middle / self.config.warmup) if self.config.warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * min(middle / self.config.examples, 1.0)))
        self.optimizer.param_groups[0]["lr"] = self.config.learning_rate * rise * fall
        self.optimizer.step()
        with torch.no_grad():
            for std, average in zip(self.config.ema_std, self.averages, strict=True):
                gain = 1 - (1 - b / self.examples) ** (gamma_of(std) + 1)
                torch._foreach_lerp_(average, self.parameters, gain)
        return loss.detach()


@torch.inference_mode()
def euler(
    forward: Callable[..., Tensor], model: Denoiser, x: Tensor, ids: Tensor, taus: list[float], scale: float
) -> Tensor:
    """From noise `x` to latents along `taus`, guided; both evaluations are one batch, the text is encoded once."""
    b, t = x.shape[:2]
    present = torch.arange(2 * b) < b
    context = model.text(ids.repeat(2, 1), present)
    for tau, after in pairwise(taus):
        with_text, without = forward(x.repeat(2, 1, 1, 1, 1), torch.full((2 * b, t), tau), *context).chunk(2)
        x = x + (after - tau) * torch.lerp(without, with_text, scale)
    return x

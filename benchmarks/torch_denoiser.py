"""The demo's denoiser in PyTorch, as one would write it there: U-Net, text encoder, objective, step, sampler.

Needs PyTorch, which Diorama does not. The same blocks under the same names as `diorama.net.unet` and
`diorama.net.condition`, so that parameters are copied by path. Arrays are `(b, t, h, w, c)` as in Diorama, which is
channels last for the convolutions: on CPU that and channels-last weights measured faster than contiguous ones. A
convolution along time is `conv2d` with a 3 x 1 kernel, which measured three times faster than matrix products of
shifted frames. The text is encoded once for all steps of sampling.
"""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import TextConfig, UNetConfig
from diorama.net.attention import grid_positions
from diorama.process import RectifiedFlow
from diorama.process.density import LogitNormal
from diorama.process.weighting import Velocity
from diorama.train import AdamW, Train
from diorama.train.ema import gamma_of

EPSILON = 1e-6


class Norm(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.gain.shape, self.gain, EPSILON)


class SpatialConv(nn.Conv2d):
    """k x k on `(b, t, h, w, c)`."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x.flatten(0, 1).permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


class TemporalConv(nn.Conv2d):
    """Three taps along t of `(b, t, h, w, c)`."""

    def __init__(self, channels: int, causal: bool):
        super().__init__(channels, channels, (3, 1), padding=(0 if causal else 1, 0), bias=False)
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(2, 3)
        if self.causal:
            y = F.pad(y, (0, 0, 0, 0, 2, 0))
        return super().forward(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).unflatten(2, x.shape[2:4])


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, config: UNetConfig):
        super().__init__()
        self.norm1 = Norm(inputs)
        self.conv1 = SpatialConv(inputs, outputs)
        self.film = nn.Linear(config.width, 2 * outputs)
        self.conv2 = SpatialConv(outputs, outputs)
        self.norm2 = Norm(outputs)
        self.time = TemporalConv(outputs, config.causal)
        self.skip = nn.Linear(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, -1)
        y = self.conv1(F.silu(self.norm1(x)))
        y = y + self.time(F.silu(self.norm2(y)))
        y = self.conv2(F.silu(torch.addcmul(shift, y, 1 + scale)))
        return self.skip(x) + y


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k = rms(q), rms(k)
        if turn is not None:
            q, k = rotary(q, *turn), rotary(k, *turn)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).reshape(b, n, d))


class CrossAttention(nn.Module):
    def __init__(self, width: int, tokens_width: int, heads: int):
        super().__init__()
        self.q, self.kv, self.out = (
            nn.Linear(width, width), nn.Linear(tokens_width, 2 * width), nn.Linear(width, width)
        )  # fmt: skip
        self.null, self.heads = nn.Parameter(torch.zeros(tokens_width)), heads

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        b, n, d = x.shape
        tokens = torch.cat([self.null.expand(b, 1, -1), tokens], 1)
        mask = F.pad(mask, (1, 0), value=True)
        q = self.q(x).view(b, n, self.heads, -1).transpose(1, 2)
        k, v = self.kv(tokens).view(b, -1, 2, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(rms(q), rms(k), v, attn_mask=mask[:, None, None])
        return self.out(y.transpose(1, 2).reshape(b, n, d))


class Middle(nn.Module):
    def __init__(self, width: int, config: UNetConfig):
        super().__init__()
        self.norm1, self.attention = Norm(width), SelfAttention(width, config.heads)
        self.norm2, self.cross = Norm(width), CrossAttention(width, config.width, config.heads)
        self.causal = config.causal
        self.turns: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        b, t, h, w, d = x.shape
        if (t, h, w) not in self.turns:
            self.turns[t, h, w] = angles(t, h, w, d // self.attention.heads)
        frame = torch.arange(t).repeat_interleave(h * w)
        y = x.reshape(b, t * h * w, d)
        sees = frame[None, :] <= frame[:, None] if self.causal else None
        y = y + self.attention(self.norm1(y), self.turns[t, h, w], sees)
        y = y + self.cross(self.norm2(y), tokens, mask)
        return y.view(x.shape)


class NoiseLevel(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.hidden, self.out = nn.Linear(64, width), nn.Linear(width, width)
        period = torch.logspace(math.log10(0.01), math.log10(2.0), 32)
        self.register_buffer("rate", 2 * torch.pi / period, persistent=False)

    def forward(self, level: Tensor) -> Tensor:
        angle = level[..., None] * self.rate
        return self.out(F.silu(self.hidden(torch.cat([angle.sin(), angle.cos()], -1))))


class UNet(nn.Module):
    def __init__(self, config: UNetConfig, channels: int):
        super().__init__()
        widths, depth = config.widths, config.depth
        above = (widths[0], *widths[:-1])
        self.enter = SpatialConv(channels + 3, widths[0])
        self.level, self.context = NoiseLevel(config.width), nn.Linear(config.width, config.width)
        self.down = nn.ModuleList(
            nn.ModuleList(Block(a if i == 0 else w, w, config) for i in range(depth))
            for a, w in zip(above, widths, strict=True)
        )
        self.middle = Middle(widths[-1], config)
        self.up = nn.ModuleList(
            nn.ModuleList(Block(2 * w, a if i == depth - 1 else w, config) for i in range(depth))
            for a, w in reversed(list(zip(above, widths, strict=True)))
        )
        self.norm, self.leave = Norm(widths[0]), SpatialConv(widths[0], channels)

    def forward(self, x: Tensor, level: Tensor, mean: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        embedding = F.silu(self.level(level) + self.context(mean)[:, None])
        x = self.enter(torch.cat([x, coordinates(x)], -1))
        skips = []
        for i, blocks in enumerate(self.down):
            if i:
                x = _each_frame(x, lambda y: F.avg_pool2d(y, 2))
            for block in blocks:
                x = block(x, embedding)
                skips.append(x)
        x = self.middle(x, tokens, mask)
        for i, blocks in enumerate(self.up):
            for block in blocks:
                x = block(torch.cat([x, skips.pop()], -1), embedding)
            if i < len(self.up) - 1:
                x = _each_frame(x, lambda y: F.interpolate(y, scale_factor=2, mode="nearest"))
        return self.leave(F.silu(self.norm(x)))


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
        if not (same and isinstance(config.net, UNetConfig) and isinstance(text, TextConfig)):
            raise NotImplementedError("only the demo's kind of denoiser is written here: U-Net, text, rectified flow")
        self.net, self.text = UNet(config.net, channels), Text(text, config.net.width)

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
                elif isinstance(module, SpatialConv) and name == "weight":
                    value = value.transpose(3, 2, 0, 1)
                elif isinstance(module, TemporalConv):
                    value = value.transpose(2, 1, 0)[..., None]
                assert value.shape == parameter.shape, (path, name, value.shape, parameter.shape)
                parameter.data = torch.from_numpy(np.array(value))
        self.to(memory_format=torch.channels_last)
        left = {path: value for path, value in left.items() if not path.startswith("conditions.")}
        assert not left, f"not copied: {', '.join(left)}"

    def _take(self, left: dict[str, np.ndarray], path: str) -> np.ndarray:
        if not path.startswith("text."):
            return left.pop(path)
        ours = f"conditions.embedders.{self.signal}.{path.removeprefix('text.')}"
        before, blocks, after = ours.partition(".blocks.")
        if not blocks:
            return left.pop(ours)
        number, _, name = after.partition(".")  # stacked in ours, a list here
        return left[f"{before}.blocks.{name}"][int(number)]


Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


class Trainer:
    """The training step of `diorama.train.step`: draw, loss, backward, clip, AdamW, average."""

    def __init__(self, model: Denoiser, config: Train, objective: Denoising, dropout: float, compiled: bool):
        density, adam = objective.density, config.optimizer
        plain = isinstance(density, LogitNormal) and density.shift == 1 and objective.independent == 0
        if not (plain and isinstance(objective.weighting, Velocity) and isinstance(adam, AdamW)):
            raise NotImplementedError("only the demo's objective is written here")
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


def rms(x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], eps=EPSILON)


def angles(t: int, h: int, w: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of `diorama.net.attention.rotary`, (n, width / 2)."""
    positions, pairs = torch.from_numpy(np.array(grid_positions(t, h, w))), width // 2
    each = pairs // 3
    frequency = 100.0 ** (-torch.arange(each) / max(each, 1))
    angle = F.pad((positions[..., None] * frequency).flatten(1), (0, pairs - 3 * each))
    return angle.cos(), angle.sin()


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def coordinates(x: Tensor) -> Tensor:
    b, t, h, w, _ = x.shape
    axes = torch.arange(t) / 8.0, torch.linspace(-1, 1, h), torch.linspace(-1, 1, w)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).expand(b, t, h, w, 3)


def _each_frame(x: Tensor, call: Callable[[Tensor], Tensor]) -> Tensor:
    return call(x.flatten(0, 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])

"""The demo's two networks in PyTorch, as one would write them there: U-Net and transformer.

The same blocks under the same names as `diorama.net`, so that parameters are copied by path. Arrays are
`(b, t, h, w, c)` as in Diorama, which is channels last for the convolutions: on CPU that and channels-last weights
measured faster than contiguous ones. A convolution along time is `conv2d` with a 3 x 1 kernel, which measured three
times faster than matrix products of shifted frames.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diorama.net import TransformerConfig, UNetConfig
from diorama.net.places import grid_positions

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
        self.enter, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.enter(x).view(b, n, self.heads, 3, d // self.heads).permute(3, 0, 2, 1, 4)
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
        k, v = self.kv(tokens).view(b, -1, self.heads, 2, d // self.heads).permute(3, 0, 2, 1, 4)
        y = F.scaled_dot_product_attention(rms(q), rms(k), v, attn_mask=mask[:, None, None])
        return self.out(y.transpose(1, 2).reshape(b, n, d))


class Middle(nn.Module):
    def __init__(self, width: int, config: UNetConfig):
        super().__init__()
        self.norm1, self.attention = Norm(width), SelfAttention(width, config.heads)
        self.norm2, self.cross = Norm(width), CrossAttention(width, config.width, config.heads)
        self.causal, self.turns = config.causal, Turns(width // config.heads)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        b, t, h, w, d = x.shape
        y = x.reshape(b, t * h * w, d)
        y = y + self.attention(self.norm1(y), self.turns(t, h, w), sees_frames(t, h * w, self.causal))
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


class TransformerBlock(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        d = config.width
        self.film, self.attention, self.norm = nn.Linear(d, 6 * d), SelfAttention(d, config.heads), Norm(d)
        self.cross = CrossAttention(d, d, config.heads)
        self.mixing = nn.Parameter(torch.zeros(d, 1, 3, 3)) if config.mixing else None
        self.perceptron = nn.ModuleDict({"up": nn.Linear(d, 4 * d), "down": nn.Linear(4 * d, d)})

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        turn: tuple[Tensor, Tensor],
        sees: Tensor | None,
        tokens: Tensor,
        mask: Tensor,
    ) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.film(embedding)[:, :, None, None].chunk(6, -1)
        y = torch.addcmul(shift1, rms(x), 1 + scale1).flatten(1, 3)
        x = torch.addcmul(x, self.attention(y, turn, sees).view(x.shape), 1 + gate1)
        x = x + self.cross(self.norm(x.flatten(1, 3)), tokens, mask).view(x.shape)
        y = torch.addcmul(shift2, rms(x), 1 + scale2)
        if self.mixing is not None:
            y = y + _each_frame(y, lambda z: F.conv2d(z, self.mixing, padding=1, groups=z.shape[1]))
        y = self.perceptron["down"](F.gelu(self.perceptron["up"](y), approximate="tanh"))
        return torch.addcmul(x, y, 1 + gate2)


class Transformer(nn.Module):
    def __init__(self, config: TransformerConfig, channels: int):
        super().__init__()
        d, cells = config.width, config.patch[1] ** 2
        self.enter = nn.Linear(cells * channels, d)
        self.previous = nn.Linear(d, d) if config.previous else None
        self.level, self.context = NoiseLevel(d), nn.Linear(d, d)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.depth))
        self.film, self.leave = nn.Linear(d, 2 * d), nn.Linear(d, cells * channels)
        self.config, self.turns = config, Turns(d // config.heads)

    def forward(self, x: Tensor, level: Tensor, mean: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        embedding = F.silu(self.level(level) + self.context(mean)[:, None])
        b, t, h, w, c = x.shape
        p = self.config.patch[1]
        x = x.view(b, t, h // p, p, w // p, p, c).permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h // p, w // p, p * p * c)
        x = self.enter(x)
        if self.previous is not None:
            x = x + self.previous(F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1])
        turn, sees = self.turns(t, h // p, w // p), sees_frames(t, h * w // p**2, self.config.causal)
        for block in self.blocks:
            x = block(x, embedding, turn, sees, tokens, mask)
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, -1)
        x = self.leave(torch.addcmul(shift, rms(x), 1 + scale)).view(b, t, h // p, w // p, p, p, c)
        return x.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h, w, c)


class Turns:
    """The angles of rotary positions, computed once a grid."""

    def __init__(self, width: int):
        self.width = width
        self.known: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def __call__(self, t: int, h: int, w: int) -> tuple[Tensor, Tensor]:
        if (t, h, w) not in self.known:
            self.known[t, h, w] = angles(t, h, w, self.width)
        return self.known[t, h, w]


def sees_frames(t: int, cells: int, causal: bool) -> Tensor | None:
    """Who sees whom: everybody, or nobody a later frame."""
    frame = torch.arange(t).repeat_interleave(cells)
    return frame[None, :] <= frame[:, None] if causal else None


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

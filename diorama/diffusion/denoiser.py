"""The denoiser: a network and its conditions, seen through a noise process. It is what solvers and guidance see."""

from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key
from diorama.core.errors import UserError
from diorama.core.module import Module, dtype_of, static
from diorama.diffusion.uncertainty import Uncertainty, UncertaintyConfig
from diorama.net import (
    Conditions,
    LabelConfig,
    LowResolutionConfig,
    MagnitudeUNet,
    MagnitudeUNetConfig,
    Output,
    TextConfig,
    Transformer,
    TransformerConfig,
    UNet,
    UNetConfig,
)
from diorama.net.condition import Perturbed, Signals, aligned
from diorama.process import AnyProcess, Prediction, Process, RectifiedFlow


@dataclass(frozen=True)
class DenoiserConfig:
    """What is learned.

    Args:
        net: the network and its sizes.
        conditions: named signals; a batch carries each under its name (`text`: token ids, `label`: a class, `low`: the
            clip at a lower resolution, of which there is one at most).
        process: how noise is added; its time shift and the colour of its noise too, for training and sampling alike.
        prediction: what the network's output means; "velocity" suits rectified flow, "F" suits EDM.
        uncertainty: also learn how large the error is at each noise level, and divide the loss by it.
    """

    net: UNetConfig | MagnitudeUNetConfig | TransformerConfig
    conditions: dict[str, TextConfig | LabelConfig | LowResolutionConfig]
    process: AnyProcess = field(default_factory=RectifiedFlow)
    prediction: Literal["x0", "epsilon", "velocity", "v", "F"] = "velocity"
    uncertainty: UncertaintyConfig | None = None

    def __post_init__(self) -> None:
        if sum(isinstance(config, LowResolutionConfig) for config in self.conditions.values()) > 1:
            raise UserError("conditions hold a low resolution twice: one that is smaller and slower says it all")
        said = any(isinstance(config, TextConfig) for config in self.conditions.values())
        if said and isinstance(self.net, TransformerConfig) and self.net.text == "none":
            raise UserError("denoiser.conditions hold a text, and net.text is none: set it to cross or joint")

    @property
    def low(self) -> tuple[str, LowResolutionConfig] | None:
        """The name and settings of the low resolution that it starts from, if it does."""
        found = ((name, c) for name, c in self.conditions.items() if isinstance(c, LowResolutionConfig))
        return next(found, None)

    def init(self, key: Key, channels: int) -> "Denoiser":
        """A denoiser of latents with `channels`."""
        k1, k2 = jax.random.split(key)
        return Denoiser(
            self.net.init(k1, channels, aligned(self.conditions, channels)),
            Conditions.init(k2, self.conditions, self.net.width, channels),
            self.process,
            self.prediction,
            self.uncertainty.init() if self.uncertainty else None,
        )


class Denoiser(Module):
    """`(x_tau, tau, signals) -> Prediction`; made by `DenoiserConfig.init`."""

    net: UNet | MagnitudeUNet | Transformer
    conditions: Conditions
    process: Process = static()
    prediction: str = static()
    uncertainty: Uncertainty | None = None

    def __call__(self, x: Float[Array, "b t h w c"], tau: Array, signals: Signals | Perturbed) -> Prediction:
        """Args: `x` at noise time `tau`, which is (b,) or (b, t) in [0, 1]; `signals` by name."""
        return self.look(x, tau, signals)[0]

    def look(self, x: Float[Array, "b t h w c"], tau: Array, signals: Signals | Perturbed) -> tuple[Prediction, Output]:
        """The prediction, and the network's own output with its intermediates.

        The network sees x over its root mean square, and the noise level as sigma / (alpha + sigma), which is tau
        itself for rectified flow: with the same range at any process, a network can change processes.
        """
        tau = jnp.broadcast_to(tau[:, None] if tau.ndim == 1 else tau, x.shape[:2])
        process = self.process.of(x.shape[1:])
        at = process.at(tau, x.ndim)
        level = jax.nn.sigmoid(-process.logsnr(tau) / 2)
        scaled = (x / at.scale).astype(dtype_of(self.net))
        output = self.net(scaled, level, self.conditions(signals))
        return Prediction.of(self.prediction, output.value.astype(jnp.float32), x, at), output

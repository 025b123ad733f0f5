"""Networks that denoise, and what conditions them."""

from diorama.net.condition import Conditions, LabelConfig, LowResolutionConfig, Perturbed, Signal, TextConfig, null
from diorama.net.magnitude import MagnitudeUNet, MagnitudeUNetConfig
from diorama.net.output import Output
from diorama.net.transformer import Transformer, TransformerConfig
from diorama.net.unet import UNet, UNetConfig

__all__ = [
    "Conditions", "LabelConfig", "LowResolutionConfig", "MagnitudeUNet", "MagnitudeUNetConfig", "Output", "Perturbed",
    "Signal", "TextConfig", "Transformer", "TransformerConfig", "UNet", "UNetConfig", "null",
]  # fmt: skip

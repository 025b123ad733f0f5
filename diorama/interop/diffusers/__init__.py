"""Autoencoders of diffusers: read as codecs of ours, and written for others."""

from diorama.interop.diffusers.dc import AutoencoderDC, AutoencoderDCConfig
from diorama.interop.diffusers.export import export_kl
from diorama.interop.diffusers.image import AutoencoderKL, AutoencoderKLConfig
from diorama.interop.diffusers.pretrained import Pretrained, PretrainedConfig, pretrained
from diorama.interop.diffusers.video_cosmos import AutoencoderKLCosmos, AutoencoderKLCosmosConfig
from diorama.interop.diffusers.video_ltx import AutoencoderKLLTXVideo, AutoencoderKLLTXVideoConfig
from diorama.interop.diffusers.video_wan import AutoencoderKLWan, AutoencoderKLWanConfig

__all__ = [
    "AutoencoderDC", "AutoencoderDCConfig", "AutoencoderKL", "AutoencoderKLConfig", "AutoencoderKLCosmos",
    "AutoencoderKLCosmosConfig", "AutoencoderKLLTXVideo", "AutoencoderKLLTXVideoConfig", "AutoencoderKLWan",
    "AutoencoderKLWanConfig", "Pretrained", "PretrainedConfig", "export_kl", "pretrained",
]  # fmt: skip

"""Learned latents that keep the grid."""

from diorama.codec.codec import Codec, PixelCodec, PixelCodecConfig, compression, decode, encode, latent_shape
from diorama.codec.conv import Autoencoder, ConvCodecConfig
from diorama.codec.objective import Reconstruction

__all__ = [
    "Autoencoder", "Codec", "ConvCodecConfig", "PixelCodec", "PixelCodecConfig", "Reconstruction", "compression",
    "decode", "encode", "latent_shape",
]  # fmt: skip

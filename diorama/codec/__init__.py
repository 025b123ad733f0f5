"""Learned latents: a grid, or a line of tokens."""

from diorama.codec.bottleneck import FSQ, KL, VQ, Noise
from diorama.codec.codec import (
    Autoencoder,
    Codec,
    CodecConfig,
    PixelCodec,
    PixelCodecConfig,
    compression,
    decode,
    encode,
    latent_shape,
    on_grid,
)
from diorama.codec.conv import ConvCodecConfig
from diorama.codec.front import Haar, Patch
from diorama.codec.objective import CodecLoss, Reconstruction, Roles, autoencoder_of
from diorama.codec.stream import decode_chunks, encode_chunks
from diorama.codec.tile import decode_tiles, encode_tiles
from diorama.codec.token import TokenCodecConfig, shortened

__all__ = [
    "FSQ", "KL", "VQ", "Autoencoder", "Codec", "CodecConfig", "CodecLoss", "ConvCodecConfig", "Haar", "Noise", "Patch",
    "PixelCodec", "PixelCodecConfig", "Reconstruction", "Roles", "TokenCodecConfig", "autoencoder_of", "compression",
    "decode", "decode_chunks", "decode_tiles", "encode", "encode_chunks", "encode_tiles", "latent_shape", "on_grid",
    "shortened",
]  # fmt: skip

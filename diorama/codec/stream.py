"""Coding long videos in bounded memory: chunk by chunk, which is the same as whole (tests/codec/test_stream.py).

A codec is causal in time and looks back through convolutions of three frames, whose last inputs each chunk leaves for
the next one (`Encoder.chunk`). Memory does not grow with the length of the video.
"""

from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from diorama.codec.codec import Codec, pad
from diorama.codec.conv import Past
from diorama.core.array import Latents, Media
from diorama.core.errors import UserError


def encode_chunks(codec: Codec, frames: Iterable[Media], size: int = 8) -> Iterator[Latents]:
    """The latents of a video, as `codec.encode` of all its frames would give them.

    Args:
        frames: its pieces (b, any number, h, w, c), in order.
        size: latent frames a chunk; what is under way at a time.

    Raises `UserError` for a `size` below 1, and for a codec that is none of ours: those of other projects code a clip
    whole.
    """
    _check(codec)
    if size < 1:
        raise UserError(f"chunks of {size} latent frames: give at least 1")
    past: Past | None = None
    for piece in _regrouped(frames, 1 + (size - 1) * codec.config.temporal, size * codec.config.temporal):
        latents, past = _encode(codec, _filled(codec, piece, past is None), past)
        yield latents


def decode_chunks(codec: Codec, latents: Iterable[Latents]) -> Iterator[Media]:
    """The media of a video's latents, piece by piece, as `codec.decode` of all of them would give them.

    Args:
        latents: its pieces (b, any number, h, w, c), in order; pieces of one length are compiled once.

    Raises `UserError` as `encode_chunks` does.
    """
    _check(codec)
    past: Past | None = None
    for piece in latents:
        media, past = _decode(codec, piece, past)
        yield media


def chunked(codec: Codec) -> bool:
    """Whether the codec codes chunk by chunk."""
    return hasattr(getattr(codec.autoencoder, "encoder", None), "chunk")


def _check(codec: Codec) -> None:
    """Raises `UserError` unless it does."""
    if not chunked(codec):
        name = type(codec.autoencoder).__name__
        raise UserError(f"{name} codes a clip whole, and not chunk by chunk: code shorter clips, each by itself")


@jax.jit
def _encode(codec: Codec, media: Media, past: Past | None) -> tuple[Latents, Past]:
    x, past = codec.autoencoder.encoder.chunk(media, past)
    return codec.normalise(codec.autoencoder.bottleneck.settle(x)), past


@jax.jit
def _decode(codec: Codec, latents: Latents, past: Past | None) -> tuple[Media, Past]:
    media, past = codec.autoencoder.decoder.chunk(codec.restore(latents), past)
    return jnp.clip(media, -1, 1), past


def _regrouped(pieces: Iterable[Media], first: int, size: int) -> Iterator[np.ndarray]:
    """Frames in pieces of `first` and then `size`; the last may be shorter."""
    held: list[np.ndarray] = []
    wanted = first
    for piece in pieces:
        held.append(np.asarray(piece))
        while sum(part.shape[1] for part in held) >= wanted:
            frames = np.concatenate(held, axis=1)
            yield frames[:, :wanted]
            held, wanted = [frames[:, wanted:]], size
    rest = np.concatenate(held, axis=1) if held else None
    if rest is not None and rest.shape[1]:
        yield rest


def _filled(codec: Codec, media: np.ndarray, first: bool) -> Media:
    """Edges repeated, as `pad`; a piece that is not the first has no frame of its own before the pairs."""
    if first:
        return pad(jnp.asarray(media), codec.config)
    return pad(jnp.asarray(np.concatenate([media[:, :1], media], axis=1)), codec.config)[:, 1:]

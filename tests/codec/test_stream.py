"""A video coded in chunks is the video coded whole, and large pictures in tiles are nearly so."""

import numpy as np
import pytest

from diorama.codec import (
    FSQ,
    Codec,
    ConvCodecConfig,
    Haar,
    decode,
    decode_chunks,
    decode_tiles,
    encode,
    encode_chunks,
    encode_tiles,
)
from diorama.core import UserError
from tests.net.tiny import made

CONFIGS = [
    ConvCodecConfig(spatial=4, temporal=4, channels=3, widths=(8, 8)),
    ConvCodecConfig(spatial=2, temporal=8, channels=2, widths=(32,), middle=1, front=Haar(2), bottleneck=FSQ((5, 4))),
]


def video(frames, side=8, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (2, frames, side, side, 3)).astype(np.float32)


def codec_of(config):
    latents = np.random.default_rng(1).normal(0.3, 2, (4, 1, 1, 1, config.channels))
    return Codec.blank(made(config.init), config).measured([latents])


@pytest.mark.parametrize(
    ("config", "frames", "size"),
    [(CONFIGS[0], 14, 2), (CONFIGS[1], 27, 2)],
)
def test_chunks_are_the_whole(config, frames, size):
    codec, media = codec_of(config), video(frames)
    whole = np.asarray(encode(codec, media))
    pieces = [media[:, start : start + 5] for start in range(0, frames, 5)]  # in pieces of another length
    latents = [np.asarray(z) for z in encode_chunks(codec, pieces, size)]
    assert all(z.shape[1] <= size for z in latents)
    np.testing.assert_allclose(np.concatenate(latents, axis=1), whole, atol=1e-5)
    again = np.concatenate([np.asarray(x) for x in decode_chunks(codec, latents)], axis=1)
    np.testing.assert_allclose(again, decode(codec, whole), atol=1e-5)


def test_chunks_do_not_forget():
    """The test above can fail: without what a chunk leaves for the next one, the next is another."""
    codec, media = codec_of(CONFIGS[0]), video(9)
    whole = np.asarray(encode(codec, media))
    _, second = encode_chunks(codec, [media], size=2)
    alone = np.asarray(encode(codec, media[:, 4:]))[:, 1:]
    assert np.abs(np.asarray(second) - whole[:, 2:]).max() < 1e-5 < 1e-3 < np.abs(alone - whole[:, 2:]).max()


def test_tiles_are_the_whole_where_they_overlap_enough():
    """This codec sees 3 cells far, a quarter of the overlap; tiles that are cut show."""
    codec, media = (
        codec_of(ConvCodecConfig(spatial=2, temporal=1, channels=3, widths=(8,))),
        video(1, side=90)[:, :, :61],
    )
    whole = np.asarray(encode(codec, media))
    np.testing.assert_allclose(encode_tiles(codec, media, tile=24, overlap=12), whole, atol=1e-5, rtol=1e-5)
    assert np.abs(encode_tiles(codec, media, tile=24, overlap=0) - whole).max() > 1e-2
    np.testing.assert_allclose(decode_tiles(codec, whole, tile=24, overlap=12), decode(codec, whole), atol=1e-5)


def test_small_media_are_one_tile():
    codec, media = codec_of(CONFIGS[0]), video(5, side=12)
    np.testing.assert_allclose(encode_tiles(codec, media), encode(codec, media), atol=1e-6)


@pytest.mark.parametrize(("tile", "overlap"), [(4, 3), (4, -1), (0, 0)])
def test_impossible_tiles_are_refused(tile, overlap):
    with pytest.raises(UserError, match="at most by half"):
        encode_tiles(codec_of(CONFIGS[0]), video(1), tile, overlap)


def test_empty_chunks_are_refused():
    with pytest.raises(UserError, match="at least 1"):
        next(encode_chunks(codec_of(CONFIGS[0]), [video(5)], size=0))

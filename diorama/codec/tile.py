"""Coding large pictures in bounded memory: tile by tile, overlapping, with blended seams.

A codec's convolutions see only so far, so well inside a tile its result is that of the whole; near a tile's edge it is
not, and there the neighbour's is taken, and between them both are blended linearly. Where a codec sees no further than
a quarter of the overlap, the result is that of the whole. With a transformer in its middle every tile is a picture of
its own, and seams are only blended.
"""

from collections.abc import Callable
from itertools import product

import numpy as np

from diorama.codec.codec import Codec, decode, encode, on_grid, pad
from diorama.core.array import Array, Latents, Media
from diorama.core.errors import UserError


def encode_tiles(codec: Codec, media: Media, tile: int = 64, overlap: int = 16) -> np.ndarray:
    """As `codec.encode`, of tiles of `tile` x `tile` latent cells that share `overlap` with each neighbour.

    Raises `UserError` unless 0 <= 2 * overlap <= tile, and for a codec whose latents are no grid.
    """
    whole = np.asarray(pad(media, codec.config))
    return _tiled(lambda part: encode(codec, part), whole, tile, overlap, _cell(codec), 1)


def decode_tiles(codec: Codec, latents: Latents, tile: int = 64, overlap: int = 16) -> np.ndarray:
    """As `codec.decode`, of tiles of `tile` x `tile` latent cells that share `overlap` with each neighbour.

    Raises `UserError` unless 0 <= 2 * overlap <= tile, and for a codec whose latents are no grid.
    """
    return _tiled(lambda part: decode(codec, part), np.asarray(latents), tile, overlap, 1, _cell(codec))


def _cell(codec: Codec) -> int:
    """Pixels along each side of a latent cell."""
    if not on_grid(codec.config):
        raise UserError("this codec's latents are a line of tokens, of pictures of one size: it cannot code in tiles")
    return codec.config.spatial


def _tiled(
    code: Callable[[np.ndarray], Array], x: np.ndarray, tile: int, overlap: int, before: int, after: int
) -> np.ndarray:
    """Every tile of `x (b, t, h, w, c)` coded, and their mean with weights that fall towards the tiles' edges.

    `before` and `after` are the pixels along each side of a cell, before coding and after it.
    """
    if tile < 1 or not 0 <= 2 * overlap <= tile:
        raise UserError(f"tiles of {tile} cells cannot overlap by {overlap}: at most by half")
    rows, columns = (_spans(side // before, tile, overlap) for side in x.shape[2:4])
    shape = x.shape[2] // before * after, x.shape[3] // before * after
    out, total = None, np.zeros((*shape, 1), np.float32)
    for (top, bottom), (left, right) in product(rows, columns):
        part = np.asarray(code(x[:, :, top * before : bottom * before, left * before : right * before]))
        weight = np.outer(*(_ramps(size, overlap * after) for size in part.shape[2:4]))[..., None]
        if out is None:
            out = np.zeros((*part.shape[:2], *shape, part.shape[-1]), np.float32)
        here = slice(top * after, bottom * after), slice(left * after, right * after)
        out[:, :, *here] += weight * part
        total[here] += weight
    assert out is not None
    return out / total


def _spans(cells: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Where tiles begin and end, all of one size so that they are compiled once."""
    tile = min(tile, cells)
    starts = [*range(0, cells - tile, tile - overlap), cells - tile]
    return [(start, start + tile) for start in starts]


def _ramps(size: int, overlap: int) -> np.ndarray:
    """Weights along one side of a tile: one inside, next to none in the outer quarter of an overlap, linear between.

    Next to none instead of none, for where the picture ends there is no other tile.
    """
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    return np.clip(2 * distance / max(overlap, 0.25) - 0.5, 1e-6, 1).astype(np.float32)

"""What latents are like, beyond how well they decode: whether they turn with the picture, whether all of them are used,
and whether what lies between two of them is a picture.

Good reconstruction alone does not predict good generation (iFID, 2603.05630); these come nearer to it, and
`modelability` nearer still.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

from diorama.evaluate.neighbours import nearest
from diorama.evaluate.reconstruction import psnr

Clips = UInt8[np.ndarray, "n t h w 3"]
Latents = Float[np.ndarray, "n t h w c"]
Encode = Callable[[Clips], Latents]
Decode = Callable[[Latents], Clips]

TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned by 90 degrees": lambda x: np.ascontiguousarray(np.rot90(x, axes=(-3, -2))),
    "mirrored": lambda x: np.ascontiguousarray(x[..., ::-1, :]),
    "half the size": lambda x: _halved(x),
}


def equivariance(clips: Clips, latents: Latents, encode: Encode, decode: Decode) -> dict[str, tuple[float, float]]:
    """By change of the picture: how far latents are from changing alike, and what their decoding loses by it.

    First |E(T x) - T E(x)|^2 over the variance of E(T x): 0 where latents change as pictures do, 2 where the two have
    nothing in common. Then the PSNR of D(T E(x)) against T x in decibels (EQ-VAE, Kouzelis et al. 2025). `latents` are
    those of the clips.
    """
    found = {}
    for name, change in TURNS.items():
        changed, turned = change(clips), change(latents)
        if not turned.size:  # one cell has no half
            continue
        there, turned = _common(encode(changed), turned)
        error = np.square(there - turned).mean() / np.maximum(there.var((0, 1, 2, 3)).mean(), 1e-12)
        found[name] = float(error), float(psnr(*_common(changed, decode(turned))).mean())
    return found


def _common(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of the picture that both have: half of an odd number of cells is a cell less."""
    h, w = (min(sides) for sides in zip(a.shape[2:4], b.shape[2:4], strict=True))
    return a[:, :, :h, :w], b[:, :, :h, :w]


def _halved(x: np.ndarray) -> np.ndarray:
    """The mean over 2 x 2 neighbours; a side that is odd loses its last."""
    h, w = (side // 2 * 2 for side in x.shape[-3:-1])
    pairs = x[..., :h, :w, :].reshape(*x.shape[:-3], h // 2, 2, w // 2, 2, x.shape[-1])
    mean = pairs.mean((-4, -2), dtype=np.float32)
    return np.rint(mean).astype(np.uint8) if x.dtype == np.uint8 else mean


def importance(clips: Clips, again: Clips, latents: Latents, decode: Decode) -> Float[np.ndarray, "c"]:
    """What each channel is worth: the decibels of PSNR that are lost where it is replaced by its mean.

    A channel of about 0 is dead: nothing of the picture is in it. `again` is what all of them decode to.
    """
    whole = psnr(clips, again).mean()
    lost = []
    for channel in range(latents.shape[-1]):
        without = latents.copy()
        without[..., channel] = latents[..., channel].mean()
        lost.append(whole - psnr(clips, decode(without)).mean())
    return np.array(lost)


def between(latents: Latents) -> Latents:
    """What lies half-way between each and the one nearest to it. The distance of what it decodes to from the data is
    iFID, beside that of the latents' own decoding, rFID (2603.05630)."""
    flat = latents.reshape(len(latents), -1)
    index, _ = nearest(flat, flat, exclude_self=True)
    return (latents + latents[index[:, 0]]) / 2

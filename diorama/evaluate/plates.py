"""Plates that show which errors people see: the same error, in another place of the spectrum or in fewer bits.

Pictures are uint8 (h, w, 3); every function returns them by what is to be said of them.
"""

import numpy as np
from jaxtyping import UInt8

from diorama.evaluate.features import quantise
from diorama.process.spectrum import radius

Picture = UInt8[np.ndarray, "h w 3"]
NOISE = 12.0  # grey levels, RMS, of the noise in each octave


def bit_depths(picture: Picture, seed: int = 0) -> dict[str, tuple[Picture, Picture]]:
    """The picture in 8 to 1 bits a channel: rounded, and with noise of one step added before it is rounded.

    Noise (dither; Roberts 1962) makes the error independent of the picture: its sum is larger and what is seen less.
    """
    spread = np.random.default_rng(seed).uniform(-0.5, 0.5, picture.shape)
    plates = {}
    for bits in range(8, 0, -1):
        steps = 2**bits - 1
        exact = picture / 255 * steps
        rounded, noisy = np.rint(exact), np.rint(exact + spread)
        at = [quantise(2 * np.clip(x, 0, steps) / steps - 1) for x in (rounded, noisy)]
        plates[f"{bits} bit{'s' * (bits > 1)}"] = at[0], at[1]
    return plates


def octave_noise(picture: Picture, amplitude: float = NOISE, seed: int = 0) -> dict[str, Picture]:
    """The picture with grey noise of one octave at a time, of the same energy in each, the coarsest first.

    amplitude: RMS of the noise in grey levels. What 8 bits cut off is cut off, so that it may be a little less.
    """
    h, w, _ = picture.shape
    white = np.fft.fft2(np.random.default_rng(seed).normal(size=(h, w)))
    cycles, plates = np.rint(radius(h, w)), {}
    for low in 2 ** np.arange((min(h, w) // 2).bit_length()):
        top = 2 * low if 4 * low <= min(h, w) else np.inf
        band = np.fft.ifft2(np.where((cycles >= low) & (cycles < top), white, 0)).real
        noise = band * amplitude / band.std()
        name = f"{low} to {top} cycles" if top < np.inf else f"{low} cycles and finer"
        plates[name] = np.clip(np.rint(picture + noise[..., None]), 0, 255).astype(np.uint8)
    return plates


def contrast_chart(h: int = 384, w: int = 768) -> Picture:
    """Stripes that get finer to the right and fainter upwards: the line where they vanish is your eyes' own sensitivity
    to contrast (Campbell & Robson 1968), highest at about 4 cycles a degree of what you see.

    Frequency rises from 2 cycles over the width to a quarter of a cycle a pixel; contrast from 1/256 to 1.
    """
    x, y = np.arange(w) / w, np.arange(h)[:, None] / max(h - 1, 1)
    low, high = 2.0, w / 4
    phase = 2 * np.pi * low * (np.exp(x * np.log(high / low)) - 1) / np.log(high / low)
    level = 127.5 + 127.5 * 256.0 ** (y - 1) * np.sin(phase)
    dither = np.random.default_rng(0).uniform(-0.5, 0.5, (h, w))  # contrast below one grey level is there on average
    return np.repeat(np.clip(np.rint(level + dither), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def photograph() -> Picture:
    """A photo that is always there: one of scikit-learn's, 427 x 640."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg")

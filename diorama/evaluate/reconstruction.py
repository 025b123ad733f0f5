"""How well a codec gives media back, and what JPEG does with as many bits.

Clips are uint8 (b, t, h, w, 3); each figure is one number a clip, so that its spread can be seen and its mean reported.
"""

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from diorama.core.errors import UserError
from diorama.evaluate.score import Better, Score

SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents of MS-SSIM, finest first (Wang et al. 2003, III.B)
WINDOW = 11  # pixels a side


def psnr(
    clips: UInt8[np.ndarray, "b t h w c"], reconstructed: UInt8[np.ndarray, "b t h w c"]
) -> Float[np.ndarray, "b"]:
    """Peak signal-to-noise ratio in decibels, 20 log10(255 / root-mean-square error), of each clip.

    An exact clip counts as off by what rounding to 8 bits costs (a mean square of 1/12): 58.9 dB, not infinity.
    """
    error = (clips.astype(np.float64) - reconstructed) ** 2
    return 10 * np.log10(255**2 / np.maximum(error.mean((1, 2, 3, 4)), 1 / 12))


def ssim(
    clips: UInt8[np.ndarray, "b t h w c"], reconstructed: UInt8[np.ndarray, "b t h w c"]
) -> Float[np.ndarray, "b"]:
    """Structural similarity (Wang et al. 2004: Gaussian window of 1.5 pixels), mean over frames; 1 = equal."""
    return np.array(
        [
            np.mean([_ssim(a, b) for a, b in zip(clip, other, strict=True)])
            for clip, other in zip(clips, reconstructed, strict=True)
        ]
    )


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    return float(
        structural_similarity(
            a, b, data_range=255, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def ms_ssim(
    clips: UInt8[np.ndarray, "b t h w c"], reconstructed: UInt8[np.ndarray, "b t h w c"]
) -> Float[np.ndarray, "b"]:
    """Structural similarity at several scales, mean over channels and frames, in [0, 1]; 1 = equal.

    Wang, Simoncelli & Bovik 2003, equation (7), with a Gaussian window of 1.5 pixels that stays inside the picture, and
    means of 2 x 2 pixels from scale to scale (an odd last row or column is left out). Scales are as many as `scales`
    says, their exponents divided by their sum (of all five: 1.0001). Means below 0, which have no such powers, count
    as 0.

    Raises `UserError` for pictures with a side under 11 pixels.
    """
    count = scales(*clips.shape[2:4])
    return np.array(
        [
            np.mean([_ms_ssim(a, b, count) for a, b in zip(clip, other, strict=True)])
            for clip, other in zip(clips, reconstructed, strict=True)
        ]
    )


def scales(height: int, width: int) -> int:
    """At how many scales, up to 5, the window of `ms_ssim` fits into a picture; all of them take 176 pixels a side.

    Raises `UserError` where it does not fit into the picture itself.
    """
    count = sum(min(height, width) >> scale >= WINDOW for scale in range(len(SCALES)))
    if not count:
        raise UserError(f"SSIM needs pictures of {WINDOW} pixels a side or more, and these have {height} x {width}")
    return count


def _ms_ssim(a: UInt8[np.ndarray, "h w c"], b: UInt8[np.ndarray, "h w c"], count: int) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    value, exponents = np.ones(a.shape[-1]), np.array(SCALES[:count]) / sum(SCALES[:count])
    for scale, exponent in enumerate(exponents):
        if scale:
            x, y = _halved(x), _halved(y)
        luminance, structure = _likeness(x, y)
        likeness = luminance * structure if scale == count - 1 else structure
        value *= np.maximum(likeness.mean((0, 1)), 0) ** exponent
    return float(value.mean())


def _likeness(
    x: Float[np.ndarray, "h w c"], y: Float[np.ndarray, "h w c"]
) -> tuple[Float[np.ndarray, "h2 w2 c"], Float[np.ndarray, "h2 w2 c"]]:
    """Of each window inside the picture: the luminance term, and the product of those of contrast and structure (Wang
    et al. 2004, equations 6, 9 and 10 with the constants of equation 13)."""
    edge = WINDOW // 2

    def mean(z: np.ndarray) -> np.ndarray:
        return gaussian_filter(z, 1.5, radius=edge, axes=(0, 1))[edge:-edge, edge:-edge]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = mean(x), mean(y)
    spread, shared = mean(x * x + y * y) - mx**2 - my**2, mean(x * y) - mx * my
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1), (2 * shared + c2) / (spread + c2)


def _halved(x: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h2 w2 c"]:
    h, w, c = x.shape
    return x[: h // 2 * 2, : w // 2 * 2].reshape(h // 2, 2, w // 2, 2, c).mean((1, 3))


def flicker(
    clips: UInt8[np.ndarray, "b t h w c"], reconstructed: UInt8[np.ndarray, "b t h w c"]
) -> Float[np.ndarray, "b"]:
    """Root-mean-square error of the change from frame to frame, in grey levels: error that moves.

    A reconstruction whose error stands still scores 0, one whose errors are independent a frame √2 times its RMS error.
    """
    error = np.diff(clips.astype(np.float64) - reconstructed, axis=1)
    return np.sqrt((error**2).mean((1, 2, 3, 4)))


@dataclass(frozen=True)
class Jpeg:
    """Stills after JPEG, and what it spent on each."""

    media: UInt8[np.ndarray, "b t h w c"]
    bits: Int[np.ndarray, "b"]
    quality: Int[np.ndarray, "b"]


def jpeg_at(stills: UInt8[np.ndarray, "b 1 h w c"], bits: int) -> Jpeg:
    """Each still in JPEG at the quality (1-100) whose size is nearest to `bits`.

    Only the entropy-coded data count: the headers and standard tables, 600 bytes a file, could be sent once for all
    pictures, so leaving them out is what favours JPEG most. Colour at half resolution, Pillow's default.
    """
    best = [_nearest_jpeg(still[0], bits) for still in stills]
    media = np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data, _ in best])[:, None]
    return Jpeg(media, np.array([_payload_bits(d) for d, _ in best]), np.array([q for _, q in best]))


def _nearest_jpeg(still: np.ndarray, bits: int) -> tuple[bytes, int]:
    def encoded(quality: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(still).save(file, "JPEG", quality=quality)
        return file.getvalue()

    files = ((encoded(quality), quality) for quality in range(1, 101))
    return min(files, key=lambda f: (abs(_payload_bits(f[0]) - bits), -f[1]))


def _payload_bits(file: bytes) -> int:
    """Bits between the start-of-scan header (ISO 10918-1, B.2.3) and the end-of-image marker."""
    scan = file.index(b"\xff\xda")
    header = int.from_bytes(file[scan + 2 : scan + 4], "big")
    return 8 * (len(file) - (scan + 2 + header) - 2)


def reconstruction_scores(
    clips: UInt8[np.ndarray, "b t h w c"],
    reconstructed: UInt8[np.ndarray, "b t h w c"],
    *,
    latent_numbers: int,
    bits_a_number: float = 16,
    seed: int = 0,
) -> list[Score]:
    """PSNR, SSIM, compression and, for videos, flicker; for stills, the same of JPEG at as many bits.

    `latent_numbers` is how many numbers the codec keeps of one clip, `bits_a_number` how many bits each takes as
    stored (16: float16). `seed` is that of the choice of clips.
    """
    n, t = clips.shape[:2]
    bits = round(latent_numbers * bits_a_number)
    kind = "video" if t > 1 else "still"

    def score(name: str, values: np.ndarray, note: str, better: Better = "higher") -> Score:
        return Score(f"{name}, {kind}", float(values.mean()), n, seed, "pixels", better, note=note)

    scores = [
        score("codec PSNR (dB)", psnr(clips, reconstructed), "mean over clips"),
        score("codec SSIM", ssim(clips, reconstructed), "mean over frames"),
        score(
            "codec compression",
            np.array([np.prod(clips.shape[1:]) / latent_numbers]),
            f"numbers in a clip / in its latents; {bits} bits a clip at {bits_a_number:g} bits a number",
        ),
    ]
    if t > 1:
        return [*scores, score("codec flicker", flicker(clips, reconstructed), "grey levels, 0-255", "lower")]
    jpeg = jpeg_at(clips, bits)
    note = f"{jpeg.bits.mean():.0f} bits a still, headers not counted; mean quality {jpeg.quality.mean():.0f}"
    return [
        *scores,
        score("JPEG PSNR (dB)", psnr(clips, jpeg.media), note),
        score("JPEG SSIM", ssim(clips, jpeg.media), note),
    ]

"""How near clips that were made larger come to the true ones, beside the plain ways of making them larger."""

import numpy as np
from jaxtyping import UInt8

from diorama.evaluate.reconstruction import psnr
from diorama.evaluate.score import Score


def enlarged_scores(
    samples: UInt8[np.ndarray, "n t h w c"],
    real: UInt8[np.ndarray, "n t h w c"],
    plain: dict[str, UInt8[np.ndarray, "n t h w c"]],
    seed: int,
) -> list[Score]:
    """PSNR of `samples`, drawn from the low resolution of the `real` clips, and of what `plain` ways make of the same.

    All are given the same frames, those that are new. A draw is not the mean of all that may be: where a model
    knows its distribution exactly, its draws are 3 dB below the best guess, so a blur may well score higher.
    """
    note = f"of {real.shape[1]} new frames, from the true low resolution"
    return [
        Score(f"{name} PSNR (dB)", float(psnr(real, clips).mean()), len(real), seed, "pixels", "higher", note=note)
        for name, clips in {"enlarged": samples, **plain}.items()
    ]

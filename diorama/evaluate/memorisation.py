"""Are samples copies of the training set? Nearest neighbours in pixels, against how near held-back clips come.

A sample counts as memorised when it lies closer to some training clip than 99 % of held-back real clips do. Real data
that were never trained on score 1 % by construction; a model that copies scores up to 100 %.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from diorama.evaluate.neighbours import nearest

QUANTILE = 0.01


@dataclass(frozen=True)
class Memorised:
    """The verdict, and the neighbours to look at. Distances are root-mean-square over the pixels, in grey levels."""

    distance: Float[np.ndarray, "n"]  # of each sample to its nearest training clip, 0-255
    neighbour: Int[np.ndarray, "n"]  # that clip's index in the training clips
    threshold: float  # the 1 % quantile of held-back clips' distances
    held_back: Float[np.ndarray, "m"]  # those distances

    @property
    def flagged(self) -> Bool[np.ndarray, "n"]:
        """The samples that count as memorised: at the threshold or below it, so a copy always counts."""
        return self.distance <= self.threshold

    @property
    def fraction(self) -> float:
        """The share of samples that count as memorised."""
        return float(self.flagged.mean())


def memorisation(
    samples: UInt8[np.ndarray, "n t h w c"],
    train: UInt8[np.ndarray, "k t h w c"],
    held_back: UInt8[np.ndarray, "m t h w c"],
    block: int = 512,
) -> Memorised:
    """Compare every sample, and every held-back clip, with all training clips.

    Samples should be made for the prompts of the held-back clips (a one lies nearer to its kind than an eight), which
    should number several hundred: with m, the share that fresh clips score has a standard deviation of 0.1 / √m.
    """
    if not samples.shape[1:] == train.shape[1:] == held_back.shape[1:]:
        raise ValueError(f"clips differ in shape: {samples.shape}, {train.shape}, {held_back.shape}")
    scale = np.sqrt(np.prod(samples.shape[1:]))
    index, distance = nearest(samples, train, block=block)
    fresh = nearest(held_back, train, block=block)[1][:, 0] / scale
    return Memorised(distance[:, 0] / scale, index[:, 0], float(np.quantile(fresh, QUANTILE)), fresh)

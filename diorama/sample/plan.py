"""Plans: who is denoised when. A plan is a matrix of noise times, (steps + 1, frames), from a grid's (steps + 1,).

Row r says the noise time of every frame before step r. A frame that is 0 throughout is given; one at 1 waits.
All plans are one: frame f walks down the grid after a delay of its own.
"""

import numpy as np

from diorama.core.errors import UserError


def delayed(taus: np.ndarray, delays: np.ndarray, given: int = 0) -> np.ndarray:
    """Frame f starts down `taus` at row delays[f]; the first `given` frames are 0 from the beginning."""
    steps, delays = len(taus) - 1, np.asarray(delays)
    rows = np.arange(steps + delays.max(initial=0) + 1)
    plan = np.asarray(taus)[np.clip(rows[:, None] - delays, 0, steps)]
    return np.concatenate([np.zeros((len(rows), given)), plan], axis=1)


def joint(taus: np.ndarray, frames: int, given: int = 0) -> np.ndarray:
    """All frames together; the first `given` are known (extension of a clip, or image to video with given = 1)."""
    return delayed(taus, np.zeros(_new(frames, given), int), given)


def autoregressive(taus: np.ndarray, frames: int, given: int = 0, chunk: int = 1) -> np.ndarray:
    """One chunk of frames after the other: each walks the whole grid; earlier ones are done, later ones wait."""
    return delayed(taus, np.arange(_new(frames, given)) // chunk * (len(taus) - 1), given)


def pyramid(taus: np.ndarray, frames: int, given: int = 0, lag: int = 1) -> np.ndarray:
    """Each frame `lag` steps behind the one before (diffusion forcing, arXiv 2407.01392)."""
    return delayed(taus, np.arange(_new(frames, given)) * lag, given)


def _new(frames: int, given: int) -> int:
    if not 0 <= given < frames:
        raise UserError(f"a plan of {frames} frames with {given} given leaves none to make: give fewer or make more")
    return frames - given

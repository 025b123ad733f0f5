"""Plans: who is denoised when. A plan is a matrix of noise times, (steps + 1, frames), from a grid's (steps + 1,).

Row r says the noise time of every frame before step r. A frame that is 0 throughout is given; one at 1 waits.
All plans are one: frame f walks down the grid after a delay of its own. The times may rise on the way (`Restart`), with
fresh noise.
"""

from dataclasses import dataclass

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
    if chunk < 1:
        raise UserError(f"chunk={chunk}: a chunk has at least one frame")
    return delayed(taus, np.arange(_new(frames, given)) // chunk * (len(taus) - 1), given)


def pyramid(taus: np.ndarray, frames: int, given: int = 0, lag: int = 1) -> np.ndarray:
    """Each frame `lag` steps behind the one before (diffusion forcing, arXiv 2407.01392)."""
    if lag < 0:
        raise UserError(f"lag={lag}: no frame is ahead of the one before, so a lag is at least 0")
    return delayed(taus, np.arange(_new(frames, given)) * lag, given)


@dataclass(frozen=True)
class Restart:
    """A grid that goes back up: from the time nearest to `low` to `high`, and down again in `steps`, `times` over.

    Xu et al. 2023 (arXiv 2306.14878), algorithm 1. Fresh noise forgets the errors made so far, and the ODE goes on
    from there with few: it costs `times` x `steps` more. The steps are spaced as those of the grid between the two.
    """

    low: float = 0.05
    high: float = 0.4
    times: int = 2
    steps: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1 or self.times < 1 or self.steps < 1:
            raise UserError(f"{self}: low is below high, both in [0, 1], and there is at least one time and one step")

    def __call__(self, taus: np.ndarray) -> np.ndarray:
        """`taus` (steps + 1,), falling, with the restarts in it; for any plan.

        Raises `UserError` if there is no time of the grid that is below `high` and nearest to `low`.
        """
        row = int(np.abs(taus - self.low).argmin())
        if taus[row] >= self.high:
            raise UserError(f"no time of the grid of {len(taus) - 1} steps is near {self.low} and below {self.high}")
        top = np.interp(self.high, taus[::-1], np.arange(len(taus))[::-1])
        again = np.interp(np.linspace(top, row, self.steps + 1), np.arange(len(taus)), taus)
        again[[0, -1]] = self.high, taus[row]
        return np.concatenate([taus[: row + 1], *[again] * self.times, taus[row + 1 :]])


def _new(frames: int, given: int) -> int:
    if not 0 <= given < frames:
        raise UserError(f"a plan of {frames} frames with {given} given leaves none to make: give fewer or make more")
    return frames - given

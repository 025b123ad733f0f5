"""An alarm for grids in samples: codecs that enlarge, and networks that work on patches, leave their lattice behind.

A pattern that repeats every p pixels has all of its power at the frequencies (i / p, j / p). How far those stand above
their neighbours is the `contrast` of a picture: the mean over the lattice of log P less the mean log P of the eight
frequencies around, where those on the axes, which lines fill, count as much as all others, which checkers fill. The
logarithm of a radial frequency is harmonic, so that for a spectrum that falls as k^-a, whatever a, the mean around a
point is what lies at it: sharper or softer pictures have the same contrast, grids have more.

Real clips go through the same measure and are the reference. JPEG's blocks in the data are no fault of the samples; and
where data have less at the lattice than around it, as pictures that were enlarged, it is no grid to have as much.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from scipy.stats import binom, mannwhitneyu

from diorama.core.errors import UserError

RATE = 0.001  # of false alarms, over all periods together
CELLS = 3  # of the lattice along each side, at least: fewer leave no neighbours of their own
ROUNDING = 1 / 12  # variance of what 8 bits round off: the least power that means anything


@dataclass(frozen=True)
class GridAlarm:
    """Whether samples repeat every `period` pixels more than data do.

    value, reference: mean contrast of samples and of data, in decibels. chance: of samples that rank so high if they
    were data, or of so many that stand above their neighbours if none had a grid, whichever is larger. threshold: the
    chance below which the alarm sounds. amplitude: of the grid in the middling sample, RMS in grey levels of 255; a
    faint grid of a long period is lost in the picture and counts as 0.
    """

    period: int
    value: float
    reference: float
    chance: float
    threshold: float
    amplitude: float

    @property
    def verdict(self) -> bool:
        """Whether the alarm sounds."""
        return self.chance < self.threshold


def grid_alarm(
    samples: UInt8[np.ndarray, "b t h w c"], data: UInt8[np.ndarray, "n t h w c"], periods: Sequence[int],
    rate: float = RATE,
) -> tuple[GridAlarm, ...]:  # fmt: skip
    """One alarm for each of `periods` that fits into the clips at least `CELLS` times; none where none does.

    A rank test (Mann & Whitney 1947) of the clips' contrasts against those of data, and a sign test of whether they are
    above 0; the alarm asks for both. Where samples are distributed as data are, any of the alarms sounds with a chance
    of at most `rate`, whatever that distribution is. Clips are one figure each, so they have
    to be drawn independently: windows of one video are not.

    Raises `UserError` for so few clips that the alarm could never sound.
    """
    fitting = [p for p in sorted(set(periods)) if p > 1 and min(data.shape[2:4]) >= CELLS * p]
    found = []
    for period in fitting:
        ours, theirs = (_powers(clips, period) for clips in (samples, data))
        (value, reference), threshold = (10 / np.log(10) * p.contrast for p in (ours, theirs)), rate / len(fitting)
        if _chance(np.ones(len(value)), np.zeros(len(reference))) >= threshold:
            raise UserError(f"{len(samples)} samples and {len(data)} clips are too few to tell a grid: take 16 of each")
        chance = _chance(value, reference)
        usual = max(float(np.median(theirs.lattice / theirs.around)), 1.0)
        extra = np.median(ours.lattice - usual * ours.around)
        found.append(GridAlarm(period, float(value.mean()), float(reference.mean()), chance, threshold,
                               float(np.sqrt(max(extra, 0.0)))))  # fmt: skip
    return tuple(found)


def _chance(value: np.ndarray, reference: np.ndarray) -> float:
    """The larger of the two tests' chances: an alarm that asks for both is as rare as the rarer one."""
    rank = mannwhitneyu(value, reference, alternative="greater").pvalue
    return max(float(rank), float(binom.sf((value > 0).sum() - 1, len(value), 0.5)))


def contrast(clips: UInt8[np.ndarray, "b t h w c"], period: int) -> Float[np.ndarray, "b"]:
    """How far the lattice of `period` pixels stands above its neighbours, of each clip; natural logarithm."""
    return _powers(clips, period).contrast


@dataclass(frozen=True)
class _Powers:
    """Of each clip (b,): the contrast, and the variance at the lattice and what its neighbours let expect there."""

    contrast: np.ndarray
    lattice: np.ndarray
    around: np.ndarray


def _powers(clips: np.ndarray, period: int) -> _Powers:
    h, w = (side // period * period for side in clips.shape[2:4])
    power = np.stack([_power(clip[:, :h, :w]) for clip in clips])
    log = np.log(power + ROUNDING)
    moves = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    around = np.mean([np.roll(log, move, (1, 2)) for move in moves], axis=0)
    rows, columns = np.meshgrid(np.arange(0, h, h // period), np.arange(0, w, w // period), indexing="ij")
    rows, columns = rows.ravel()[1:], columns.ravel()[1:]  # without the mean
    at, near = log[:, rows, columns], around[:, rows, columns]
    above, axes = at - near, (rows == 0) | (columns == 0)
    both = (above[:, axes].mean(1) + above[:, ~axes].mean(1)) / 2
    return _Powers(both, np.exp(at).sum(1) / (h * w), np.exp(near).sum(1) / (h * w))


def _power(clip: np.ndarray) -> np.ndarray:
    """Power (h, w) of a clip (t, h, w, c), in grey levels squared, a mean over frames and channels; without the cross
    that the step from edge to edge draws: Moisan 2011, "Periodic plus smooth image decomposition", equation 11."""
    x = np.moveaxis(clip.astype(np.float64), -1, 1)  # (t, c, h, w)
    h, w = x.shape[-2:]
    step = np.zeros_like(x)
    down, across = x[..., -1, :] - x[..., 0, :], x[..., -1] - x[..., 0]
    step[..., 0, :] += down
    step[..., -1, :] -= down
    step[..., 0] += across
    step[..., -1] -= across
    turn = 2 * np.cos(2 * np.pi * np.fft.fftfreq(h))[:, None] + 2 * np.cos(2 * np.pi * np.fft.fftfreq(w)) - 4
    turn[0, 0] = 1.0
    smooth = np.fft.fft2(step) / turn
    return (np.abs(np.fft.fft2(x) - smooth) ** 2 / (h * w)).mean((0, 1))

"""Feeding: from random access to an endless, resumable stream of batches, by Grain.

The stream is a function of (sources, seed): position k gives the same batch whatever the number of threads, and on
host h of H the same batch's examples h, h + H, h + 2H, ... `get_state` and `set_state` are the position alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grain
import numpy as np

from diorama.core.errors import UserError
from diorama.data.clips import Example
from diorama.media import crop

GOLDEN = (5**0.5 - 1) / 2


class Source(Protocol):
    """Random access to examples; `weights` (n,) float64, mean 1, say how often each is drawn in an epoch."""

    @property
    def weights(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class _Drawn(grain.MapDataset[Example]):
    """As many examples an epoch as there are, each about as often as its weight says, in their order.

    Systematic resampling (Kitagawa 1996, "Monte Carlo filter and smoother for non-Gaussian nonlinear state space
    models"): examples lie one after another on a line, each as long as its weight, and every whole number plus the
    epoch's offset draws what lies there. So an example comes floor(weight) or ceil(weight) times an epoch. Offsets go
    round by the golden ratio, so that over epochs the counts stay near their expectation too.
    """

    def __init__(self, parent: grain.MapDataset[Example], weights: np.ndarray, seed: int):
        super().__init__(parent)
        ends = np.cumsum(weights)
        self._ends = ends * (len(ends) / ends[-1])
        self._offset = np.random.default_rng(seed).random()

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        epoch, place = divmod(index, len(self))
        offset = (self._offset + epoch * GOLDEN) % 1
        drawn = np.searchsorted(self._ends, place + offset, side="right")
        return self._parent[min(int(drawn), len(self) - 1)]


def collate(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """Stack examples by name; uint8 media becomes float32 in [-1, 1]; text is left out."""
    batch = {}
    for name, value in examples[0].items():
        if isinstance(value, str):
            continue
        stacked = np.stack([example[name] for example in examples])
        if name == "media" and stacked.dtype == np.uint8:
            stacked = np.multiply(stacked, np.float32(1 / 127.5), dtype=np.float32)
            stacked -= 1
        batch[name] = stacked
    return batch


def loader(
    sources: Sequence[tuple[Source, int, float]],
    *,
    seed: int,
    host: int = 0,
    hosts: int = 1,
    transform: Callable[[Example], Example] | None = None,
    augment: Callable[[Example, np.random.Generator], Example] | None = None,
    threads: int = 2,
    ahead: int = 4,
) -> grain.DatasetIterator[dict[str, np.ndarray]]:
    """An endless iterator of batches, each from one of `sources`: (source, examples a batch over all hosts, weight).

    Every epoch of a source is shuffled anew, and shows each example once, or where `source.weights` differ, its weight
    rounded down or up times; sources take turns by weight. `augment(example, generator)` is random by
    position in the stream, `transform(example)` is not random; text that is left afterwards is dropped. This host
    (`host` of `hosts`) gets its share of every batch. `threads` make `ahead` batches ahead. The iterator has
    `get_state()` and `set_state(state)`. Raises `UserError` when a batch does not divide over the hosts.
    """
    if not sources:
        raise UserError("a loader needs at least one source")
    streams, weights = [], []
    for number, (source, size, weight) in enumerate(sources):
        if weight <= 0:
            raise UserError(f"{source} has weight {weight}: leave out a source that is not to be drawn from")
        if size % hosts:
            raise UserError(f"a batch of {size} does not divide over {hosts} hosts: use a multiple of {hosts}")
        stream = grain.MapDataset.source(source)
        if np.ptp(source.weights):  # else each comes once as it is
            stream = _Drawn(stream, _valid(source), seed + number)
        stream = stream.seed(seed + number).shuffle().repeat()
        if augment:
            stream = stream.random_map(augment)
        if transform:
            stream = stream.map(transform)
        if hosts > 1:
            stream = stream[host::hosts]
        streams.append(stream.batch(size // hosts, drop_remainder=True, batch_fn=collate))
        weights.append(weight)
    mixed = streams[0] if len(streams) == 1 else grain.MapDataset.mix(streams, weights)
    return iter(mixed.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)))


def _valid(source: Source) -> np.ndarray:
    """The weights of a source. Raises `UserError` for some that cannot be drawn by."""
    weights = np.asarray(source.weights, np.float64)
    if weights.shape != (len(source),) or not np.isfinite(weights).all() or weights.min() < 0:
        raise UserError(f"{source} needs a finite weight for each example, 0 or above")
    return weights


def in_order(source: Source, size: int) -> Iterator[dict[str, Any]]:
    """Every example once, in order, in batches of `size` (the last may be smaller), with text as lists of `str`."""
    for start in range(0, len(source), size):
        examples = [source[i] for i in range(start, min(start + size, len(source)))]
        texts = {name: [e[name] for e in examples] for name, value in examples[0].items() if isinstance(value, str)}
        yield collate(examples) | texts


@dataclass(frozen=True)
class RandomCrop:
    """An augmentation for sources with `crop=False`: a random window, mirrored at chance `flip`."""

    height: int
    width: int
    flip: float = 0.0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        media = example["media"]
        y = int(rng.integers(media.shape[1] - self.height + 1))
        x = int(rng.integers(media.shape[2] - self.width + 1))
        media = crop(media, y, x, self.height, self.width)
        return example | {"media": media[:, :, ::-1] if rng.uniform() < self.flip else media}

"""Random access to examples: clips of a catalogue as frames of one size, or arrays that lie in memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diorama.core.errors import UserError
from diorama.data.catalogue import Catalogue

Example = dict[str, Any]


class ClipSource:
    """The clips of a catalogue's `split` that give `frames` frames of `height` x `width`, in order of id.

    `source[i]` is `{"media": uint8 (t, h, w, 3), "id": uint32, "caption": str, "label": int32 (-1: none),
    "actions": int32 (t,) (0: none)}`. Frames are scaled to cover the size and cut in the middle; with `crop=False` they
    keep what overlaps, for an augmentation to cut. `frames=1` takes stills; `kind="video"` or `"any"` with `frames=1`
    takes the first frame of videos too. `aspects` takes clips whose width over height is above its first number and at
    most its second. `stride` is the step between frames taken. `hop` also takes the windows that
    begin every `hop` frames later, each an example of its own with its own id; by default a clip is one example, from
    its start. Raises `UserError` when no clip fits.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        split: str | None = "train",
        frames: int = 1,
        height: int = 32,
        width: int = 32,
        *,
        stride: int = 1,
        hop: int | None = None,
        kind: str | None = None,
        aspects: tuple[float, float] | None = None,
        crop: bool = True,
    ):
        self.catalogue, self.split = catalogue, split
        self.frames, self.height, self.width, self.stride = frames, height, width, stride
        self.crop = crop
        self._span = (frames - 1) * stride + 1
        kind = kind or ("image" if frames == 1 else "video")
        rows = catalogue.clips(split).to_pylist()
        low, high = aspects or (0.0, np.inf)
        self._clips = [
            r for r in rows
            if r["t"] >= self._span and (kind == "any" or r["kind"] == kind) and low < r["w"] / r["h"] <= high
        ]  # fmt: skip
        if not self._clips:
            held = f"of the {len(rows)} clips in split '{split}' none is a clip" if split else "no clip is one"
            raise UserError(f"{catalogue.path}: {held} of kind '{kind}' with {self._span} frames or more")
        counts = [1 + (c["t"] - self._span) // hop if hop else 1 for c in self._clips]
        self._clip = np.repeat(np.arange(len(counts)), counts)
        self._start = np.concatenate([np.arange(n) * (hop or 0) for n in counts])
        # A window's id: the clip's, moved on by an odd constant (2^32 over the golden ratio) a frame.
        ids = np.array([int(c["id"][:8], 16) for c in self._clips], np.uint64)
        self.ids = ((ids[self._clip] + self._start.astype(np.uint64) * 2654435761) % 2**32).astype(np.uint32)

    def __len__(self) -> int:
        return len(self._clip)

    def __repr__(self) -> str:
        return f"ClipSource({len(self)} of {self.frames}x{self.height}x{self.width}, {self.catalogue.hash()[:8]})"

    @property
    def weights(self) -> np.ndarray:
        """How often every example is drawn beside the average one, in order: that of its clip; float64, mean 1."""
        weights = np.array([1.0 if (w := c.get("weight")) is None else w for c in self._clips])[self._clip]
        return weights / weights.mean()

    @property
    def captions(self) -> list[str]:
        """The caption of every example, in order."""
        return [self._clips[c]["caption"] or "" for c in self._clip]

    @property
    def labels(self) -> np.ndarray:
        """The label of every example, in order; int32, -1 where there is none."""
        labels = [-1 if c["label"] is None else c["label"] for c in self._clips]
        return np.array(labels, np.int32)[self._clip]

    def row(self, i: int) -> dict[str, Any]:
        """What the catalogue knows about example `i`'s clip: its id, location, class_name, group, rate, more, ..."""
        return self._clips[self._clip[i]]

    def __getitem__(self, i: int) -> Example:
        start = int(self._start[i])
        window = slice(start, start + self._span, self.stride)
        clip = self.row(i)
        actions = np.zeros(self.frames, np.int32)
        if clip["actions"]:
            actions[:] = clip["actions"][window]
            actions[0] = 0  # nothing leads to the first frame
        media = self.catalogue.frames(clip, self.height, self.width, self.crop)[window]
        label = np.int32(-1 if clip["label"] is None else clip["label"])
        return {"media": media, "id": self.ids[i], "caption": clip["caption"] or "", "label": label, "actions": actions}


class ArraySource:
    """Examples out of arrays and lists of equal length by name, such as `media` (latents), `id` and `caption`.

    weights (n,): how often each is drawn beside the others; all alike unless told otherwise.
    """

    def __init__(self, columns: Mapping[str, np.ndarray | Sequence[Any]], weights: np.ndarray | None = None):
        lengths = {name: len(values) for name, values in columns.items()}
        lengths |= {} if weights is None else {"weights": len(weights)}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns differ in length: {lengths}")
        self.columns = dict(columns)
        self.weights = np.ones(len(self)) if weights is None else np.asarray(weights, np.float64)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, i: int) -> Example:
        return {name: values[i] for name, values in self.columns.items()}

    def __repr__(self) -> str:
        return f"ArraySource({len(self)}: {', '.join(self.columns)})"

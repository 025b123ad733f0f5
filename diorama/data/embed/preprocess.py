"""What a published encoder wants a picture to be, as its `preprocessor_config.json` says."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diorama.core.errors import UserError


@dataclass(frozen=True)
class Preprocess:
    """A picture is scaled, the shorter side to `short` or both sides to `size` (h, w); cropped in the middle to `crop`
    (h, w); and a channel's value in [0, 1] becomes (value - mean) / std.

    resample: a filter of Pillow by its number. Raises `UserError` unless the result is a square of one size.
    """

    short: int | None
    size: tuple[int, int] | None
    crop: tuple[int, int] | None
    resample: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def read(path: Path) -> "Preprocess":
        """That of a file. Raises `UserError` where it is missing or says what is not known here."""
        try:
            said = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read: {error}; take a folder as Hugging Face has it") from None
        if not said.get("do_resize", True) or not np.isclose(said.get("rescale_factor", 1 / 255), 1 / 255):
            raise UserError(f"{path} neither scales pictures nor counts levels to 255: not an encoder known here")
        size, crop = _size(said.get("size")), _size(said.get("crop_size")) if said.get("do_center_crop") else None
        if size is None or (isinstance(size, int) and crop is None):
            raise UserError(f"{path} says no fixed size of a picture")
        normalised = said.get("do_normalize", True)
        out = Preprocess(
            short=size if isinstance(size, int) else None,
            size=None if isinstance(size, int) else size,
            crop=(crop, crop) if isinstance(crop, int) else crop,
            resample=int(said.get("resample", Image.Resampling.BICUBIC)),
            mean=tuple(said["image_mean"]) if normalised else (0.0,) * 3,
            std=tuple(said["image_std"]) if normalised else (1.0,) * 3,
        )
        if len(set(out.shape)) > 1 or (out.short or out.shape[0]) < out.shape[0]:
            raise UserError(f"{path} makes pictures of {out.shape}; a square within them is what is known here")
        return out

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what comes out."""
        shape = self.crop or self.size
        assert shape is not None
        return shape

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8 as (h, w, 3) float32."""
        h, w = picture.shape[:2]
        if self.size is not None:
            h, w = self.size
        elif self.short is not None:
            h, w = (self.short if side == min(h, w) else int(self.short * side / min(h, w)) for side in (h, w))
        x = np.asarray(Image.fromarray(picture).resize((w, h), Image.Resampling(self.resample)))
        if self.crop is not None:
            top, left = (h - self.crop[0]) // 2, (w - self.crop[1]) // 2
            x = x[top : top + self.crop[0], left : left + self.crop[1]]
        return (x.astype(np.float32) / 255 - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)


def _size(said: Any) -> int | tuple[int, int] | None:
    """A size as files spell it, in older and newer ways: the shorter side, or height and width."""
    if isinstance(said, int):
        return said
    if isinstance(said, dict) and "shortest_edge" in said:
        return int(said["shortest_edge"])
    if isinstance(said, dict) and {"height", "width"} <= set(said):
        return int(said["height"]), int(said["width"])
    return None

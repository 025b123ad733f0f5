"""How well a caption and the pictures agree, by the two towers of a model that embeds both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa

from diorama.core.errors import UserError
from diorama.data.captions.choice import preferred


class TextEncoder(Protocol):
    """The text tower of a model that embeds pictures and texts in one space; a frozen dataclass.

    `diorama.data.embed.PretrainedText` is one, of CLIP or SigLIP from files. weights: files whose content decides what
    it gives.
    """

    @property
    def weights(self) -> tuple[Path, ...]: ...

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Vectors (n, d) float32 of n texts, of any length. Raises `UserError`."""


@dataclass(frozen=True)
class Agreement:
    """The cosine between a clip's `vector` and that of the first column of `of` that holds words, -1 to 1.

        derived=(Pretrained(folder), Agreement(PretrainedText(folder)))  # both towers of one folder, CLIP or SigLIP
        rules=(Drop("other words", (Where("agreement.cosine", below=Percentile(10)),)),)

    As CLIP score, J. Hessel et al. (2021), equation 1 before its rescaling. Null where either is missing. Absolute
    values belong to a model: set thresholds as a `Percentile`. What a model makes of the cosine, exp(scale) cosine +
    bias (CLIP without the bias; Zhai et al. 2023, section 3), rises with it, so that a percentile of either leaves out
    the same clips.
    """

    encoder: TextEncoder
    of: tuple[str, ...] = ("caption",)
    vector: str = "embedding.vector"
    name: str = "agreement"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"cosine": float}

    @property
    def reads(self) -> tuple[str, ...]:
        """As `Derived.reads`."""
        return (self.vector, *self.of)

    @property
    def weights(self) -> tuple[Path, ...]:
        """As `Derived.weights`."""
        return self.encoder.weights

    def prepare(
        self, models: Path, sample: Callable[[int], pa.Table]
    ) -> Callable[[pa.Table], Mapping[str, Sequence[Any]]]:
        """As `Derived.prepare`."""

        def batch(table: pa.Table) -> dict[str, list[Any]]:
            texts, vectors = preferred(table, self.of), table[self.vector].to_pylist()
            there = [n for n, (text, vector) in enumerate(zip(texts, vectors, strict=True)) if text and vector]
            found: list[float | None] = [None] * len(table)
            if there:
                pictures = np.array([vectors[n] for n in there], np.float64)
                words = np.asarray(self.encoder([texts[n] or "" for n in there]), np.float64)
                for n, cosine in zip(there, self._cosines(pictures, words), strict=True):
                    found[n] = None if np.isnan(cosine) else float(cosine)
            return {"cosine": found}

        return batch

    def _cosines(self, pictures: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Row by row, (n,); NaN where a vector is zero."""
        if pictures.shape != words.shape:
            raise UserError(
                f"{self.vector} has {pictures.shape[1]} numbers and the text encoder gave {words.shape}: both have to "
                "be towers of one model"
            )
        lengths = np.linalg.norm(pictures, axis=1) * np.linalg.norm(words, axis=1)
        with np.errstate(invalid="ignore"):
            return np.sum(pictures * words, axis=1) / np.where(lengths > 0, lengths, np.nan)

"""Cosines between pictures and captions, with an encoder whose vectors are known."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest

from diorama.core.errors import UserError
from diorama.data.captions import Agreement


@dataclass(frozen=True)
class Directions:
    """A text "60" is the unit vector at 60 degrees, times 3; "" and "zero" are zero."""

    width: int = 2
    weights: ClassVar[tuple[Path, ...]] = ()

    def __call__(self, texts: list[str]) -> np.ndarray:
        angles = np.radians([float(text) if text != "zero" else 0 for text in texts])
        vectors = 3 * np.stack([np.cos(angles), np.sin(angles)], 1) * [[text != "zero"] for text in texts]
        return np.pad(vectors, ((0, 0), (0, self.width - 2))).astype(np.float32)


def cosines(captions: list, vectors: list, width: int = 2) -> list:
    table = pa.table({"id": [str(n) for n in range(len(captions))], "caption": pa.array(captions, pa.string()),
                      "embedding.vector": pa.array(vectors, pa.list_(pa.float32()))})  # fmt: skip
    return Agreement(Directions(width)).prepare(Path(), lambda n: table)(table)["cosine"]


def test_known_angles():
    found = cosines(["0", "60", "90", "180"], [[0.5, 0.0]] * 4)
    assert found == pytest.approx([1, 0.5, 0, -1], abs=1e-6)


def test_null_where_either_is_missing_or_zero():
    found = cosines(["0", None, " ", "zero", "0", "0"], [[1.0, 0.0]] * 4 + [None, [0.0, 0.0]])
    assert found == [pytest.approx(1), None, None, None, None, None]
    assert cosines([None], [None]) == [None]


def test_towers_of_two_models():
    with pytest.raises(UserError, match="both have to be towers of one model"):
        cosines(["0", "0"], [[1.0, 0.0]] * 2, width=3)


def test_it_reads_the_columns_it_is_told():
    stage = Agreement(Directions(), of=("vlm.caption", "caption"), vector="clip.vector")
    assert stage.reads == ("clip.vector", "vlm.caption", "caption")

"""Cosines between pictures and captions, with encoders whose vectors are known."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest

from diorama.core.errors import UserError
from diorama.data import Catalogue, Curation, Drop, Where, curate
from diorama.data.captions import Agreement
from diorama.data.embed import Pretrained, PretrainedText
from diorama.data.stages import Preview
from diorama.media import write_png
from tests.data.embed.worded import write_colours


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


def picture(path: Path, colour: tuple[int, int, int], caption: str | None) -> None:
    """A square of nearly one colour, no two alike."""
    noise = np.random.default_rng(len(list(path.parent.iterdir()))).integers(0, 40, (24, 24, 3))
    write_png(path, np.abs(np.array(colour) - noise).astype(np.uint8))
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)


def test_a_model_on_disk_finds_the_captions_that_are_wrong(tmp_path):
    """A model whose weights say what red and green look like, and a rule that drops what is below."""
    model = str(write_colours(tmp_path / "model"))
    sources, red, green = tmp_path / "squares", (255, 0, 0), (0, 255, 0)
    sources.mkdir()
    shown = {
        "right": (red, "A RED square", 1),
        "wrong": (red, "the green square", -1),
        "also_right": (green, "a photo of the green, green square", 1),
        "also_wrong": (green, "a square, red", -1),
        "late": (red, "red " + "a photo of " * 9 + "green green", 1),  # what is cut off counts for nothing
        "silent": (red, "a square", None),
        "bare": (green, None, None),
    }
    for name, (colour, caption, _) in shown.items():
        picture(sources / f"{name}.png", colour, caption)
    policy = Curation(
        stages=(Preview(),),
        derived=(Pretrained(model), Agreement(PretrainedText(model))),
        rules=(Drop("other words", (Where("agreement.cosine", below=0.5),)),),
    )
    summary = curate([sources], tmp_path / "c", policy)
    asked = "select location, cosine from agreement join observations using (id)"
    found = {Path(row["location"]).stem: row["cosine"] for row in Catalogue(tmp_path / "c").ask(asked).to_pylist()}
    assert found == {name: cosine and pytest.approx(cosine, abs=1e-5) for name, (_, _, cosine) in shown.items()}
    assert list(summary.dropped) == ["other words"]
    left = Catalogue(tmp_path / "c").ask("select location from clips").to_pylist()
    assert {Path(row["location"]).stem for row in left} == {n for n, (_, _, cosine) in shown.items() if cosine != -1}


def test_a_folder_without_a_tokenizer_stops_before_anything_is_embedded(tmp_path):
    model = write_colours(tmp_path / "model")
    (model / "tokenizer.json").unlink()
    (tmp_path / "squares").mkdir()
    picture(tmp_path / "squares" / "red.png", (255, 0, 0), "a red square")
    policy = Curation(stages=(Preview(),), derived=(Pretrained(str(model)), Agreement(PretrainedText(str(model)))))
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read"):
        curate([tmp_path / "squares"], tmp_path / "c", policy)

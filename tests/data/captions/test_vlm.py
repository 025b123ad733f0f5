"""The stage that captions: one row a clip whatever the model does, and never the same clip twice."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.data import Catalogue, Curation, curate
from diorama.data.captions import Caption, Captions, OpenAICompatible, server
from diorama.data.stages import Preview
from diorama.media import write_png
from tests.data.captions.chat import Answer, Server, chat


@dataclass(frozen=True)
class Toy:
    """Answers by prompt and clip from a table."""

    answers: dict[str, list[Caption]] = field(default_factory=dict)
    weights: ClassVar[tuple[Path, ...]] = ()

    def __call__(self, clips: Sequence[Sequence[bytes]], prompt: str, seed: int) -> list[Caption]:
        return self.answers[prompt][: len(clips)]


def run(stage: Captions, pictures: list) -> list[dict]:
    import pyarrow as pa

    table = pa.table({"id": [str(n) for n in range(len(pictures))],
                      "preview.images": pa.array(pictures, pa.list_(pa.binary()))})  # fmt: skip
    columns = stage.prepare(Path(), lambda n: table)(table)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_variants_side_by_side():
    good, cut, no = Caption("a cat", "success"), Caption("a cat on a", "truncated"), Caption("I'm sorry", "refused")
    bad = Caption(None, "error", "status 400")
    toy = Toy({"short": [good, no, bad, cut], "long": [good, Caption("A dog.", "success"), bad, bad]})
    rows = run(Captions(toy, ("short", "long")), [[b"1"], [b"2"], [b"3"], [b"4"]])
    assert [row["caption"] for row in rows] == ["a cat", "A dog.", None, None]
    assert [row["status"] for row in rows] == ["success", "success", "error", "truncated"]
    assert [row["error"] for row in rows] == [None, None, "status 400", None]
    assert rows[1]["captions"] == ["I'm sorry", "A dog."]
    assert rows[1]["statuses"] == ["refused", "success"]


def test_a_clip_without_pictures_is_an_error_and_is_not_asked_about():
    rows = run(Captions(Toy({"?": [Caption("a cat", "success")]}), ("?",)), [None, [b"1"], []])
    assert [row["caption"] for row in rows] == [None, "a cat", None]
    assert [bool(row["error"]) for row in rows] == [True, False, True]
    assert run(Captions(Toy(), ("?",)), [None])[0]["error"] == "there are no pictures of it to caption"


@pytest.mark.parametrize("prompts", [(), ("a", " ")])
def test_prompts_are_needed(prompts):
    with pytest.raises(UserError, match="needs prompts"):
        Captions(Toy(), prompts)


@pytest.mark.parametrize("captioner", ["a photo", Toy, None])
def test_a_captioner_is_needed(captioner):
    with pytest.raises(UserError, match="needs a model to ask, such as OpenAICompatible"):
        Captions(captioner)
    with pytest.raises(UserError, match=r"tuple of prompts, as \('a photo',\)"):
        Captions(Toy(), "a photo")


def test_a_catalogue_is_captioned_once_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "BACK_OFF", 0.0)
    monkeypatch.setattr("diorama.data.derive.ROWS", 2)
    (tmp_path / "greys").mkdir()
    for level in range(0, 240, 40):
        write_png(tmp_path / "greys" / f"{level}.png", np.full((8, 8, 3), level, np.uint8))

    there = Server(lambda request, n: Answer(b"", 401) if n == 4 else chat(f"grey {n}"))
    with there.running():
        model = OpenAICompatible("m", url=there.url, concurrency=1)
        policy = Curation(stages=(Preview(),), derived=(Captions(model),))
        with pytest.raises(UserError, match="refuses the model"):
            curate([tmp_path / "greys"], tmp_path / "c", policy)
        curate([tmp_path / "greys"], tmp_path / "c", policy)
        asked = [request.body for request in there.requests]
        assert all(asked.count(body) == 1 for body in asked[:4])  # two shards of two were finished before the refusal
        assert len(set(asked)) == 6
        curate([tmp_path / "greys"], tmp_path / "c", policy)
        assert len(there.requests) == len(asked)
    rows = Catalogue(tmp_path / "c").ask("select caption, status, error from vlm order by caption").to_pylist()
    assert [row["caption"] for row in rows[:4]] == [f"grey {n}" for n in range(4)]
    assert {(row["status"], row["error"]) for row in rows} == {("success", None)}
    assert there.requests[0].parts[0]["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")

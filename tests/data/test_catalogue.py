"""What a catalogue says of itself and of its clips, to people."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from diorama.data import Catalogue, Curation, curate, judge
from diorama.data.catalogue import CUT, Summary
from diorama.data.stages import Preview
from tests.data.make import media_folder


@dataclass(frozen=True)
class Vector:
    """512 numbers a clip."""

    name: ClassVar[str] = "embedding"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"vector": np.ndarray, "few": list[float]}
    reads: ClassVar[tuple[str, ...]] = ("preview.images",)
    weights: ClassVar[tuple[str, ...]] = ()

    def prepare(self, models, sample):
        """As `Derived.prepare`."""

        def batch(table: pa.Table) -> dict[str, Any]:
            return {"vector": [np.arange(512, dtype=np.float32)] * len(table), "few": [[0.123456, 2.0]] * len(table)}

        return batch


def test_pictures_and_vectors_are_counted_and_not_printed(tmp_path):
    folder = media_folder(tmp_path / "in", stills=1, videos=1)
    curate([folder], tmp_path / "c", Curation(stages=(Preview(),), derived=(Vector(),)))
    [still] = Catalogue(tmp_path / "c").explain("still0.png")
    [video] = Catalogue(tmp_path / "c").explain("video0.mp4")
    kilobytes = -(-len(still.measured["preview"]["images"][0]) // 1000)
    assert f"images 1 picture, {kilobytes} kB, at [0]" in str(still)
    assert "images 4 pictures, " in str(video)
    assert "vector 512 numbers, few [0.1235, 2]" in str(still)
    assert max(map(len, str(video).splitlines())) < 400


def test_what_people_said_is_told_with_who_said_it(tmp_path):
    out = tmp_path / "c"
    folder = media_folder(tmp_path / "in", stills=3, videos=0)
    curate([folder], out)
    [before] = Catalogue(out).explain("still0.png")
    assert before.judgements == []
    judge(out, [(before.item["id"], "caption", "a grey field"), (before.item["id"], "label", "field")], "ada")
    judge(out, [(before.item["id"], "caption", None), (before.item["id"], "drop", "random sample")], "bob")
    summary = curate([folder], out)
    [after] = Catalogue(out).explain("still0.png")
    lines = str(after).splitlines()
    assert sorted(line.split(maxsplit=1)[1] for line in lines[-6:]) == [  # all in one second or two
        "ada gave the caption 'a grey field'", "ada gave the label 'field'", "bob said drop: random sample",
        "bob took the caption back", "drop (bob): random sample", "keep (rule): sound and unlike the others",
    ]  # fmt: skip
    assert Catalogue(out).ask("select count(*) as n from judgements")["n"].to_pylist() == [4]
    assert list(summary.dropped) == ["judged by a person"]
    [other] = Catalogue(out).explain("still1.png")
    assert other.judgements == []


def summary(dropped: dict[str, list[str]]) -> list[str]:
    counts, examples = ({k: len(v) for k, v in dropped.items()}, {k: v[:3] for k, v in dropped.items()})
    told = Summary(2, {"image": 2}, {"train": 2}, {"with a caption": 1}, counts, examples, 0, "0" * 32)
    return str(told).splitlines()[2:-1]


def test_the_last_reason_is_named_and_more_are_counted():
    reasons = {f"reason {i}": [f"/in/{i}.png"] * (20 - i) for i in range(10)}
    nine = summary(dict(list(reasons.items())[:9]))
    assert len(nine) == 9
    assert nine[-1] == "  left out 12: reason 8 (8.png, 8.png, 8.png and 9 more)"
    ten = summary(reasons)
    assert len(ten) == 9
    assert ten[-1] == "  left out 23 for 2 other reasons: 'diorama report' shows them all"


def test_a_file_that_was_cut_is_no_loss():
    assert summary({CUT: ["/in/a.mp4"], "dark": ["/in/b.png"]}) == [
        "  1 file was cut into clips", "  left out 1: dark (b.png)",
    ]  # fmt: skip
    assert summary({CUT: ["/in/a.mp4"] * 1200}) == ["  1,200 files were cut into clips"]

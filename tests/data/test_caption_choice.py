"""Where a clip's caption comes from: people first, then the columns that the policy prefers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.data import Catalogue, Curation, Drop, Where, curate, judge
from diorama.data.captions import CaptionChecks, OpenAICompatible, Sift, Template
from diorama.data.captions.vlm import Captions
from diorama.data.derive import derived_folder
from diorama.media import write_png

SAID = {"a": ("stock photo", "cat"), "b": ("a dog on a beach", "dog"), "c": (None, "bird"), "d": (None, None)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "m").mkdir()
    say(tmp_path / "m", SAID)
    for n, name in enumerate(SAID):
        write_png(tmp_path / "m" / f"{name}.png", np.full((8, 8, 3), 40 * n, np.uint8))
    return tmp_path / "m"


def say(folder, said):
    import json

    lines = [{"file_name": f"{name}.png", "caption": caption, "class_name": kind}
             for name, (caption, kind) in said.items()]  # fmt: skip
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def policy(**options) -> Curation:
    sift = Sift((Where("wording.stock", above=0),))
    made = CaptionChecks(of=("template.caption",), name="made")
    return Curation(
        derived=(Template(("a {class_name}",)), CaptionChecks(), sift, made),
        **{"caption": ("sifted.caption", "template.caption")} | options,
    )


def captions(out) -> dict:
    return {clip["location"][-5]: clip["caption"] for clip in Catalogue(out).clips().to_pylist()}


def test_the_first_column_with_words_is_the_caption(folder, tmp_path):
    curate([folder], tmp_path / "c", policy())
    assert captions(tmp_path / "c") == {"a": "a cat", "b": "a dog on a beach", "c": "a bird", "d": None}
    before = Catalogue(tmp_path / "c").hash()
    curate([folder], tmp_path / "c", policy(caption=("template.caption", "caption")))
    assert captions(tmp_path / "c") == {"a": "a cat", "b": "a dog", "c": "a bird", "d": None}
    assert Catalogue(tmp_path / "c").hash() != before
    curate([folder], tmp_path / "c", policy(caption=("caption",)))
    assert captions(tmp_path / "c") == {"a": "stock photo", "b": "a dog on a beach", "c": None, "d": None}


def test_people_come_before_all_columns(folder, tmp_path):
    out = tmp_path / "c"
    curate([folder], out, policy())
    ids = {clip["location"][-5]: clip["id"] for clip in Catalogue(out).clips().to_pylist()}
    judge(out, [(ids["a"], "caption", "my cat"), (ids["b"], "caption", ""), (ids["d"], "caption", "dark")], "me")
    judge(out, [(ids["d"], "keep", None)], "me")
    curate([folder], out, policy(caption=("template.caption", "caption")))
    assert captions(out) == {"a": "my cat", "b": None, "c": "a bird", "d": "dark"}
    judge(out, [(ids["a"], "caption", None)], "me")
    curate([folder], out, policy())
    assert captions(out)["a"] == "a cat"


def test_what_was_made_of_changed_words_is_made_anew(folder, tmp_path):
    rule = Drop("long", (Where("made.word_count", above=3),))
    assert curate([folder], tmp_path / "c", policy(rules=(rule,))).clips == 4
    say(folder, SAID | {"c": (None, "very small bird")})
    assert curate([folder], tmp_path / "c", policy(rules=(rule,))).clips == 3  # "a very small bird", by the template


def test_the_same_file_twice_follows_the_one_whose_words_are_read(folder, tmp_path):
    """Whatever is said of the other one."""
    write_png(folder / "z.png", np.full((8, 8, 3), 0, np.uint8))
    for other in ("1", "2"):  # one of them hashes to less than the caption before
        for caption in ("one", "another"):
            say(folder, SAID | {"a": (caption, "cat"), "z": (other, None)})
            curate([folder], tmp_path / "c", policy())
            assert captions(tmp_path / "c")["a"] == caption


def test_rules_ask_for_truths(folder, tmp_path):
    summary = curate([folder], tmp_path / "c", policy(rules=(Drop("stock", (Where("wording.stock", above=0),)),)))
    assert list(summary.dropped.values()) == [1]


@pytest.mark.parametrize("name", ["vlm.caption", "captoin", "wording.word_count", "label"])
def test_a_column_without_text_is_refused(name):
    with pytest.raises(UserError, match="a caption is to come from"):
        policy(caption=(name,))


def test_settings_that_change_no_answer_make_no_new_observations(tmp_path):
    def place(model):
        return derived_folder(tmp_path, {"preview": tmp_path / "p"}, Captions(model))

    assert place(OpenAICompatible("m", concurrency=2)) == place(OpenAICompatible("m", url="http://localhost:1/v1"))
    assert place(OpenAICompatible("m")) != place(OpenAICompatible("n"))


def test_a_list_of_addresses_is_not_curated(tmp_path):
    (tmp_path / "l.csv").write_text("url,caption\nhttp://x/a.png,a\n")
    with pytest.raises(UserError, match="diorama fetch"):
        curate([tmp_path / "l.csv"], tmp_path / "c")


@dataclass(frozen=True)
class Said:
    """A caption, and whether it was given."""

    name: ClassVar[str] = "said"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"caption": str, "given": float}
    reads: ClassVar[tuple[str, ...]] = ("caption",)
    weights: ClassVar[tuple[Path, ...]] = ()

    def prepare(self, models, sample):
        return lambda table: {"caption": [f"said of {words}" for words in table["caption"].to_pylist()],
                              "given": [1.0] * len(table)}  # fmt: skip


def test_a_stage_may_call_its_columns_as_curation_does(folder, tmp_path):
    curate([folder], tmp_path / "c", Curation(derived=(Said(),), caption=("said.caption",)))
    assert captions(tmp_path / "c")["b"] == "said of a dog on a beach"

"""What captions are measured to be, on captions whose faults are known."""

import time

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diorama.data import Catalogue, Curation, Drop, Where, curate
from diorama.data.captions import CaptionChecks, SameCaption, Sift
from diorama.data.captions.checks import longest_run, measure, words

SOUND = (
    "a dog on a beach",
    "Two children build a sandcastle. The sea is calm behind them.",
    "An old man reads his newspaper, which lies on the table",
    "1girl, solo, long hair, looking at viewer",
    "A sign that says 'stop'.",
    "Ein Hund läuft am Strand.",
    "一只狗在海滩上奔跑。",
    "собака бежит по пляжу",
    "the photographer takes a picture of his dog",
    "A man at no. 10 Downing St. waves",
    "Image processing laboratory with three computers",
)
KINDS = ("opener", "refusal", "stock", "file_name", "link", "markup", "hashtag", "truncated")


@pytest.mark.parametrize("text", SOUND)
def test_sound_captions_have_no_fault(text):
    row = measure(text)
    assert [kind for kind in KINDS if row[kind]] == (["truncated"] if "Downing" in text else [])
    assert row["repetition"] == 0
    assert row["longest_run"] == 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("opener", "An image of a dog"),
        ("opener", "This is a close-up photo of a red rose."),
        ("opener", "The video shows two men talking"),
        ("opener", "The image depicts a kitchen."),
        ("opener", "photograph of my cat"),
        ("refusal", "I'm sorry, but I can't help with that."),
        ("refusal", "As an AI language model I have no eyes"),
        ("refusal", "I cannot identify people in pictures."),
        ("refusal", "No image was provided"),
        ("stock", "Happy family - stock photo"),
        ("stock", "Sunset, royalty-free"),
        ("stock", "Shoes, click here for more"),
        ("stock", "Sneaker Air™"),
        ("file_name", "IMG_2041"),
        ("file_name", "DSC01234.JPG"),
        ("file_name", "holiday-2019.png"),
        ("link", "see https://example.org/a"),
        ("link", "www.example.org"),
        ("link", "write to me.too@example.org"),
        ("link", "Dogs by example.com"),
        ("markup", "<b>dog</b>"),
        ("markup", "cats &amp; dogs"),
        ("markup", "**A dog** runs"),
        ("markup", "[dog](a.htm)"),
        ("hashtag", "sunset #beach #nofilter"),
        ("truncated", "A dog runs on the"),
        ("truncated", "A dog runs, a cat sleeps and"),
        ("truncated", "A dog runs. The cat sle"),
        ("truncated", "A dog with a very long..."),
        ("truncated", "A dog,"),
    ],
)
def test_planted_faults_are_found(kind, text):
    assert [k for k in KINDS if measure(text)[k]] == [kind]


@pytest.mark.parametrize(
    ("text", "kind"), [("#1 of the class", "hashtag"), ("R&B; soul", "markup"), ("a < b", "markup")]
)
def test_what_only_looks_like_a_fault(text, kind):
    assert not measure(text)[kind]


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("A dog, two  cats.", ["a", "dog", "two", "cats"]),
        ("1girl,solo|long_hair", ["1girl", "solo", "long_hair"]),
        ("它是red狗。", ["它", "是", "red", "狗"]),
        ("एक कुत्ता।", ["एक", "कुत्ता।"]),
        ("l'évier — “state-of-the-art” ...", ["l'évier", "state-of-the-art"]),
        ("!!! ...", []),
    ],
)
def test_words(text, spoken):
    assert words(text) == spoken


@pytest.mark.parametrize(
    ("text", "longest"),
    [("", 0), ("a", 1), ("a b", 1), ("very very very good", 3), ("a b a b a b", 3), ("a b c a b d", 1),
     ("the cat the cat sat", 2), ("a a b b", 2)],
)  # fmt: skip
def test_longest_run(text, longest):
    assert longest_run(text.split()) == longest


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), st.integers(2, 6))
def test_a_phrase_said_n_times_runs_at_least_n(phrase, times):
    assert longest_run(phrase * times) >= times


def test_repetition_and_numbers_are_shares():
    assert measure("a b c a b c")["repetition"] == pytest.approx(1 / 4)  # abc bca cab abc
    assert measure("on and on and on and on")["repetition"] == pytest.approx(3 / 5)
    assert measure("no 1234 5678 40x")["numbers"] == pytest.approx(3 / 4)
    assert measure("1girl")["numbers"] == 0


@given(st.text(max_size=200))
def test_any_text_can_be_measured(text):
    row = measure(text)
    assert 0 <= row["repetition"] < 1
    assert 0 <= row["numbers"] <= 1
    assert 0 <= row["longest_run"] <= max(row["word_count"], 1)


def test_a_very_long_text_takes_no_time():
    began = time.process_time()
    for text in ("a." * 50_000, "a-" * 50_000, "<a " * 30_000, "# " * 50_000, "i'm " * 30_000):
        measure(text)
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("text", "script"),
    [("dog", "latin"), ("собака dog", "cyrillic"), ("كلب", "arabic"), ("犬が走っている", "hiragana"), ("狗在跑", "cjk"),
     ("कुत्ता", "devanagari"), ("123 !", None)],
)  # fmt: skip
def test_script(text, script):
    assert measure(text)["script"] == script


def test_the_key_forgets_case_and_punctuation():
    assert measure("A dog, running!")["key"] == measure(" a DOG running ")["key"] != measure("a dog runs")["key"]


def test_the_first_column_with_words_is_measured():
    table = pa.table({"id": ["1", "2", "3"], "caption": ["a dog", " ", None], "vlm.caption": ["x", "a b c", None]})
    columns = CaptionChecks(of=("caption", "vlm.caption")).prepare(None, None)(table)
    assert columns["word_count"] == [2, 3, 0]
    assert columns["repetition"] == [0.0, 0.0, None]


@pytest.fixture
def greys(tmp_path):
    import numpy as np

    from diorama.media import write_png

    said = ("stock photo", "A grey", "a  GREY.", "a grey!", "a darker square on a", None)
    (tmp_path / "greys").mkdir()
    for n, text in enumerate(said):
        write_png(tmp_path / "greys" / f"{n}.png", np.full((8, 8, 3), 20 * n, np.uint8))
        if text:
            (tmp_path / "greys" / f"{n}.txt").write_text(text)
    return tmp_path / "greys"


def test_rules_ask_for_the_measures(greys, tmp_path):
    rules = (
        Drop("no caption", (Where("wording.word_count", below=1),)),
        Drop("long", (Where("wording.word_count", above=4),)),
        SameCaption(most=2),
    )
    summary = curate([greys], tmp_path / "c", Curation(derived=(CaptionChecks(),), rules=rules))
    assert summary.dropped == {
        "same caption as many": 3, "no caption": 1, "long": 1}  # fmt: skip
    row = Catalogue(tmp_path / "c").ask("select * from decisions where metric = 'wording.key' limit 1").to_pylist()[0]
    assert (row["value"], row["threshold"]) == (3.0, 2.0)


def test_a_shared_caption_may_be_allowed(greys, tmp_path):
    policy = Curation(derived=(CaptionChecks(),), rules=(SameCaption(most=3),))
    assert curate([greys], tmp_path / "c", policy).clips == 6


def test_captions_are_sifted_without_losing_clips(greys, tmp_path):
    sift = Sift((Where("wording.stock", above=0), Where("wording.truncated", above=0)))
    assert curate([greys], tmp_path / "c", Curation(derived=(CaptionChecks(), sift))).clips == 6
    rows = Catalogue(tmp_path / "c").ask("select caption from sifted where caption is not null order by caption")
    assert rows["caption"].to_pylist() == ["A grey", "a  GREY.", "a grey!"]

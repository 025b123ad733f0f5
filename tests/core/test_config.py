"""Configuration: text and back, and settings from the command line."""

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diorama.core import UserError, override, parse, to_text
from diorama.core.config import flatten


@dataclass(frozen=True)
class Small:
    width: int = 8
    rate: float = 0.5


@dataclass(frozen=True)
class Large:
    width: int = 64
    levels: tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        if len(self.levels) != self.width // 32:
            raise ValueError(f"width={self.width} takes {self.width // 32} levels")


@dataclass(frozen=True)
class Needs:
    examples: int


@dataclass(frozen=True)
class Whole:
    net: Small | Large = field(default_factory=Small)
    parts: dict[str, Small | Large] = field(default_factory=lambda: {"b": Small(), "a": Large()})
    rows: tuple[Small, ...] = (Small(1), Small(2))
    pair: tuple[float, float] = (0.9, 0.99)
    stage: Needs | None = None
    limit: float | None = None
    share: float | Needs | None = None
    kind: Literal["one", "two"] = "one"
    name: str = "x"
    on: bool = False
    names: tuple[str, ...] = ()


WHOLE = Whole()


def test_text_is_complete_sorted_and_readable():
    lines = to_text(WHOLE).splitlines()
    keys = [line.split(": ")[0] for line in lines]
    assert keys == sorted(keys)
    assert {"net: Small", "net.width: 8", "parts: {a, b}", "parts.a: Large", "rows: [2]", "rows.1.width: 2"} <= set(
        lines
    )


@pytest.mark.parametrize(
    "config",
    [
        WHOLE,
        Whole(net=Large(96, (1, 2, 3)), parts={}, rows=(), stage=Needs(3), limit=1.5, kind="two", on=True),
        Whole(name="a: b\n'c' [1]", names=("None", "3", ""), limit=float("inf")),
    ],
)
def test_round_trip(config):
    assert parse(to_text(config), Whole) == config
    assert to_text(parse(to_text(config), Whole)) == to_text(config)


@given(
    st.builds(
        Whole,
        net=st.builds(Small, st.integers(), st.floats(allow_nan=False)),
        rows=st.lists(st.builds(Small, st.integers()), max_size=3).map(tuple),
        limit=st.none() | st.floats(allow_nan=False),
        name=st.text(),
        names=st.lists(st.text(), max_size=3).map(tuple),
    )
)
def test_round_trip_of_any_values(config):
    assert parse(to_text(config), Whole) == config


def test_whole_numbers_in_float_fields_read_back_as_floats():
    config = parse(to_text(Whole(net=Small(rate=1), pair=(0, 1))), Whole)
    assert (repr(config.net.rate), repr(config.pair)) == ("1.0", "(0.0, 1.0)")


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("net.width=16", "net.width", "16"),
        ("net.rate=2", "net.rate", "2.0"),
        ("net=Large", "net.width", "64"),
        ("parts.b.width=3", "parts.b.width", "3"),
        ("parts.a=Small", "parts.a", "Small"),
        ("rows.1.width=5", "rows.1.width", "5"),
        ("pair.1=1", "pair.1", None),
        ("pair=[0.5, 1]", "pair", "(0.5, 1.0)"),
        ("limit=1e-3", "limit", "0.001"),
        ("limit=inf", "limit", "inf"),
        ("limit=None", "limit", "None"),
        ("share=0.5", "share", "0.5"),
        ("kind=two", "kind", "'two'"),
        ("name=3", "name", "'3'"),
        ("name=a=b", "name", "'a=b'"),
        ("on=True", "on", "True"),
        ("names=('a', 'b')", "names", "('a', 'b')"),
    ],
)
def test_override(setting, path, value):
    new = override(WHOLE, [setting])
    if value is not None:
        assert flatten(new)[path] == value
    untouched = {k: v for k, v in flatten(WHOLE).items() if k.split(".")[0] != path.split(".")[0]}
    assert untouched.items() <= flatten(new).items()
    assert parse(to_text(new), Whole) == new


def test_override_takes_the_last_and_an_item_of_a_tuple():
    assert override(WHOLE, ["pair.1=0.5", "pair.1=1"]).pair == (0.9, 1.0)
    assert override(WHOLE, []) == WHOLE


def test_words_of_other_languages():
    assert override(WHOLE, ["on=true"]).on is True
    assert override(Whole(on=True, limit=1.0), ["on=false", "limit=none"]) == Whole()
    assert override(Whole(stage=Needs(3)), ["stage=none"]) == override(Whole(stage=Needs(3)), ["stage=None"]) == Whole()
    assert override(WHOLE, ["name=true"]).name == "true"


def test_settings_that_belong_together_are_checked_together():
    config = override(WHOLE, ["net.width=96", "net=Large", "net.levels=(1, 2, 3)"])
    assert config.net == Large(96, (1, 2, 3))
    with pytest.raises(UserError, match=r"parts\.a\.width=96: width=96 takes 3 levels"):
        override(WHOLE, ["parts.a.width=96"])


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("net.widht=3", "did you mean 'net.width'"),
        ("parts.c.width=3", "did you mean 'parts.[ab].width'"),
        ("rows.2.width=3", "there is no setting 'rows.2.width'; did you mean 'rows.[01].width'"),
        ("width=3", "there is no setting 'width'; did you mean '.*width'"),
        ("name.x=3", "there is no setting 'name.x'; did you mean 'name'"),
        ("net=Larg", "choose one of Small, Large; did you mean 'Large'"),
        ("net.width=wide", "net.width=wide does not fit: it takes int"),
        ("net.width=1.5", "it takes int"),
        ("net.width=True", "it takes int"),
        ("net.rate=None", "it takes float"),
        ("on=1", "it takes True or False"),
        ("pair=(1,)", "pair=.* does not fit"),
        ("kind=three", "it takes one of 'one', 'two'"),
        ("limit=high", "it takes float or None"),
        ("stage=Needs", "not everything in Needs has a default"),
        ("stage.examples=3", "there is no setting 'stage.examples'; did you mean 'stage'"),
        ("name", "write path=value"),
    ],
)
def test_override_says_what_is_wrong(setting, says):
    with pytest.raises(UserError, match=says):
        override(WHOLE, [setting])


def test_nearest_key_is_of_the_component_that_was_just_set():
    with pytest.raises(UserError, match=r"did you mean 'net\.levels'"):
        override(WHOLE, ["net=Large", "net.level=3"])


def test_text_of_an_earlier_version_is_filled_by_defaults():
    whole = parse(to_text(WHOLE), Whole)
    lines = [line for line in to_text(WHOLE).splitlines() if not line.startswith("net.")]
    assert parse("\n".join(lines), Whole, fill=True).net == type(WHOLE.net)()
    assert parse(to_text(WHOLE), Whole, fill=True) == whole
    for wrong in ("net.widht: 8", "older: 1"):
        with pytest.raises(UserError, match="unknown configuration key"):
            parse("\n".join([*lines, wrong]), Whole, fill=True)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("net.width: 8\n", "", "lacks 'net.width'"),
        (
            "net.width: 8\n",
            "net.width: 8\nnet.widht: 8\n",
            "unknown configuration key 'net.widht'; did you mean 'net.width'",
        ),
        ("net.width: 8\n", "net.width: wide\n", "it takes int"),
        ("net: Small\n", "net: Tiny\n", "net=Tiny does not fit"),
        ("net: Small\n", "net Small\n", "'net Small' is not a line"),
        ("parts.a.width: 64\n", "parts.a.width: 96\n", "parts.a: width=96 takes 3 levels"),
    ],
)
def test_parse_says_what_is_wrong(old, new, says):
    text = to_text(WHOLE)
    assert old in text
    with pytest.raises(UserError, match=says):
        parse(text.replace(old, new), Whole)

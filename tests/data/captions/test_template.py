"""Captions from columns: every clip by its own variant, nothing made up where a column is missing."""

from collections import Counter

import pyarrow as pa
import pytest

from diorama.core.errors import UserError
from diorama.data.captions import Template


def captions(variants: tuple[str, ...], rows: list[dict]) -> list[str | None]:
    stage = Template(variants)
    names = ("id", *stage.reads)
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    return stage.prepare(None, None)(table)["caption"]


def test_columns_are_filled_in():
    row = {"id": "1", "class_name": "red_panda\n ", "technical.sharpness": 3.14159, "label": 3}
    assert captions(("a photo of a {class_name}",), [row]) == ["a photo of a red panda"]
    assert captions(("{{{class_name}}}: {technical.sharpness:.1f}, {label}",), [row]) == ["{red panda}: 3.1, 3"]
    assert captions(("plain",), [row]) == ["plain"]


def test_what_a_column_holds_is_never_a_template():
    assert captions(("{class_name}",), [{"id": "1", "class_name": "{label} {0} %s {{"}]) == ["{label} {0} %s {{"]


def test_null_where_no_variant_can_be_filled():
    rows = [{"id": "1", "class_name": "cat"}, {"id": "2"}, {"id": "3", "class_name": " "}]
    assert captions(("a {class_name}", "a {class_name} by {author}"), rows) == ["a cat", None, None]


def test_zero_is_a_value():
    assert captions(("{label} of them",), [{"id": "1", "label": 0}]) == ["0 of them"]


def test_variants_share_the_clips_and_a_new_one_moves_only_its_own():
    rows = [{"id": f"{n:032x}", "class_name": "cat"} for n in range(3000)]
    before = captions(("a {class_name}", "the {class_name}"), rows)
    after = captions(("a {class_name}", "the {class_name}", "one {class_name}"), rows)
    assert before == captions(("the {class_name}", "a {class_name}"), rows)
    assert all(count == pytest.approx(1500, abs=120) for count in Counter(before).values())
    assert all(count == pytest.approx(1000, abs=120) for count in Counter(after).values())
    assert {new for old, new in zip(before, after, strict=True) if old != new} == {"one cat"}


@pytest.mark.parametrize("variant", ["a {", "a }", "{}", "{0}", "{a b}", "{class_name!r}", "{a:{b}}", "{a[0]}"])
def test_malformed_variants(variant):
    with pytest.raises(UserError, match=r"is no template|stands a column"):
        Template((variant,))
    with pytest.raises(UserError, match="needs a variant"):
        Template(())


def test_a_form_that_does_not_fit():
    with pytest.raises(UserError, match=r"\{class_name:.1f\} cannot be written of 'cat'"):
        captions(("{class_name:.1f}",), [{"id": "1", "class_name": "cat"}])

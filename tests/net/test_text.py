"""The tokenizer: captions in any writing, and nothing unknown."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diorama.net import text

CAPTIONS = ["A seven moving left", "a six moving right", "a seven and an eight", "日本語"]


@pytest.fixture(scope="module")
def tokenizer():
    return text.learn(CAPTIONS, 300)


def test_case_and_a_leading_space_do_not_matter(tokenizer):
    rows = text.encode(tokenizer, ["A SEVEN", "a seven", " a seven"], 8)
    np.testing.assert_array_equal(rows[1:], rows[:1].repeat(2, 0))
    assert (rows[0] != 0).sum() < len(" a seven")  # learned pairs shorten it


def test_cut_and_padded(tokenizer):
    rows = text.encode(tokenizer, ["", "a", "a seven moving left " * 9], 6)
    assert rows.shape == (3, 6)
    assert rows.dtype == np.int32
    assert (rows != 0).sum(1).tolist()[0] == 0
    assert 1 <= (rows[1] != 0).sum() < 6
    assert rows[1, -1] == 0
    assert (rows[2] != 0).all()
    assert text.encode(tokenizer, [], 6).shape == (0, 6)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_prompt_has_tokens_and_reads_back(prompt):
    tokenizer = LEARNED
    row = text.encode(tokenizer, [prompt], 200)[0]
    assert (row >= 0).all()
    assert (row < 300).all()
    assert bool(row.any()) == bool(prompt)
    back = tokenizer.decode(row[row != 0].tolist())
    assert back.removeprefix(" ") == tokenizer.normalizer.normalize_str(prompt).removeprefix(" ")


LEARNED = text.learn(CAPTIONS, 300)


def test_learning_does_not_depend_on_the_order_of_captions(tokenizer, tmp_path):
    text.save(tokenizer, tmp_path / "tokenizer.json")
    other = text.learn([*CAPTIONS[::-1], CAPTIONS[0]], 300)
    assert json.loads(other.to_str()) == json.loads((tmp_path / "tokenizer.json").read_text())
    again = text.load(tmp_path / "tokenizer.json")
    np.testing.assert_array_equal(text.encode(again, CAPTIONS, 12), text.encode(tokenizer, CAPTIONS, 12))


@pytest.mark.parametrize("captions", [[], ["a"], CAPTIONS])
def test_the_smallest_vocabulary_is_padding_and_the_bytes(captions):
    tokenizer = text.learn(captions, 257)
    assert tokenizer.get_vocab_size() == 257
    assert tokenizer.token_to_id("[PAD]") == 0
    assert tokenizer.decode([i for i in text.encode(tokenizer, ["ünï 🙂"], 32)[0] if i]) == " ünï 🙂"

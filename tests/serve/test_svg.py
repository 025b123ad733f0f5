"""Drawings of the report of a curation: labels stay inside, apart from each other and from lines; ticks are round."""

import math
from itertools import pairwise

import numpy as np
import pytest

from diorama.serve import svg
from diorama.serve.curation_plots import histogram
from tests.serve.page import Page

SIZE, WIDTH = 10.0, 330.0


@pytest.mark.parametrize("seed", range(200))
def test_labels_of_lines_stand_apart(seed):
    rng = np.random.default_rng(seed)
    words = ["dark", "grey", "overexposed", "letterboxed"][: rng.integers(1, 5)]
    labels = sorted((float(x), word) for x, word in zip(rng.uniform(0, WIDTH, len(words)), words, strict=True))
    placed = svg.rows(labels, SIZE, WIDTH)
    ends = []
    for (x, word), (row, anchor) in zip(labels, placed, strict=True):
        low = x if anchor == "start" else x - svg.wide(word, SIZE)
        ends.append((row, low, low + svg.wide(word, SIZE), x))
        assert row < len(labels)
        assert low >= 0
        assert ends[-1][2] <= WIDTH
    for i, (row, low, high, _) in enumerate(ends):
        for other, a, b, _ in ends[:i]:
            assert row != other or high <= a or b <= low
    # a line may run through other words only where these had no other place: never where lines are far apart
    crossed = any(low < x < high for row, low, high, _ in ends for other, _, _, x in ends if other > row)
    far = all(b - a > svg.wide("overexposed", SIZE) for a, b in pairwise(x for x, _ in labels))
    assert not (crossed and far)


def test_near_labels_take_two_rows_and_far_ones_one():
    assert [row for row, _ in svg.rows([(16, "dark"), (34, "grey")], SIZE, WIDTH)] == [1, 0]
    assert [row for row, _ in svg.rows([(16, "dark"), (200, "grey")], SIZE, WIDTH)] == [0, 0]
    assert svg.rows([(325, "overexposed")], SIZE, WIDTH) == [(0, "end")]


@pytest.mark.parametrize("most", [3, 5, 9])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 151), (-3.7, 12.1), (0.91, 0.99), (2e5, 3e9), (1e-7, 3e-7)])
def test_ticks_are_few_even_and_inside(low, high, most):
    found = svg.ticks(low, high, most)
    assert 1 <= len(found) <= most
    assert all(low - 1e-9 * high <= tick <= high * (1 + 1e-9) for tick in found)
    assert np.ptp(np.diff(found)) < 1e-9 * high if len(found) > 1 else True
    assert all(float(f"{tick:.3g}") == tick for tick in np.diff(found).round(12) if tick)
    assert all(tick == int(tick) for tick in svg.ticks(low, high, most, whole=True))


@pytest.mark.parametrize(("low", "high"), [(1, 2), (0.03, 4), (5, 5e9), (2e-8, 3)])
def test_logarithmic_ticks_are_few_and_inside(low, high):
    found = svg.log_ticks(low, high, 7)
    assert 1 <= len(found) <= 7
    assert all(low <= tick <= high for tick in found)
    assert {tick / 10 ** math.floor(math.log10(tick) + 1e-9) for tick in found} <= {1.0, 2.0, 3.0, 5.0}


def test_ends_of_an_axis_are_not_cut_off():
    found = svg.apart([(0.0, "0"), (3.0, "1"), (165.0, "1000"), (330.0, "15000")], SIZE, WIDTH)
    assert [words for _, words in found] == ["0", "1000", "15000"]
    assert all(svg.wide(words, SIZE) / 2 <= x <= WIDTH - svg.wide(words, SIZE) / 2 for x, words in found)


def test_a_histogram_draws_its_counts_to_scale_and_what_people_wrote_as_text():
    kept, out = np.array([4, 0, 8]), np.array([2, 0, 0])
    text = histogram(
        np.array([0.0, 1.0, 2.0, 3.0]), kept, out, [(1.5, "<i>&dark")], False, 'a"b', lambda a, b: f"#{a}-{b}"
    )
    page = Page(str(text))
    assert "<i>&dark" in page.text
    assert page.tags.count("a") == 2  # an empty bin opens nothing
    assert page.addresses[0].startswith("#None-0.99999")
    assert page.addresses[1] == "#2.0-None"
    heights = {kind: [float(part.split('height="')[1].split('"')[0]) for part in text.split("<rect")
                      if f'class="{kind}"' in part] for kind in ("s1", "s2")}  # fmt: skip
    assert heights["s1"][1] == pytest.approx(2 * heights["s1"][0], abs=0.02)
    assert heights["s2"] == [pytest.approx(heights["s1"][0] / 2, abs=0.02)]

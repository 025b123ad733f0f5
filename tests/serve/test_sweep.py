"""The page of a guidance sweep."""

import json

import numpy as np
import pytest

from diorama.run import Folder
from diorama.run.sweep import Measure, Sweep
from diorama.serve.sweep import figures, write_sweep
from tests.run.conftest import RUN

MEASURES = (
    Measure("Fréchet distance", (9.0, 5.0, 7.0), 1.0, "lower"),
    Measure("label accuracy", (0.3, 0.8, 0.9), 0.95, "higher"),
    Measure("diversity", (3.0, 2.0, 1.0), float("nan"), "real"),
    Measure("contrast", (0.2, 0.3, 0.4), 0.25, "real"),
    Measure("colourfulness", (0.0, 0.0, 0.0), 0.0, "real"),
)
SWEEP = Sweep(
    "1x8x8", "APG against Null", (1.0, 2.0, 4.0), 16, 2, 0, "pixels 8x8", MEASURES, ("a one", "a two"),
    np.zeros((2, 3, 1, 8, 8, 3), np.uint8),
)  # fmt: skip


@pytest.mark.parametrize("measures", [MEASURES, MEASURES[1:]], ids=["all", "few clips"])
def test_the_page(measures, tmp_path):
    from dataclasses import replace

    (tmp_path / "config.txt").write_text(RUN.text())
    page = write_sweep(Folder(tmp_path), [replace(SWEEP, measures=measures)]).read_text()
    assert "APG against Null" in page
    assert page.count("<img") == 6
    assert ("Quality against diversity" in page) == (measures is MEASURES)
    assert '<td class="n">0.8</td>' in page


def test_figures_are_svg_and_figures_are_json():
    assert figures(SWEEP).startswith("<svg")
    assert json.loads(json.dumps(SWEEP.about()).replace("NaN", "null"))["measures"][2]["real"] is None
    assert SWEEP.table().splitlines()[2].split() == ["2", "5", "0.8", "2", "0.3", "0"]

"""Settings that the README, the guides and the examples of commands show are settings that there are."""

import re
from pathlib import Path

import pytest

from diorama.core import override
from recipes.digits import recipe

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "README.md", ROOT / "docs" / "sampling.md"]
LINES = [
    *(line for path in GUIDES for line in path.read_text().splitlines()),
    *(line for path in (ROOT / "diorama" / "cli").glob("*.py") for line in path.read_text().splitlines()
      if "Example:" in line),
]  # fmt: skip
TOLD = [settings for line in LINES if (settings := re.findall(r"--set ([\w.]+=[\w.]+)", line))]


def test_some_are_told():
    assert len(TOLD) >= 8


@pytest.mark.parametrize("settings", TOLD, ids=str)
def test_each_is_a_setting(settings):
    override(recipe(), settings)  # raises where there is none

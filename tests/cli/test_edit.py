"""What `diorama edit` says of what it cannot do."""

from pathlib import Path

import pytest

from diorama.cli import recipes
from diorama.cli.edit import described
from diorama.core import UserError
from tests.cli.test_main import TINY, run


def test_a_caption_and_a_class() -> None:
    tiny = recipes.resolve(TINY, [])
    assert described(tiny, "a seven", None) == ("a seven", -1)
    assert described(tiny, None, "b") == ("", 1)
    assert described(tiny, "a seven", "7") == ("a seven", 7)
    assert described(tiny, None, None) == ("", -1)
    with pytest.raises(UserError, match="without labels"):
        described(recipes.resolve("digits", []), None, "7")


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "edit", "--help")
    assert code == 0
    assert "Example:  diorama edit" in out
    assert "reversible" in out


def test_a_wrong_request(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capsys, "edit", tmp_path / "nowhere", "x.png", "--prompt", "a three")
    assert code == 1
    assert "is not a run" in err

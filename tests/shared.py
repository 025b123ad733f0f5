"""Real data that some tests use when it lies beside the repository, and skip without."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_data(name: str) -> Path:
    """The folder or file `name` of the real test data, or a skip that says what is missing."""
    path = ROOT.parent / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"real test data '{name}' is not beside this checkout")
    return path

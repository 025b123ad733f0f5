"""Release files."""

import os

import numpy as np
import pytest

from diorama.core import UserError, release


def test_whoever_may_read_other_files_may_read_these(tmp_path):
    before = os.umask(0o022)
    try:
        release.save({"a": np.ones(3, np.float32)}, tmp_path / "model.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="is not there: train the run first"):
        release.load(tmp_path / "model.safetensors", {"a": np.ones(3)})

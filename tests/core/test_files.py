"""Files that are never half written, and release files."""

import errno
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import Module, UserError, release
from diorama.core.array import Array
from diorama.core.files import hash_bytes, write_aside, write_text


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_an_error_of_the_disk_names_the_file_that_was_to_be(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match="No space") as full, write_aside(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as missing, write_aside(path) as aside:
        (aside / "x").write_text("")
    assert missing.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as other, write_aside(path):
        (tmp_path / "nowhere" / "x").read_text()
    assert other.value.filename == str(tmp_path / "nowhere" / "x")
    assert names(tmp_path) == []


def test_a_file_appears_whole_and_replaces(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with write_aside(path) as aside:
            assert aside.suffix == ".txt"
            assert aside.parent.parent == path.parent  # the same file system
            aside.write_text(text)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text
    assert names(path.parent) == ["a.txt"]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(folder):
        with write_aside(tmp_path / ("b" if folder else "a.txt")) as aside:
            if folder:
                aside.mkdir()
                (aside / "part").write_text("half")
            else:
                aside.write_text("half")
            raise RuntimeError

    for folder in (False, True):
        with pytest.raises(RuntimeError):
            fail(folder)
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


def test_a_folder_appears_whole_and_replaces(tmp_path):
    path = tmp_path / "made"
    for name in ("one", "two"):
        with write_aside(path) as aside:
            aside.mkdir()
            (aside / name).write_text("")
        assert names(path) == [name]
    assert names(tmp_path) == ["made"]


HALF = """
import os, sys
from diorama.core.files import write_aside
with write_aside(sys.argv[1]) as aside:
    aside.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_is_no_file_and_goes_with_the_next_write(tmp_path):
    process = subprocess.run([sys.executable, "-c", HALF, str(tmp_path / "a.txt")], check=False)
    assert process.returncode == -9
    assert len(names(tmp_path)) == 1
    assert list(tmp_path.glob("*.txt")) == []
    with write_aside(tmp_path / "b.txt") as living:  # another file of the same folder sweeps
        living.write_text("")
        assert names(tmp_path) == [living.parent.name]
    assert names(tmp_path) == ["b.txt"]


def test_writing_nothing_is_an_error_not_a_file(tmp_path):
    with pytest.raises(FileNotFoundError), write_aside(tmp_path / "a"):
        pass
    assert names(tmp_path) == []


def test_hash_is_blake2b():
    assert hash_bytes(b"") == "cae66941d9efbd404e4d88758ea67670"
    assert len(hash_bytes(b"x", 8)) == 16


class Tiny(Module):
    weight: Array
    scale: Array
    table: dict[str, Array]


TREE = Tiny(jnp.arange(6.0).reshape(2, 3).T, jnp.float32(2), {"n": jnp.arange(3)})


def test_release_round_trip(tmp_path):
    path = tmp_path / "tiny.safetensors"
    release.save(TREE, path)
    again = release.load(path, jax.eval_shape(lambda: TREE))
    assert jax.tree.structure(again) == jax.tree.structure(TREE)
    jax.tree.map(np.testing.assert_array_equal, again, TREE)
    assert again.scale.shape == ()


def test_release_says_what_does_not_fit(tmp_path):
    path = tmp_path / "tiny.safetensors"
    with pytest.raises(UserError, match="is not there: train the run first"):
        release.load(path, TREE)
    release.save(TREE, path)
    with pytest.raises(UserError, match=r"does not fit its configuration.*table\.more"):
        release.load(path, Tiny(TREE.weight, TREE.scale, TREE.table | {"more": jnp.ones(1)}))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="does not fit"):
        release.load(path, TREE)

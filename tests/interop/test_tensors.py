"""Arrays taken from somebody else's file by name, and what is said of those that were not."""

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.flax import save_file

from diorama.core import UserError
from diorama.interop.tensors import SHOWN, Tensors


def test_arrays_are_taken_in_float32(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays = {"half": jnp.arange(3, dtype=jnp.bfloat16), "whole": jnp.arange(4, dtype=jnp.int32).reshape(2, 2)}
    save_file(arrays, path)
    tensors = Tensors.open(path)
    np.testing.assert_array_equal(tensors.take("half", (3,)), np.arange(3, dtype=np.float32))
    assert tensors.take("whole", (2, 2)).dtype == jnp.float32
    tensors.finish()


def test_all_that_is_amiss_is_said_at_once():
    many = {f"spare.{i:02}": np.zeros(1, np.float32) for i in range(SHOWN + 3)}
    tensors = Tensors(many | {"bent": np.zeros((2, 3), np.float32)}, "the file")
    assert tensors.take("absent", (5,)).shape == (5,)
    assert tensors.take("bent", (3, 2)).shape == (3, 2)
    with pytest.raises(UserError) as told:
        tensors.finish()
    assert str(told.value) == (
        "the file is not what its configuration says: 1 missing: absent; 1 of another shape: bent (2, 3) instead of "
        f"(3, 2); {SHOWN + 3} not known: {', '.join(sorted(many)[:SHOWN])} and 3 more"
    )


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"not such a file")
    for name in ("a.safetensors", "b.safetensors"):
        with pytest.raises(UserError, match=f"{name} cannot be read as safetensors"):
            Tensors.open(tmp_path / name)
    (tmp_path / "c.index.json").write_text('{"weight_map": {"x": "a.safetensors"}}')
    with pytest.raises(UserError, match=r"a\.safetensors cannot be read"):
        Tensors.open(tmp_path / "c.index.json")
    (tmp_path / "d.index.json").write_text('{"weight_map": {"x": 3}}')
    with pytest.raises(UserError, match="cannot be read as an index"):
        Tensors.open(tmp_path / "d.index.json")

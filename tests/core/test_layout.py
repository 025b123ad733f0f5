"""Layouts on one device; `tests/sharded` has eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from diorama.core import Layout, UserError
from diorama.core.layout import join


@pytest.mark.parametrize(
    ("layout", "shape", "spec"),
    [
        (Layout(), (64, 64), P(None, None)),
        (Layout(data=8), (64, 64), P(None, None)),
        (Layout(fsdp=8), (64, 128), P(None, "fsdp")),
        (Layout(fsdp=8), (128, 64), P("fsdp", None)),
        (Layout(fsdp=8), (9, 128, 3), P(None, "fsdp", None)),
        (Layout(fsdp=8), (7, 257), P(None, None)),  # nothing divides
        (Layout(fsdp=8), (512,), P()),  # too small to be worth it
        (Layout(fsdp=8, smallest=1), (512,), P("fsdp")),
        (Layout(fsdp=8), (), P()),
        (Layout(tensor=2), (64, 64), P(None, "tensor")),
        (Layout(tensor=2, fsdp=4), (64, 128), P("fsdp", "tensor")),
        (Layout(tensor=2), (2048,), P(None)),
    ],
)
def test_where_parameters_lie(layout, shape, spec):
    assert layout._spec(shape) == spec


def test_one_device_is_the_trivial_case():
    layout = Layout()
    tree = {"a": jax.ShapeDtypeStruct((4096, 8), jnp.float32), "b": jnp.ones(3)}
    shardings = layout.shardings(tree)
    assert shardings["a"].mesh.shape == {"data": 1, "fsdp": 1, "tensor": 1}
    batch = layout.put({"id": np.arange(4, dtype=np.uint32), "x": np.ones((4, 2), np.float32)})
    assert batch["x"].sharding.is_equivalent_to(layout.batch, 2)
    np.testing.assert_array_equal(batch["id"], np.arange(4))


def test_too_few_devices_are_named():
    with pytest.raises(UserError, match=r"needs 4096 devices and \d+ are here: lower layout.data"):
        _ = Layout(data=64, fsdp=64).mesh


@pytest.mark.parametrize(
    "given",
    [("auto", 2, None), ("here", 2, 0), ("here:1", None, 0), ("here:1", 2, None), (None, 2, 0), ("here:1", 2, 2)],
)
def test_processes_that_cannot_meet(given):
    with pytest.raises(UserError, match="--process"):
        join(*given)

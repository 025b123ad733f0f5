"""Layouts on one device; `tests/sharded` has eight."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from diorama.core import Layout, UserError
from diorama.core.layout import join, place, whole
from diorama.core.module import stack
from diorama.net.layers import Linear


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
        (Layout(fsdp=8), (2048,), P(None)),  # a vector
        (Layout(fsdp=8, smallest=1), (8, 8), P(None, "fsdp")),
        (Layout(fsdp=8), (), P()),
        (Layout(fsdp=8), (256, 64, 96), P(None, None, "fsdp")),  # a stack's depth is never split
        (Layout(tensor=2), (64, 64), P(None, None)),  # nobody said which axis
    ],
)
def test_where_parameters_lie(layout, shape, spec):
    assert layout._spec(shape) == spec


@pytest.mark.parametrize(
    ("layout", "split", "weight", "bias"),
    [
        (Layout(fsdp=4), None, P(None, None, "fsdp"), P(None, None)),
        (Layout(tensor=2), None, P(None, None, None), P(None, None)),
        (Layout(tensor=2), "out", P(None, None, "tensor"), P(None, "tensor")),
        (Layout(tensor=2), "in", P(None, "tensor", None), P(None, None)),
        (Layout(tensor=2, fsdp=4), "out", P(None, "fsdp", "tensor"), P(None, "tensor")),
        (Layout(tensor=2, fsdp=4), "in", P(None, "tensor", "fsdp"), P(None, None)),
        (Layout(tensor=5), "out", P(None, None, None), P(None, None)),  # does not divide
    ],
)
def test_where_a_layer_says_its_arrays_lie(layout, split, weight, bias):
    linear = jax.eval_shape(lambda: stack(lambda k: Linear.init(k, 64, 128, split=split), jax.random.key(0), 16))
    axes = linear.axes
    assert layout._spec(linear.weight.shape, axes["weight"]) == weight
    assert layout._spec(linear.bias.shape, axes["bias"]) == bias


def test_vectors_of_a_stack_are_never_split_by_depth():
    linear = jax.eval_shape(lambda: stack(lambda k: Linear.init(k, 64, 129), jax.random.key(0), 512))
    assert Layout(fsdp=8)._spec(linear.bias.shape, linear.axes["bias"]) == P(None, None)


def test_one_device_is_the_trivial_case():
    layout = Layout()
    tree = {"a": jax.ShapeDtypeStruct((4096, 8), jnp.float32), "b": jnp.ones(3)}
    shardings = layout.shardings(tree)
    assert shardings["a"].mesh.shape == {"data": 1, "fsdp": 1, "sequence": 1, "tensor": 1}
    batch = layout.put({"id": np.arange(4, dtype=np.uint32), "x": np.ones((4, 2), np.float32)})
    assert batch["x"].sharding.is_equivalent_to(layout.batch, 2)
    np.testing.assert_array_equal(batch["id"], np.arange(4))


def test_without_a_mesh_nothing_is_placed():
    x = jnp.ones((2, 3))
    with Layout().ambient():
        assert place(x, "data", ..., None) is x
        assert whole(x, None, "tensor") is x


def test_axes_below_one_are_refused():
    with pytest.raises(UserError, match="the layout data=2 fsdp=0 has an axis below 1"):
        Layout(data=2, fsdp=0)


def test_too_few_devices_are_named():
    with pytest.raises(
        UserError, match=r"layout fsdp=64 tensor=64 needs 4096 devices and \d+ are here: lower .*tensor"
    ):
        _ = Layout(fsdp=64, tensor=64).mesh


@pytest.mark.parametrize(
    "given",
    [("auto", 2, None), ("here", 2, 0), ("here:1", None, 0), ("here:1", 2, None), (None, 2, 0), ("here:1", 2, 2)],
)
def test_processes_that_cannot_meet(given):
    with pytest.raises(UserError, match="--process"):
        join(*given)


def on_processes(layout: Layout, devices: int) -> Layout:
    """A layout over processes of so many devices each."""
    size = layout.data * layout.fsdp, layout.sequence * layout.tensor
    grid = np.array([SimpleNamespace(process_index=i // devices) for i in range(size[0] * size[1])])
    vars(layout)["mesh"] = SimpleNamespace(devices=grid.reshape(size))
    return layout


@pytest.mark.parametrize(
    ("layout", "share"),
    [
        (Layout(data=8), (0, 2)),
        (Layout(fsdp=4, tensor=2), (0, 2)),
        (Layout(data=2, sequence=4), (0, 2)),
        (Layout(sequence=8), (0, 1)),  # one clip over both: they read the same
        (Layout(data=2, sequence=8), (0, 2)),  # four processes, two and two alike
    ],
)
def test_which_part_of_a_batch_a_process_reads(layout, share):
    assert on_processes(layout, 4).share == share


def test_processes_that_share_some_of_their_examples_are_refused():
    with pytest.raises(UserError, match="share some of their examples"):
        _ = on_processes(Layout(data=3, tensor=4), 6).share

"""Where arrays lie: one `Layout` names the mesh axes and puts parameters, batches and activations on them.

    data      batches are split, parameters are copied
    fsdp      batches are split, and so are parameters, optimiser state and averages; a layer's weight is made whole
              where it is used and let go again (ZeRO-3, Rajbhandari et al. 2020, arXiv 1910.02054)
    tensor    widths inside a block are split, attention's by head: one layer by its outputs, the next by its inputs, so
              that a branch costs one sum over devices (Shoeybi et al. 2019, Megatron-LM, arXiv 1909.08053)
    sequence  the tokens of a clip are split; attention changes to heads and back (`net/parallel.py`)

XLA's partitioner places the collectives. A network knows the mesh that it is compiled for as JAX's ambient one: `place`
says how an activation lies on it, `whole` asks for a weight. Both do nothing on one device, the trivial case.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from math import prod
from types import EllipsisType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, get_abstract_mesh, use_abstract_mesh

from diorama.core.array import Array
from diorama.core.errors import UserError

Axis = str | tuple[str, ...] | None
AXES = ("data", "fsdp", "sequence", "tensor")  # neighbours along the last talk most
BATCH = ("data", "fsdp")
FREE = PartitionSpec.UNCONSTRAINED


@runtime_checkable
class Split(Protocol):
    """A module that says which of its own arrays' axes tensor parallelism splits."""

    @property
    def axes(self) -> dict[str, tuple[Axis, ...]]:
        """By the array's name, a mesh axis or None for each of its own axes; any axis before those is a stack's."""
        ...


def named(sizes: Mapping[str, int]) -> str:
    """A layout by its sizes, as they are set: "data=2 fsdp=4", or "one device"."""
    return " ".join(f"{axis}={n}" for axis, n in sizes.items() if n != 1) or "one device"


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Make this one of several processes that train together; to be called before anything asks for a device.

    Args:
        coordinator: "host:port" of process 0, or "auto" where JAX finds all three out (SLURM, Open MPI, TPU pods, ...).
        processes: how many there are.
        process: which of them this is, from 0.

    Raises:
        UserError: one is missing or out of range, or the others were not met.
    """
    if coordinator == "auto" and processes is None and process is None:
        given: tuple[Any, ...] = ()
    elif coordinator is None or ":" not in coordinator or processes is None or process is None:
        raise UserError(
            "several processes need --coordinator HOST:PORT, --processes N and --process I, or --coordinator auto alone"
        )
    elif not 0 <= process < processes:
        raise UserError(f"--process {process} is not one of 0 to {processes - 1}: count from 0")
    else:
        given = (coordinator, processes, process)
    try:
        jax.distributed.initialize(*given)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes did not meet: {error}; is --coordinator right, and are all started?") from error


def ambient() -> dict[str, int]:
    """Sizes of the mesh that is being compiled for; empty on one device, and where each device is programmed alone."""
    mesh = get_abstract_mesh()
    alone = mesh.empty or mesh.size == 1 or AxisType.Manual in mesh.axis_types
    return {} if alone else dict(mesh.shape)


def over(axis: Axis) -> int:
    """How many devices of the ambient mesh lie along a mesh axis, or several together."""
    return prod(ambient().get(name, 1) for name in ((axis,) if isinstance(axis, str) else axis or ()))


def place(x: Array, *axes: Axis | EllipsisType) -> Array:
    """`x` with its axes, from the left, on these mesh axes; what does not divide over them lies as the compiler likes.

    None is whole on every device, and `...` any number of axes that may lie anyhow.
    """
    sizes = ambient()
    if not sizes:
        return x
    spec: list[Any] = list(axes)
    if ... in spec:
        at = spec.index(...)
        spec[at : at + 1] = [FREE] * (x.ndim - len(spec) + 1)
    for i, (axis, size) in enumerate(zip(spec, x.shape, strict=True)):
        if isinstance(axis, str | tuple) and size % over(axis):
            spec[i] = FREE
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))


def whole(weight: Array, *axes: Axis) -> Array:
    """A layer's weight as it is used: gathered over `fsdp`, while its `axes` (as of `Split`) stay split.

    The gradient is not gathered: it is summed into the part that each device keeps.
    """
    return weight if ambient().get("fsdp", 1) == 1 else _gathered(weight, axes)


def _constrained(weight: Array, axes: tuple[Axis, ...]) -> Array:
    fit = (None if size % over(axis) else axis for axis, size in zip(axes, weight.shape, strict=True))
    return jax.lax.with_sharding_constraint(weight, PartitionSpec(*fit))


_gathered = jax.custom_jvp(_constrained, nondiff_argnums=(1,))


@_gathered.defjvp
def _(axes: tuple[Axis, ...], primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _constrained(*primals, axes), tangents[0]  # a constraint on this would be one on the gradient


class Share(NamedTuple):
    """Part `host` of `hosts` of every batch."""

    host: int
    hosts: int


@dataclass(frozen=True)
class Layout:
    """Sizes of the mesh axes; their product must be the number of devices used.

    Args:
        data, fsdp, tensor, sequence: devices along each axis.
        smallest: arrays with fewer numbers than this are copied, not sharded: the traffic would cost more.
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    sequence: int = 1
    smallest: int = 1024

    def __post_init__(self) -> None:
        if min(self._sizes) < 1:
            raise UserError(f"the layout {self} has an axis below 1: use 1 for none")

    def __str__(self) -> str:
        return named(dict(zip(AXES, self._sizes, strict=True)))

    @property
    def _sizes(self) -> tuple[int, ...]:
        return self.data, self.fsdp, self.sequence, self.tensor

    @cached_property
    def mesh(self) -> Mesh:
        """The device mesh. Raises `UserError` when there are fewer devices than the layout asks for."""
        need, have = prod(self._sizes), jax.devices()
        if need > len(have):
            axes = " or ".join(f"layout.{axis}" for axis, n in zip(AXES, self._sizes, strict=True) if n > 1)
            raise UserError(f"the layout {self} needs {need} devices and {len(have)} are here: lower {axes}")
        return jax.make_mesh(self._sizes, AXES, (AxisType.Auto,) * len(AXES), devices=have[:need])

    def ambient(self) -> AbstractContextManager[Any]:
        """What is traced within is compiled for this mesh: `place` and `whole` act."""
        return use_abstract_mesh(self.mesh.abstract_mesh) if self.mesh.size > 1 else nullcontext()

    def sharding(self, *axes: Axis) -> NamedSharding:
        """The sharding that lays an array's leading axes on these mesh axes."""
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    @property
    def batch(self) -> NamedSharding:
        """Examples over data and fsdp together."""
        return self.sharding(BATCH)

    @property
    def share(self) -> Share:
        """Which part of every batch this process reads, and of how many: those that split clips or widths read alike.

        Raises `UserError` where the examples of one process are not a part by themselves.
        """
        rows = self.mesh.devices.reshape(self.data * self.fsdp, -1)
        parts: dict[int, set[int]] = {}
        for row, devices in enumerate(rows):
            for device in devices:
                parts.setdefault(device.process_index, set()).add(row)
        distinct = sorted({tuple(sorted(part)) for part in parts.values()})
        if sum(map(len, distinct)) > len(rows) or len({len(part) for part in distinct}) > 1:
            raise UserError(
                "processes share some of their examples and not others: let layout.sequence x layout.tensor divide the "
                "devices of one process, or be a multiple of them"
            )
        return Share(distinct.index(tuple(sorted(parts[jax.process_index()]))), len(distinct))

    def _spec(self, shape: tuple[int, ...], axes: tuple[Axis, ...] | None = None) -> PartitionSpec:
        """`tensor` takes the axis that a module gave it, `fsdp` the largest of the array's own axes that is left.

        Of arrays whose module says nothing, the last two count as their own, so no stack is split by depth. Vectors are
        not worth gathering and are copied.
        """
        if prod(shape) < self.smallest:
            return PartitionSpec()
        axes = (None,) * min(len(shape), 2) if axes is None else axes
        spec: list[str | None] = [None] * len(shape)
        own = range(len(shape) - len(axes), len(shape))
        for i, axis in zip(own, axes, strict=True):
            if axis == "tensor" and self.tensor > 1 and shape[i] % self.tensor == 0:
                spec[i] = "tensor"
        free = [i for i in own if spec[i] is None and shape[i] % self.fsdp == 0]
        if self.fsdp > 1 and len(own) > 1 and free:
            spec[max(free, key=lambda i: (shape[i], i))] = "fsdp"
        return PartitionSpec(*spec)

    def shardings(self, tree: Any) -> Any:
        """A tree of shardings for the parameters, or for any state shaped like them (`tree` may be abstract)."""
        axes = tree.axes if isinstance(tree, Split) else {}

        def lay(path: Any, part: Any) -> Any:
            if part is not tree and isinstance(part, Split):
                return self.shardings(part)
            return NamedSharding(self.mesh, self._spec(part.shape, axes.get(path[0].name) if axes else None))

        return jax.tree_util.tree_map_with_path(lay, tree, is_leaf=lambda x: x is not tree and isinstance(x, Split))

    def put(self, batch: dict[str, Any]) -> dict[str, jax.Array]:
        """Lay this process's part of a batch on the mesh; the parts of all processes form the global batch."""
        return {k: jax.make_array_from_process_local_data(self.batch, np.asarray(v)) for k, v in batch.items()}

"""Where arrays lie: one `Layout` names the mesh axes and puts parameters and batches on them.

    data    batches are split, parameters are copied
    fsdp    batches are split, and so are parameters and optimiser state (fully sharded data parallel)
    tensor  widths are split (the last axis of a weight)

XLA's partitioner places the collectives; the code of a model does not change. One device is the trivial case.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diorama.core.errors import UserError

T = TypeVar("T")
AXES = ("data", "fsdp", "tensor")


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


@dataclass(frozen=True)
class Layout:
    """Sizes of the mesh axes; their product must be the number of devices used.

    Args:
        data, fsdp, tensor: devices along each axis.
        smallest: arrays with fewer numbers than this are copied, not sharded: the traffic would cost more.
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    smallest: int = 1024

    @cached_property
    def mesh(self) -> Mesh:
        """The device mesh. Raises `UserError` when there are fewer devices than the layout asks for."""
        shape = (self.data, self.fsdp, self.tensor)
        need, have = int(np.prod(shape)), jax.devices()
        if need > len(have):
            raise UserError(
                f"the layout {dict(zip(AXES, shape, strict=True))} needs {need} devices and {len(have)} are here: "
                f"lower layout.data or layout.fsdp"
            )
        return Mesh(np.array(have[:need]).reshape(shape), AXES)

    def sharding(self, *axes: str | tuple[str, ...] | None) -> NamedSharding:
        """The sharding that lays an array's leading axes on these mesh axes."""
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    @property
    def batch(self) -> NamedSharding:
        """Examples over data and fsdp together."""
        return self.sharding(("data", "fsdp"))

    def _spec(self, shape: tuple[int, ...]) -> PartitionSpec:
        """`tensor` takes the last axis it divides, `fsdp` the largest of the rest that it divides."""
        spec: list[str | None] = [None] * len(shape)
        if int(np.prod(shape)) < self.smallest:
            return PartitionSpec()
        if self.tensor > 1 and len(shape) > 1 and shape[-1] % self.tensor == 0:
            spec[-1] = "tensor"
        free = [i for i, size in enumerate(shape) if spec[i] is None and size % self.fsdp == 0]
        if self.fsdp > 1 and free:
            spec[max(free, key=lambda i: shape[i])] = "fsdp"
        return PartitionSpec(*spec)

    def shardings(self, tree: T) -> T:
        """A tree of shardings for the parameters, or for any state shaped like them (`tree` may be abstract)."""
        return jax.tree.map(lambda leaf: NamedSharding(self.mesh, self._spec(leaf.shape)), tree)

    def put(self, batch: dict[str, Any]) -> dict[str, jax.Array]:
        """Lay this process's part of a batch on the mesh; the parts of all processes form the global batch."""
        return {k: jax.make_array_from_process_local_data(self.batch, np.asarray(v)) for k, v in batch.items()}

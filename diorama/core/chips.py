"""What accelerators can do: the figures that times are predicted from and utilisation is measured against.

Peaks are those of dense products of matrices, without sparsity; they are never reached. Bandwidths of interconnects are
of one device in one direction, half of what makers call bidirectional.

Sources: NVIDIA H100 and H200 Tensor Core GPU data sheets (their figures with sparsity, halved) and the H100
architecture white paper; cloud.google.com/tpu/docs/v5e, v5p and v6e.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import jax
import jax.numpy as jnp

from diorama.core.array import Array


@dataclass(frozen=True)
class Chip:
    """One device, as JAX counts them.

    Args:
        name: what it is called on the command line.
        bfloat16, float32: peak FLOP/s of matrix products of such arrays at JAX's default precision: float32 is
            computed in TF32 by NVIDIA's tensor cores, and in one pass of bfloat16 by a TPU's.
        memory: bytes.
        bandwidth: of the memory, bytes/s, read and written together.
        link: bytes/s that leave a device for others of its node.
        network: bytes/s that leave a device for other nodes, its share of the host's.
        node: devices that `link` joins: what NVLink connects, or a whole pod of TPUs.
    """

    name: str
    bfloat16: float
    float32: float
    memory: int
    bandwidth: float
    link: float
    network: float
    node: int

    def peak(self, compute: Literal["float32", "bfloat16"]) -> float:
        """FLOP/s in a number format, named as by `Policy.compute`."""
        return self.bfloat16 if compute == "bfloat16" else self.float32


GIB = 1 << 30
KINDS = ("float32", "bfloat16")
CHIPS = (
    # 1,979 and 989 TFLOP/s with sparsity; 3.35 TB/s; NVLink 900 GB/s both ways; 81,559 MiB by nvidia-smi. The network
    # is that of NVIDIA's own systems, one InfiniBand port of 400 Gb/s for each of eight.
    Chip("h100", 989.4e12, 494.7e12, 81_559 << 20, 3.35e12, 450e9, 50e9, 8),
    # As H100 but for the memory: 4.8 TB/s; 143,771 MiB by nvidia-smi.
    Chip("h200", 989.4e12, 494.7e12, 143_771 << 20, 4.8e12, 450e9, 50e9, 8),
    # 197 TFLOP/s; 16 GB, 819 GB/s; 400 GB/s both ways; a pod of 256; two ports of 100 Gb/s for eight chips.
    Chip("v5e", 197e12, 197e12, 16 * GIB, 819e9, 200e9, 3.125e9, 256),
    # 459 TFLOP/s; 95 GiB, 2,765 GB/s; 1,200 GB/s both ways; a pod of 8,960, of which a job gets 6,144; 50 Gb/s a chip.
    Chip("v5p", 459e12, 459e12, 95 * GIB, 2765e9, 600e9, 6.25e9, 6144),
    # 918 TFLOP/s; 32 GB, 1,638 GB/s; 800 GB/s both ways; a pod of 256; four ports of 200 Gb/s for eight chips.
    Chip("v6e", 918e12, 918e12, 32 * GIB, 1638e9, 400e9, 12.5e9, 256),
)

_KINDS = {  # device_kind, as JAX and the NVIDIA driver say it; an H200 that is not NVL is an SXM
    "NVIDIA H100 80GB HBM3": "h100", "NVIDIA H200": "h200",
    "TPU v5 lite": "v5e", "TPU v5e": "v5e", "TPU v5": "v5p", "TPU v5p": "v5p", "TPU v6 lite": "v6e", "TPU v6e": "v6e",
}  # fmt: skip


def chip(name: str) -> Chip | None:
    """The chip called `name`; "cpu" is this machine, measured. None if it is not known."""
    return cpu() if name == "cpu" else next((known for known in CHIPS if known.name == name), None)


def of_device(device: jax.Device) -> Chip | None:
    """The chip that a device is. None if it is not known.

    Simulated devices of a CPU share its cores and memory, and each is given its part.
    """
    if device.platform != "cpu":
        name = _KINDS.get(device.device_kind)
        return chip(name) if name else None
    whole, n = cpu(), len(jax.local_devices(backend="cpu"))
    return replace(
        whole, bfloat16=whole.bfloat16 / n, float32=whole.float32 / n, memory=whole.memory // n,
        bandwidth=whole.bandwidth / n, link=whole.link / n, network=whole.network / n,
    )  # fmt: skip


@cache
def cpu() -> Chip:
    """This machine, by what it does now: a product of 1,024 x 1,024 numbers and a sweep over 64 MiB, the best of five.

    A machine that is busy measures less. A sweep reads and writes, so what goes between simulated devices is half of
    the memory's bandwidth; they are of one node, and its network is not measured but taken to be the same.
    """
    flops = {kind: 2 * 1024**3 / _best(lambda x: x @ x, jnp.ones((1024, 1024), kind)) for kind in KINDS}
    swept = (64 << 20) / _best(lambda x: x + 1, jnp.zeros(16 << 20, jnp.float32))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Chip("cpu", flops["bfloat16"], flops["float32"], memory, 2 * swept, swept, swept, 1 << 20)


def _best(f: Callable[[Array], Array], x: Array) -> float:
    """Seconds that `f` takes at its quickest on the CPU, its result in the place of `x`."""
    x = jax.device_put(x, jax.local_devices(backend="cpu")[0])
    compiled = jax.jit(f, donate_argnums=0).lower(x).compile()
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        x = jax.block_until_ready(compiled(x))
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])

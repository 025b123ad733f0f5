"""How long a step takes at the least, by what it computes, moves and sends (Williams et al. 2009, the roofline model).

Products of matrices run at the chip's peak, or as fast as their operands come from memory and results go back,
whichever takes longer; everything else is fused into them. Collectives of devices of one node run at the speed of its
links, those across nodes at that of the network, and nothing is computed meanwhile, though XLA hides a part of them.
Kernels reach a part of a chip's peak, so that a real step takes longer; layouts are compared on equal terms.
"""

from dataclasses import dataclass
from typing import Literal

from diorama.core.chips import Chip
from diorama.run.plan.compiled import Compiled


@dataclass(frozen=True)
class Seconds:
    """Of one step: computing, moving between chip and its memory, sending; and the step's, see `seconds`."""

    compute: float
    memory: float
    communication: float

    @property
    def total(self) -> float:
        """Computing and moving at once, then sending."""
        return max(self.compute, self.memory) + self.communication

    @property
    def bound(self) -> str:
        """What takes the longest."""
        return max(("compute", "memory", "communication"), key=lambda name: float(getattr(self, name)))


def seconds(found: Compiled, chip: Chip, devices: int, compute: Literal["float32", "bfloat16"]) -> Seconds:
    """The least time of a step on `devices` chips, with products of matrices in `compute`.

    The optimiser reads and writes its state, parameters and averages once.
    """
    held = found.memory.parameters + found.memory.optimizer + found.memory.averages
    sent = (each.bytes / (chip.network if each.across else chip.link) for each in found.collectives)
    return Seconds(
        found.done / devices / chip.peak(compute), (found.moved / devices + 2 * held) / chip.bandwidth, sum(sent)
    )

"""What a network returns."""

from typing import Any

from diorama.core.array import Array, Float
from diorama.core.module import Module


class Output(Module):
    """The value, and what was computed on the way. What nobody reads, jit removes.

    `intermediates` holds features by name: `levels` (U-Net) or `blocks` (transformer, stacked by depth).
    """

    value: Float[Array, "b t h w c"]
    intermediates: dict[str, Any]

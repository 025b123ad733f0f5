"""What a term sees: a batch on its way through the denoiser."""

from collections.abc import Sequence
from typing import Any

from diorama.core.array import Array, Float, UInt32
from diorama.core.module import Module
from diorama.diffusion.denoiser import Denoiser
from diorama.diffusion.objective import Noised


class Seen(Module):
    """A batch on its way through the denoiser.

    denoiser, noised: what was asked, and of what. layers: the features of its network's layers, `net.features.layers`.
    ids: of the examples. features: of the clean clips by a frozen encoder, on a grid of its own, where the batch has
    them as "features".
    """

    denoiser: Denoiser
    noised: Noised
    layers: Sequence[Float[Array, "b t h w d"]] | Any
    ids: UInt32[Array, "b"]
    features: Float[Array, "b t2 h2 w2 e"] | None

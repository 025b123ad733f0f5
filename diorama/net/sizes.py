"""A family of transformers by one dial: width, depth and heads of each size.

S, B, L and XL are those of DiT (Peebles & Xie 2023, arXiv 2212.09748, table 1); XXL and G have the width and depth of
Wan 2.1's 1.3 B and 14 B models (arXiv 2503.20314), with perceptrons of four times the width (there: 5.8 and 2.7). All
else stays as it is, so a size goes with any reach, text or patch. What is tuned at one size holds for the others if the
optimiser knows for which width it was tuned (`train.optimizer`, `width`).
"""

from dataclasses import dataclass, replace

from diorama.core.errors import UserError
from diorama.net.transformer import TransformerConfig


@dataclass(frozen=True)
class Size:
    """`heads` have 64 channels each from S to XXL but for XL, as in DiT, and 128 in G."""

    width: int
    depth: int
    heads: int


SIZES = {
    "XS": Size(192, 6, 3),
    "S": Size(384, 12, 6),
    "B": Size(768, 12, 12),
    "L": Size(1024, 24, 16),
    "XL": Size(1152, 28, 16),
    "XXL": Size(1536, 30, 24),
    "G": Size(5120, 40, 40),
}


def sized(net: TransformerConfig, size: str) -> TransformerConfig:
    """The same network in another size.

    Raises `UserError` for a size that is not in the family, or a depth that the network's reach does not divide.
    """
    if size not in SIZES:
        raise UserError(f"there is no size '{size}': choose one of {', '.join(SIZES)}")
    new = SIZES[size]
    return replace(net, width=new.width, depth=new.depth, heads=new.heads)

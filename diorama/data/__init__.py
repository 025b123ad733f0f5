"""Curation (sources -> catalogue) and feeding (catalogue -> batches).

Names are imported when they are first used, because decoding workers import this package and must stay small.
"""

from typing import TYPE_CHECKING

from diorama.core.lazy import lazy

if TYPE_CHECKING:
    from diorama.data.catalogue import Catalogue, Summary
    from diorama.data.clips import ArraySource, ClipSource, Example
    from diorama.data.curation import curate
    from diorama.data.decide import judge
    from diorama.data.feed import RandomCrop, collate, in_order, loader
    from diorama.data.rules import Curation, Drop, Percentile, Where

__getattr__ = lazy(
    __name__,
    {
        "catalogue": ("Catalogue", "Summary"),
        "clips": ("ArraySource", "ClipSource", "Example"),
        "curation": ("curate",),
        "decide": ("judge",),
        "feed": ("RandomCrop", "collate", "in_order", "loader"),
        "rules": ("Curation", "Drop", "Percentile", "Where"),
    },
)

__all__ = [
    "ArraySource",
    "Catalogue",
    "ClipSource",
    "Curation",
    "Drop",
    "Example",
    "Percentile",
    "RandomCrop",
    "Summary",
    "Where",
    "collate",
    "curate",
    "in_order",
    "judge",
    "loader",
]

"""Curation (sources -> catalogue) and feeding (catalogue -> batches).

Names are imported when they are first used, because decoding workers import this package and must stay small.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diorama.data.catalogue import Catalogue, Summary
    from diorama.data.clips import ArraySource, ClipSource, Example
    from diorama.data.curation import curate
    from diorama.data.decide import judge
    from diorama.data.feed import RandomCrop, collate, in_order, loader
    from diorama.data.rules import Curation, Drop, Percentile, Where

_MODULES = {
    "catalogue": ("Catalogue", "Summary"),
    "clips": ("ArraySource", "ClipSource", "Example"),
    "curation": ("curate",),
    "decide": ("judge",),
    "feed": ("RandomCrop", "collate", "in_order", "loader"),
    "rules": ("Curation", "Drop", "Percentile", "Where"),
}

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


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

"""Curation (sources -> catalogue) and feeding (catalogue -> batches)."""

from diorama.data.catalogue import Catalogue, Summary
from diorama.data.clips import ArraySource, ClipSource, Example
from diorama.data.curate import curate
from diorama.data.loader import RandomCrop, collate, in_order, loader

__all__ = [
    "ArraySource",
    "Catalogue",
    "ClipSource",
    "Example",
    "RandomCrop",
    "Summary",
    "collate",
    "curate",
    "in_order",
    "loader",
]

"""Where clips come from, and what is said about them."""

from diorama.data.sources.listing import Item, fetch, listing

__all__ = ["Item", "fetch", "listing"]

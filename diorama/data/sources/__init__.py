"""Where clips come from, and what is said about them."""

from diorama.data.sources.listing import Item, fetch, file_of, is_there, listing, state

__all__ = ["Item", "fetch", "file_of", "is_there", "listing", "state"]

"""Stages: what curation measures of every clip, one pure function each.

Stages run in the decoding workers, all of them on one decoded clip. This module stays small for that: it imports
neither the rest of `diorama.data` nor anything that loads JAX.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from diorama.media import Media


class Stage(Protocol):
    """A pure function from a decoded clip to a row of columns; a frozen dataclass, whose fields are its parameters.

    name: the folder of its observations, and the view by which they are asked for. version: raise it when the same
    parameters give other values; every clip is then looked at again. columns: type of each value, one of float, int,
    bool, str, bytes, list[float], list[int], list[str]; any value may be None where it does not apply.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    columns: ClassVar[Mapping[str, Any]]

    def __call__(self, media: Media) -> Mapping[str, Any]:
        """The row of one clip: a value for every column. What it raises is recorded as the row's error."""

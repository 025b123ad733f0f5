"""Stages: what curation measures of every clip, one pure function each.

`Stage`s run in the decoding workers, all of them on one decoded clip. This module stays small for that: it imports
neither the rest of `diorama.data` nor anything that loads JAX. `Derived` stages run afterwards, on tables of what is
known by then, and decode nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from diorama.media import Media

if TYPE_CHECKING:
    import pyarrow as pa


class Stage(Protocol):
    """A pure function from a decoded clip to a row of columns; a frozen dataclass, whose fields are its parameters.

    name: the folder of its observations, and the view by which they are asked for. version: raise it when the same
    parameters give other values; every clip is then looked at again. columns: type of each value, one of float, int,
    bool, str, bytes, list[float], list[int], list[str], list[bytes], np.ndarray (a float32 vector); any value may be
    None where it does not apply.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    columns: ClassVar[Mapping[str, Any]]

    def __call__(self, media: Media) -> Mapping[str, Any]:
        """The row of one clip: a value for every column. What it raises is recorded as the row's error."""


class Derived(Protocol):
    """A pure function from tables of what is known of clips to columns; a frozen dataclass, as `Stage` otherwise.

    name: may be a field, so that two of one kind stand side by side (two captioning models, say). Fields that change no
    value (how many requests at once) are declared `field(compare=False)`: they make no new observations. reads: what it
    asks for: "stage.column" of another stage, or a word of the clip such as "caption", "t" or "w". A clip whose words
    changed is looked at again. weights: files whose content decides its values (a model on disk).
    """

    version: ClassVar[int]
    columns: ClassVar[Mapping[str, Any]]

    @property
    def name(self) -> str: ...

    @property
    def reads(self) -> tuple[str, ...]: ...

    @property
    def weights(self) -> tuple[Path, ...]: ...

    def prepare(self, models: Path, sample: Callable[[int], "pa.Table"]) -> "Batch":
        """The function of a table of clips, made once a run.

        models: a folder of the catalogue that is this stage's own; what is fitted once is kept there, written aside.
        sample(n): up to n clips, the same ones as long as no clip is added. Raises `UserError`.
        """


# A table (n rows; `id`, and a column by each name of `reads`) -> n values for each of the stage's columns, and for
# "error" where a clip could not be taken.
Batch = Callable[["pa.Table"], Mapping[str, Sequence[Any]]]

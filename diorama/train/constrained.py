"""Parameters that lie on a surface, such as weights of a fixed norm: every step of training puts them back onto it."""

from typing import Any, Protocol, TypeVar, runtime_checkable

import jax

T = TypeVar("T")


@runtime_checkable
class Constrained(Protocol):
    """A part of a model whose parameters lie on a surface."""

    def projected(self) -> Any:
        """The same part with its parameters on the surface."""
        ...


def projected(model: T) -> T:
    """`model` with every part that is `Constrained` on its surface, and all else as it was."""

    def constrained(part: Any) -> bool:
        return isinstance(part, Constrained)

    return jax.tree.map(lambda part: part.projected() if constrained(part) else part, model, is_leaf=constrained)

"""Modules, randomness, layouts and configuration: no machine learning.

Names are imported when they are first used: who needs `UserError` alone does not load JAX.
"""

from typing import TYPE_CHECKING

from diorama.core.lazy import lazy

if TYPE_CHECKING:
    from diorama.core.config import override, parse, to_text
    from diorama.core.errors import UserError
    from diorama.core.layout import Layout
    from diorama.core.module import Module, Policy, static

__getattr__ = lazy(
    __name__,
    {
        "config": ("override", "parse", "to_text"),
        "errors": ("UserError",),
        "layout": ("Layout",),
        "module": ("Module", "Policy", "static"),
    },
)

__all__ = ["Layout", "Module", "Policy", "UserError", "override", "parse", "static", "to_text"]

"""Modules, randomness, layouts and configuration: no machine learning.

Names are imported when they are first used: who needs `UserError` alone does not load JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diorama.core.config import override, parse, to_text
    from diorama.core.errors import UserError
    from diorama.core.layout import Layout
    from diorama.core.module import Module, Policy, static

_MODULES = {
    "config": ("override", "parse", "to_text"),
    "errors": ("UserError",),
    "layout": ("Layout",),
    "module": ("Module", "Policy", "static"),
}

__all__ = ["Layout", "Module", "Policy", "UserError", "override", "parse", "static", "to_text"]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

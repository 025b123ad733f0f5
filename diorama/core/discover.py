"""Finding components by where they lie: a solver, a grid, a process or a guidance is added by adding its file."""

import importlib
import pkgutil
from functools import reduce
from operator import or_
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")


def within(package: str) -> list[ModuleType]:
    """The modules of the folder `package` (such as "diorama.sample.solver"), imported, in the order of their names."""
    folder = importlib.import_module(package)
    return [importlib.import_module(f"{package}.{found.name}") for found in pkgutil.iter_modules(folder.__path__)]


def kinds(modules: list[ModuleType], base: type[T]) -> tuple[type[T], ...]:
    """The classes under `base` that `modules` define themselves, in their order; neither `base` nor private ones."""
    found = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    homes = {module.__name__ for module in modules}
    own = [kind for kind in found if kind.__module__ in homes and not kind.__name__.startswith("_")]
    return tuple(dict.fromkeys(kind for kind in own if issubclass(kind, base) and kind is not base))


def any_of(classes: tuple[type, ...]) -> Any:
    """The union of `classes`, for a field that may hold any of them."""
    return reduce(or_, classes)

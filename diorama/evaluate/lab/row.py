"""A row of the laboratory: one thing measured, that is computed once and kept."""

import inspect
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes, write_text


@dataclass(frozen=True)
class Row:
    """`measure()` gives a mapping that JSON can hold, and `settings` with the code behind `subjects` decide it."""

    experiment: str  # the table it belongs to
    name: str
    settings: Any  # anything with a `repr` that says it all
    subjects: tuple[Any, ...]  # objects whose classes' code it depends on, beside the laboratory's own
    measure: Callable[[], dict[str, Any]]

    @property
    def fingerprint(self) -> str:
        """Changes with the settings, and with the code of the subjects, of `measure`, and of all that those use."""
        modules = [sys.modules[type(one).__module__] for one in self.subjects] + [sys.modules[self.measure.__module__]]
        told = [self.experiment, self.name, repr(self.settings), *code(modules)]
        return hash_bytes("\n".join(told).encode(), 8)

    def of(self, some: Iterable[Any]) -> bool:
        """Whether one of `some` is among the subjects."""
        return any(one in self.subjects for one in some)

    def kept(self, folder: Path) -> Path:
        return folder / f"{self.experiment}-{self.fingerprint}.json"

    def result(self, folder: Path) -> dict[str, Any]:
        """The row as it was kept in `folder`, or measured now and kept there, at once or not at all."""
        path = self.kept(folder)
        if not path.exists():
            write_text(path, json.dumps({"name": self.name, **self.measure()}, indent=1) + "\n")
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def code(modules: Iterable[ModuleType]) -> list[str]:
    """The sources of `modules` and of every module of Diorama that theirs take names from, in a fixed order."""
    known, left = dict[str, str](), list(modules)
    while left:
        module = left.pop()
        if module.__name__ in known:
            continue
        try:
            known[module.__name__] = inspect.getsource(module)
        except OSError:
            raise UserError(f"the source of {module.__name__} cannot be read, so its results cannot be kept") from None
        used = vars(module).values()
        names = {v.__name__ if isinstance(v, ModuleType) else getattr(v, "__module__", None) for v in used}
        left += [sys.modules[name] for name in names if isinstance(name, str) and name.startswith("diorama.")]
    return [known[name] for name in sorted(known)]

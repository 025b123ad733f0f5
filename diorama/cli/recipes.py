"""Finding recipes: Python files with a function `recipe() -> Run`."""

import difflib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diorama.run import Run

_PACKAGE = Path(__file__).resolve().parents[1]


def places() -> list[Path]:
    """Folders of recipes, the first found first: yours, the repository's, those installed with the package."""
    checkout = [_PACKAGE.parent / "recipes"] if (_PACKAGE.parent / "pyproject.toml").exists() else []
    return [Path("recipes"), *checkout, _PACKAGE / "_recipes"]


def known() -> dict[str, Path]:
    """Recipes by name."""
    found: dict[str, Path] = {}
    for place in places():
        for path in sorted(place.glob("*.py")):
            if not path.name.startswith("_"):
                found.setdefault(path.stem, path)
    return found


def load(name: str) -> ModuleType:
    """The recipe file `name`: a path that ends in .py, or the name of a known one.

    Raises `UserError` that lists the known recipes, or says what the file lacks.
    """
    from diorama.core.errors import UserError

    path = Path(name) if name.endswith(".py") else known().get(name)
    if path is None:
        close = difflib.get_close_matches(name, known(), n=1, cutoff=0.4)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise UserError(f"there is no recipe '{name}': use one of {', '.join(known())}, or a path to a .py file{hint}")
    if not path.is_file():
        raise UserError(f"{path} is no file: name a recipe or a path to a .py file that defines recipe()")
    spec = importlib.util.spec_from_file_location(f"diorama_recipe_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resolve(name: str, settings: list[str], seed: int | None = None, function: str = "recipe") -> "Run":
    """The run of recipe `name`, with `path=value` settings applied. Raises `UserError`."""
    from diorama.core import UserError, override
    from diorama.run import Run

    make = getattr(load(name), function, None)
    if not callable(make):
        raise UserError(f"the recipe {name} defines no function {function}(): it should return a Run")
    run = make()
    if not isinstance(run, Run):
        raise UserError(f"{function}() of the recipe {name} returned a {type(run).__name__}: it should return a Run")
    return override(run, [*settings, *([] if seed is None else [f"seed={seed}"])])

"""Finding recipes: Python files with a function `recipe() -> Run` or `-> Cascade`, or `-> Curation` in those called
`curate_*`."""

import difflib
import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diorama.data import Curation
    from diorama.run import Run
    from diorama.run.cascade import Cascade

_MODULE = "diorama_recipe_"  # with the file's name, that of a recipe's module
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


def load(name: str, curation: bool = False) -> ModuleType:
    """The recipe file `name`: a path that ends in .py, or the name of a known one.

    Raises `UserError` that lists the known recipes (of curation, or of runs), or says what the file lacks.
    """
    from diorama.core.errors import UserError, fault

    path = Path(name) if name.endswith(".py") else known().get(name)
    if path is None:
        names = [recipe for recipe in known() if recipe.startswith("curate_") == curation]
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise UserError(f"there is no recipe '{name}': use one of {', '.join(names)}, or a path to a .py file{hint}")
    if not path.is_file():
        raise UserError(f"{path} is no file: name a recipe or a path to a .py file that defines recipe()")
    spec = importlib.util.spec_from_file_location(_MODULE + path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever it is, it is the recipe's
        raise fault(path, error) from None
    return module


def resolve(name: str, settings: list[str], seed: int | None = None, size: str | None = None) -> "Run":
    """The run of recipe `name`, or of the `config.txt` of another run, with `path=value` settings applied.

    size: of the transformer, see `run.sizes`.

    Raises `UserError`, for a cascade too.
    """
    from diorama.core import UserError
    from diorama.run.cascade import Cascade

    run = trainable(name, settings, seed, size)
    if isinstance(run, Cascade):
        raise UserError(f"the recipe {name} is a cascade of runs, and one run is wanted here")
    return run


def trainable(
    name: str, settings: list[str], seed: int | None = None, size: str | None = None
) -> "Run | Cascade":  # fmt: skip
    """As `resolve`, a cascade too: of a recipe, or of the `cascade.txt` of another one. Raises `UserError`.

    seed, size: of a cascade, those of all its stages.
    """
    from diorama.core import override, parse
    from diorama.run import Run
    from diorama.run.cascade import Cascade

    if name.endswith(".txt") and Path(name).is_file():
        text = Path(name).read_text()
        made: Run | Cascade = parse(text, Cascade) if "\nstages: [" in text else parse(text, Run)
    else:
        made = _made(name, Run, Cascade)
    at = [f"stages.{i}." for i in range(len(made.stages))] if isinstance(made, Cascade) else [""]
    made = override(made, [*settings, *([] if seed is None else [f"{path}seed={seed}" for path in at])])
    return made if size is None else _sized(made, size, settings)


def _sized(made: "Run | Cascade", size: str, settings: list[str]) -> "Run | Cascade":
    """With its transformers in that size. Raises `UserError`, also where `settings` say something else of it."""
    from diorama.core import UserError
    from diorama.run.cascade import Cascade
    from diorama.run.sizes import resized

    for setting in settings:
        if setting.partition("=")[0].endswith((".net.width", ".net.depth", ".net.heads")):
            raise UserError(f"--size {size} sets width, depth and heads, and so does --set {setting}: give one of them")
    if isinstance(made, Cascade):
        return replace(made, stages=tuple(resized(run, size) for run in made.stages))
    return resized(made, size)


def policy(name: str, settings: list[str]) -> "Curation":
    """The curation of recipe `name`, with `path=value` settings applied. Raises `UserError`."""
    from diorama.core import UserError, override
    from diorama.data import Curation

    curation: Curation = _made(name, Curation)
    for stage in curation.stages:
        if type(stage).__module__.startswith(_MODULE):
            what = f"the stage {type(stage).__name__} stands in the recipe {name} itself"
            raise UserError(f"{what}, where decoding processes cannot import it: put it into a module of its own")
    return override(curation, settings)


def _made(name: str, kind: type, *others: type) -> Any:
    """What recipe() of the recipe `name` returns: a `kind`, or one of the `others`."""
    from diorama.core.errors import UserError, fault
    from diorama.data import Curation

    module = load(name, curation=kind is Curation)
    make = getattr(module, "recipe", None)
    if not callable(make):
        raise UserError(f"the recipe {name} defines no function recipe(): it should return a {kind.__name__}")
    try:
        made = make()
    except Exception as error:  # whatever it is, it is the recipe's
        raise fault(Path(str(module.__file__)), error) from None
    if not isinstance(made, (kind, *others)):
        wanted = f"it should return a {kind.__name__}"
        raise UserError(f"recipe() of the recipe {name} returned a {type(made).__name__}: {wanted}")
    return made

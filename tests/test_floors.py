"""Imports go down the floors: each step of the work knows only the steps before it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    "core": 0,
    "media": 1, "process": 1, "net": 1, "train": 1,
    "data": 2, "codec": 2, "diffusion": 2,
    "sample": 3, "interop": 3,
    "evaluate": 4, "distill": 4, "control": 4,
    "run": 5, "world": 5, "scene": 5,
    "serve": 6,
    "cli": 7,
}  # fmt: skip


def imported(source: str, module: str) -> list[tuple[str, int]]:
    """Every `diorama` module that `module` imports, wherever in its text, with the line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                found.append((".".join([*module.split(".")[: -node.level], node.module or ""]), node.lineno))
            elif node.module == "diorama":
                found += [(f"diorama.{alias.name}", node.lineno) for alias in node.names]
            else:
                found.append((node.module or "", node.lineno))
    return [(name, line) for name, line in found if name.split(".")[0] == "diorama"]


def climbs(source: str, module: str) -> list[str]:
    """What of `module`'s imports does not go down."""
    here = module.split(".")[1]
    wrong = []
    for name, line in imported(source, module):
        there = name.split(".")[1] if "." in name else ""
        if there and there != here and FLOORS[there] >= FLOORS[here]:
            wrong.append(f"{module}:{line} (floor {FLOORS[here]}) imports {name} (floor {FLOORS[there]})")
    return wrong


def modules() -> dict[str, Path]:
    """Every module of the package that lies in a folder, by dotted name."""
    paths = sorted((ROOT / "diorama").glob("*/**/*.py"))
    return {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in paths if "_recipes" not in p.parts}


def test_every_folder_has_a_floor() -> None:
    folders = {p.parent.name for p in (ROOT / "diorama").glob("*/__init__.py")}
    assert folders <= set(FLOORS), "give a new folder its floor here and in docs/design.md"


def test_imports_go_down() -> None:
    wrong = [line for name, path in modules().items() for line in climbs(path.read_text(), name)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("from diorama.core import Module", 0),
        ("import diorama.net.layers", 0),
        ("from diorama.net.text import learn", 0),
        ("from diorama.train import train", 1),  # the same floor
        ("from diorama import data", 1),
        ("def f():\n    from diorama.run import Run", 1),  # hidden in a function
        ("from ..cli import main", 1),
        ("import numpy, diorama.serve.report", 1),
    ],
)
def test_the_rule_itself(source: str, count: int) -> None:
    assert len(climbs(source, "diorama.net.layers")) == count


def test_the_command_line_starts_without_heavy_libraries() -> None:
    """Nothing that `diorama --help` imports may import anything of Diorama but `diorama.cli`."""
    for path in sorted((ROOT / "diorama" / "cli").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            names = (
                imported(ast.unparse(node), f"diorama.cli.{path.stem}") if not isinstance(node, ast.FunctionDef) else []
            )
            guarded = isinstance(node, ast.If)  # TYPE_CHECKING
            assert guarded or all(name.startswith("diorama.cli") for name, _ in names), f"{path.name}: {names}"

"""Captions made from what is known of a clip."""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes


@dataclass(frozen=True)
class Template:
    """A caption by one of `variants`, such as "a photo of a {class_name}"; null where none can be filled.

    In braces stand columns, as {class_name} or {technical.sharpness:.1f}; {{ is a brace. A variant fits a clip that has
    all its columns. Of those that fit, a hash of the clip's id and the variant says which one it gets, so that another
    variant changes the captions of its own share only (rendezvous hashing, D. Thaler and C. Ravishankar, 1998).
    In text, underscores and runs of white space become single spaces. Raises `UserError` for a malformed variant.
    """

    variants: tuple[str, ...]
    name: str = "template"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"caption": str}
    weights: ClassVar[tuple[Path, ...]] = ()

    def __post_init__(self) -> None:
        if not self.variants:
            raise UserError(f"the stage {self.name} needs a variant, such as 'a photo of a {{class_name}}'")
        for variant in self.variants:
            _parts(variant)

    @property
    def reads(self) -> tuple[str, ...]:
        """As `Derived.reads`."""
        return tuple(dict.fromkeys(name for variant in self.variants for name in _named(variant)))

    def prepare(
        self, models: Path, sample: Callable[[int], pa.Table]
    ) -> Callable[[pa.Table], Mapping[str, Sequence[Any]]]:
        """As `Derived.prepare`."""

        def batch(table: pa.Table) -> dict[str, list[Any]]:
            return {"caption": [self._caption(row) for row in table.to_pylist()]}

        return batch

    def _caption(self, row: dict[str, Any]) -> str | None:
        known = {name: _plain(value) for name, value in row.items()}
        fitting = [v for v in self.variants if all(known[name] not in (None, "") for name in _named(v))]
        if not fitting:
            return None
        variant = max(fitting, key=lambda v: hash_bytes(f"{row['id']} {v}".encode(), 8))
        return "".join(_filled(known, *part) for part in _parts(variant))


def _parts(variant: str) -> list[tuple[str, str | None, str]]:
    """Text, the column after it or None, and how that is written. Raises `UserError`."""
    try:
        parts = list(string.Formatter().parse(variant))
    except ValueError as error:
        raise UserError(f"'{variant}' is no template ({error}): write {{{{ or }}}} for a brace that is meant") from None
    for _, name, form, conversion in parts:
        if name is not None and (conversion or "{" in (form or "") or not all(map(str.isidentifier, name.split(".")))):
            raise UserError(f"'{variant}': in braces stands a column, as in {{class_name}} or {{shots.count}}")
    return [(text, name, form or "") for text, name, form, _ in parts]


def _named(variant: str) -> list[str]:
    return [name for _, name, _ in _parts(variant) if name is not None]


def _plain(value: Any) -> Any:
    return " ".join(value.replace("_", " ").split()) if isinstance(value, str) else value


def _filled(known: Mapping[str, Any], text: str, name: str | None, form: str) -> str:
    try:
        return text if name is None else text + format(known[name], form)
    except (ValueError, TypeError) as error:
        raise UserError(f"{{{name}:{form}}} cannot be written of {known[name or '']!r}: {error}") from None

"""Configuration is code: frozen dataclasses, written as sorted `path: value` text and changed with `path=value`.

The text is complete, so a run folder needs no code of its own to be read back: a field whose type is a union of
dataclasses (`net: UNet | Transformer`) writes its member's name on a line of its own, and parsing looks the name up
among the members that the type allows. Lists and mappings of dataclasses are spelled out by index and key.
"""

import ast
import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from diorama.core.errors import UserError

T = TypeVar("T")


def _flatten(value: Any, path: str, out: dict[str, str]) -> None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if path:
            out[path] = type(value).__name__
        for field in dataclasses.fields(value):
            _flatten(getattr(value, field.name), f"{path}.{field.name}" if path else field.name, out)
    elif isinstance(value, dict):
        out[path] = "{" + ", ".join(sorted(value)) + "}"
        for key, item in value.items():
            _flatten(item, f"{path}.{key}", out)
    elif isinstance(value, tuple) and any(dataclasses.is_dataclass(item) for item in value):
        out[path] = f"[{len(value)}]"
        for i, item in enumerate(value):
            _flatten(item, f"{path}.{i}", out)
    else:
        out[path] = repr(value)


def flatten(config: Any) -> dict[str, str]:
    """Every value of a configuration by its dotted path, as text."""
    out: dict[str, str] = {}
    _flatten(config, "", out)
    return dict(sorted(out.items()))


def to_text(config: Any) -> str:
    """The whole configuration as sorted `path: value` lines."""
    return "".join(f"{path}: {value}\n" for path, value in flatten(config).items())


def _members(kind: Any) -> tuple[Any, ...]:
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if union else (kind,)


def _dataclass_named(kind: Any, name: str, path: str) -> Any:
    options = {m.__name__: m for m in _members(kind) if dataclasses.is_dataclass(m)}
    if name not in options:
        raise UserError(f"{path} cannot be '{name}': choose one of {', '.join(options)}{_nearest(name, options)}")
    return options[name]


def _nearest(key: str, options: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(options), n=1, cutoff=0.4)
    return f"; did you mean '{close[0]}'?" if close else ""


def _fits(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    if origin is tuple:
        args = typing.get_args(kind)
        if not isinstance(value, tuple):
            return False
        if len(args) == 2 and args[1] is Ellipsis:
            return all(_fits(item, args[0]) for item in value)
        return len(args) == len(value) and all(map(_fits, value, args))
    if kind is None or kind is type(None):
        return value is None
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(kind, type) and isinstance(value, kind)


def _show(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    return getattr(kind, "__name__", None) if isinstance(kind, type) else str(kind)  # type: ignore[return-value]


def _value(text: str, kind: Any, path: str) -> Any:
    """`text` as a plain value of type `kind`."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text  # a bare word is a string
    members = _members(kind)
    for member in members:
        if isinstance(value, list) and typing.get_origin(member) is tuple:
            value = tuple(value)
        if _fits(value, member):
            return float(value) if member is float else value
    if str in members:
        return text
    raise UserError(f"{path}={text} does not fit: it takes {' or '.join(_show(m) for m in members)}")


def _build(kind: Any, path: str, lines: dict[str, str], used: set[str]) -> Any:
    """Read the value at `path`, of declared type `kind`, from flattened `lines`."""
    if path:
        if path not in lines:
            raise UserError(f"the configuration lacks '{path}': it was written by another version")
        used.add(path)
    text = lines.get(path, "")
    if not path or any(dataclasses.is_dataclass(m) and m.__name__ == text for m in _members(kind)):
        cls = _dataclass_named(kind, text, path) if path else kind
        hints = typing.get_type_hints(cls)
        prefix = f"{path}." if path else ""
        return cls(**{f.name: _build(hints[f.name], prefix + f.name, lines, used) for f in dataclasses.fields(cls)})
    origin = next((m for m in _members(kind) if typing.get_origin(m) in (dict, tuple)), None)
    if origin is not None and typing.get_origin(origin) is dict and text.startswith("{"):
        keys = [k for k in text[1:-1].split(", ") if k]
        return {key: _build(typing.get_args(origin)[1], f"{path}.{key}", lines, used) for key in keys}
    if origin is not None and text.startswith("[") and f"{path}.0" in lines:
        return tuple(_build(typing.get_args(origin)[0], f"{path}.{i}", lines, used) for i in range(int(text[1:-1])))
    return _value(text, kind, path)


def parse(text: str, kind: type[T]) -> T:
    """The configuration of type `kind` that `to_text` wrote.

    Raises `UserError` for a line that is missing, unknown, or of the wrong type.
    """
    lines = dict(line.split(": ", 1) for line in text.splitlines() if line.strip())
    used: set[str] = set()
    config = _build(kind, "", lines, used)
    unknown = sorted(set(lines) - used)
    if unknown:
        raise UserError(f"unknown configuration key '{unknown[0]}'{_nearest(unknown[0], used)}")
    return config


def _set(config: Any, kind: Any, parts: list[str], text: str, path: str) -> Any:
    if not parts:
        names = [m.__name__ for m in _members(kind) if dataclasses.is_dataclass(m)]
        if names:
            if text == "None" and type(None) in _members(kind):
                return None
            return _dataclass_named(kind, text, path)()  # another component, with its own defaults
        return _value(text, kind, path)
    head, rest = parts[0], parts[1:]
    if isinstance(config, dict) and head in config:
        return {**config, head: _set(config[head], typing.get_args(kind)[1], rest, text, path)}
    if isinstance(config, tuple) and head.isdigit() and int(head) < len(config):
        i = int(head)
        return (*config[:i], _set(config[i], typing.get_args(kind)[0], rest, text, path), *config[i + 1 :])
    if dataclasses.is_dataclass(config) and head in {f.name for f in dataclasses.fields(config)}:
        hint = typing.get_type_hints(type(config))[head]
        return dataclasses.replace(config, **{head: _set(getattr(config, head), hint, rest, text, path)})  # type: ignore[type-var]
    raise KeyError(path)


def override(config: T, settings: Iterable[str]) -> T:
    """`config` with each `path=value` applied in turn, checked against the field's declared type.

    Raises `UserError` that names the nearest valid key, or what the field takes.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"'{setting}' is not a setting: write path=value, such as seed=1")
        try:
            config = _set(config, type(config), path.split("."), text, path)
        except KeyError:
            raise UserError(f"there is no setting '{path}'{_nearest(path, flatten(config))}") from None
        except ValueError as error:  # a component's own check in __post_init__
            raise UserError(f"{setting}: {error}") from None
    return config

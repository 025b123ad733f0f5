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


def _flatten(value: Any, path: str, out: dict[str, str], compared: bool = False) -> None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if path:
            out[path] = type(value).__name__
        for field in dataclasses.fields(value):
            if field.compare or not compared:
                _flatten(getattr(value, field.name), f"{path}.{field.name}" if path else field.name, out, compared)
    elif isinstance(value, dict):
        out[path] = "{" + ", ".join(sorted(value)) + "}"
        for key, item in value.items():
            _flatten(item, f"{path}.{key}", out, compared)
    elif isinstance(value, tuple) and any(dataclasses.is_dataclass(item) for item in value):
        out[path] = f"[{len(value)}]"
        for i, item in enumerate(value):
            _flatten(item, f"{path}.{i}", out, compared)
    else:
        out[path] = repr(value)


def flatten(config: Any, compared: bool = False) -> dict[str, str]:
    """Every value of a configuration by its dotted path, as text; `compared`: without fields that are not compared."""
    out: dict[str, str] = {}
    _flatten(config, "", out, compared)
    return dict(sorted(out.items()))


def to_text(config: Any, compared: bool = False) -> str:
    """The whole configuration as sorted `path: value` lines.

    `compared` leaves out what a dataclass declares `field(compare=False)`: settings that change no result, such as an
    address or a number of workers. So it is equal for equal configurations: what fingerprints are made of.
    """
    return "".join(f"{path}: {value}\n" for path, value in flatten(config, compared).items())


def _members(kind: Any) -> tuple[Any, ...]:
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if union else (kind,)


def _components(kind: Any) -> dict[str, Any]:
    """The dataclasses that a field of type `kind` may hold, by name."""
    return {m.__name__: m for m in _members(kind) if isinstance(m, type) and dataclasses.is_dataclass(m)}


def _dataclass_named(kind: Any, name: str, path: str) -> Any:
    options = _components(kind)
    if name not in options:
        raise UserError(f"{path} cannot be '{name}': choose one of {', '.join(options)}{_nearest(name, options)}")
    return options[name]


def _nearest(key: str, options: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(options), n=1, cutoff=0.4)
    return f"; did you mean '{close[0]}'?" if close else ""


def _items(kind: Any, n: int) -> tuple[Any, ...]:
    """The types of the `n` items of a tuple of type `kind`."""
    args = typing.get_args(kind)
    return args[:1] * n if args[-1:] == (Ellipsis,) else args


def _exact(value: Any, kind: Any) -> Any:
    """`value`, which fits `kind`, with whole numbers as floats where those are declared."""
    if kind is float:
        return float(value)
    if typing.get_origin(kind) is tuple:
        return tuple(map(_exact, value, _items(kind, len(value))))
    return value


def _fits(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    if origin is tuple:
        args = typing.get_args(kind)
        if not isinstance(value, tuple) or (args[-1:] != (Ellipsis,) and len(args) != len(value)):
            return False
        return all(map(_fits, value, _items(kind, len(value))))
    if kind is None or kind is type(None):
        return value is None
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(kind, type) and isinstance(value, kind)


WORDS = {"true": True, "false": False, "none": None}  # as other languages write them
PLAIN = {int, float, str, bool, Ellipsis, types.NoneType}  # what a list on the command line may hold


def _show(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    if kind is bool:
        return "True or False"
    return getattr(kind, "__name__", None) if isinstance(kind, type) else str(kind)  # type: ignore[return-value]


def _value(text: str, kind: Any, path: str) -> Any:
    """`text` as a plain value of type `kind`."""
    members = _members(kind)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = float(text) if float in members and text in ("inf", "-inf", "nan") else text  # a bare word is a string
    for each in (value, WORDS.get(text, value)):
        for member in members:
            found = tuple(each) if isinstance(each, list) and typing.get_origin(member) is tuple else each
            if _fits(found, member):
                return _exact(found, member)
    if str in members:
        return text
    if any(typing.get_origin(m) is tuple and not set(typing.get_args(m)) <= PLAIN for m in members):
        raise UserError(
            f"{path} is a list of components: write it in a recipe, or change one of those there are, {path}.0"
        )
    raise UserError(f"{path}={text} does not fit: it takes {' or '.join(_show(m) for m in members)}")


def _build(kind: Any, path: str, lines: dict[str, str], used: set[str], fill: bool) -> Any:
    """Read the value at `path`, of declared type `kind`, from flattened `lines`; see `parse` for `fill`."""
    if path:
        if path not in lines:
            other = difflib.get_close_matches(path, lines.keys() - used, n=1, cutoff=0.9)
            cause = f"'{other[0]}' is not one of its keys" if other else "it was written by another version"
            raise UserError(f"the configuration lacks '{path}': {cause}")
        used.add(path)
    text = lines.get(path, "")
    if not path or text in _components(kind):
        cls = _dataclass_named(kind, text, path) if path else kind
        hints = typing.get_type_hints(cls)
        prefix = f"{path}." if path else ""
        values = {
            f.name: _build(hints[f.name], prefix + f.name, lines, used, fill)
            for f in dataclasses.fields(cls)
            if not fill or prefix + f.name in lines or _required(f)
        }
        try:
            return cls(**values)
        except (ValueError, UserError) as error:  # a component's own check in __post_init__
            raise UserError(f"{path or cls.__name__}: {error}") from None
    origin = next((m for m in _members(kind) if typing.get_origin(m) in (dict, tuple)), None)
    if origin is not None and typing.get_origin(origin) is dict and text.startswith("{"):
        keys = [k for k in text[1:-1].split(", ") if k]
        return {key: _build(typing.get_args(origin)[1], f"{path}.{key}", lines, used, fill) for key in keys}
    if origin is not None and text.startswith("[") and f"{path}.0" in lines:
        item = typing.get_args(origin)[0]
        return tuple(_build(item, f"{path}.{i}", lines, used, fill) for i in range(int(text[1:-1])))
    return _value(text, kind, path)


def _required(field: Any) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def parse(text: str, kind: type[T], *, fill: bool = False) -> T:
    """The configuration of type `kind` that `to_text` wrote.

    fill: text of an earlier version, where lines of newer fields are missing: those are at their defaults, which for
    a new field is what was done before there was one. Raises `UserError` for a line that is missing otherwise, is
    unknown, or of the wrong type.
    """
    lines = {}
    for line in filter(str.strip, text.splitlines()):
        path, colon, value = line.partition(": ")
        if not colon:
            raise UserError(f"'{line}' is not a line of a configuration: those read 'path: value'")
        lines[path] = value
    used: set[str] = set()
    config = _build(kind, "", lines, used, fill)
    unknown = sorted(set(lines) - used)
    if unknown:
        raise UserError(f"unknown configuration key '{unknown[0]}'{_nearest(unknown[0], used)}")
    return config


def _component(kind: Any, text: str, path: str) -> Any:
    """The value that `path=text` sets whole: a plain one, or another component with its own defaults."""
    names = _components(kind)
    plain = [member for member in _members(kind) if member not in (*names.values(), type(None))]
    if text not in names and (
        plain or not names or (WORDS.get(text, text) in (None, "None") and type(None) in _members(kind))
    ):
        return _value(text, kind, path)
    try:
        return _dataclass_named(kind, text, path)()
    except TypeError:
        raise UserError(f"{path}={text} cannot be set: not everything in {text} has a default") from None


def _child(config: Any, kind: Any, name: str) -> tuple[Any, Any]:
    """What lies in `config` under `name`, and its declared type. Raises `KeyError` where nothing does."""
    if dataclasses.is_dataclass(config) and name in {f.name for f in dataclasses.fields(config)}:
        return getattr(config, name), typing.get_type_hints(type(config))[name]
    declared = next((m for m in _members(kind) if typing.get_origin(m) is type(config)), None)
    if isinstance(config, dict) and name in config:
        return config[name], typing.get_args(declared)[1]
    if isinstance(config, tuple) and name.isdigit() and int(name) < len(config):
        return config[int(name)], _items(declared, len(config))[int(name)]
    raise KeyError(name)


def _apply(config: Any, kind: Any, settings: list[tuple[list[str], str, str]]) -> Any:
    """Make `settings` (rest of the path, text, setting) in `config`, all at once: a component checks the outcome."""
    for rest, text, setting in settings:
        if not rest:
            config = _component(kind, text, setting.partition("=")[0])
    below: dict[str, list[tuple[list[str], str, str]]] = {}
    for rest, text, setting in settings:
        if rest:
            below.setdefault(rest[0], []).append((rest[1:], text, setting))
    new = {}
    for name, part in below.items():
        try:
            child, child_kind = _child(config, kind, name)
        except KeyError:
            path = part[0][2].partition("=")[0]
            options: dict[str, str] = {}
            _flatten(config, path.removesuffix(".".join([name, *part[0][0]])).rstrip("."), options)
            raise UserError(f"there is no setting '{path}'{_nearest(path, options)}") from None
        new[name] = _apply(child, child_kind, part)
    if isinstance(config, tuple):
        return tuple(new.get(str(i), item) for i, item in enumerate(config))
    if isinstance(config, dict):
        return {**config, **new}
    try:
        return dataclasses.replace(config, **new) if new else config
    except (ValueError, UserError) as error:  # a component's own check in __post_init__
        raise UserError(f"{', '.join(setting for _, _, setting in settings)}: {error}") from None


def override(config: T, settings: Iterable[str]) -> T:
    """`config` with every `path=value` made at once, checked against the field's declared type.

    A component that is set whole (`net=TransformerConfig`) takes its place before what is set inside it.
    Raises `UserError` that names the nearest valid key, or what the field takes.
    """
    parsed = []
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"'{setting}' is not a setting: write path=value, such as seed=1")
        parsed.append((path.split("."), text, setting))
    return _apply(config, type(config), parsed)

"""What people say about clips: captions, labels, splits, licences, in sidecars and in the columns of tables."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from diorama.core.errors import UserError

# What may be said about a clip: our word, its type, and the words that people use for it.
SAID: dict[str, tuple[pa.DataType, tuple[str, ...]]] = {
    "caption": (pa.string(), ("caption", "text", "prompt")),
    "label": (pa.int32(), ("label", "action", "class")),
    "class_name": (pa.string(), ("class_name", "category")),
    "actions": (pa.list_(pa.int32()), ("actions",)),
    "split": (pa.string(), ("split",)),
    "group": (pa.string(), ("group", "person", "youtube_id")),  # only splits that are said divide one
    "rate": (pa.float64(), ("rate", "fps")),
    "frame_width": (pa.int32(), ("frame_width",)),
    "licence": (pa.string(), ("licence", "license")),
    "origin": (pa.string(), ("origin", "url", "source_url")),
    "author": (pa.string(), ("author",)),
    "terms": (pa.string(), ("terms",)),
}
FILE = ("file_name", "file", "video", "image", "path")  # how a sidecar's row names its file
SIDECARS = (".jsonl", ".json", ".csv")


def said(row: dict[str, Any], where: str) -> dict[str, Any]:
    """What a sidecar's row says, in our words. Raises `UserError` naming `where` for a value of the wrong kind."""
    row = {key: value for key, value in row.items() if value is not None and value != ""}
    out: dict[str, Any] = {}
    for name, (kind, words) in SAID.items():
        word = next((w for w in words if w in row), None)
        if word is None:
            continue
        value = row.pop(word)
        try:
            if pa.types.is_string(kind):
                out[name] = str(value)
            elif name == "label" and isinstance(value, str) and not value.lstrip("-").isdigit():
                out.setdefault("class_name", value)  # a class by name
            elif pa.types.is_list(kind):
                out[name] = [int(v) for v in (json.loads(value) if isinstance(value, str) else value)]
            else:
                out[name] = int(value) if pa.types.is_integer(kind) else float(value)
            pa.scalar(out.get(name), kind)  # it may be too large
            if name == "split" and not re.fullmatch(r"\w[\w.-]*", out[name]):
                raise ValueError
        except (TypeError, ValueError, OverflowError, pa.ArrowInvalid):
            takes = "a plain name, as train or test" if name == "split" else kind
            raise UserError(f"{where}: '{word}' cannot be {value!r}: it takes {takes}") from None
    if row:
        out["more"] = json.dumps(row, sort_keys=True, default=str)
    return out


def sidecar(text: str, path: Path) -> list[dict[str, Any]]:
    """The rows of a possible sidecar, or none when it is another kind of file.

    Raises `UserError`, naming `path`, for one that breaks off.
    """
    rows: list[Any] = []
    if path.suffix == ".csv":
        table = csv.DictReader(io.StringIO(text))
        try:
            if not {*(table.fieldnames or ())} & {*FILE}:
                return []
            for row in table:
                if any(row.pop(None, ())):
                    where = f"{path} line {table.line_num}"
                    raise UserError(f"{where} has more values than headers: put text that holds commas in quotes")
                rows.append(row)
        except csv.Error as error:
            if not rows:
                return []
            raise UserError(f"{path} is no CSV after line {table.line_num} ({error}): mend what follows") from None
    elif path.suffix == ".json":
        try:
            rows = json.loads(text)
        except ValueError:
            return []
    else:
        for number, line in enumerate(text.split("\n"), 1):  # splitlines would cut at U+2028, which JSON may hold
            try:
                rows += [json.loads(line)] if line.strip() else []
            except ValueError:
                if not rows:
                    return []
                raise UserError(f"{path} line {number} is not JSON: mend or remove that line") from None
    names = isinstance(rows, list) and all(isinstance(r, dict) and naming(r) for r in rows)
    return rows if names else []


def naming(row: dict[str, Any]) -> str:
    """The key under which a row names its file, or "" when it names none."""
    return next((key for key in FILE if isinstance(row.get(key), str)), "")


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What both say; `new` is right where they differ."""
    if not ("more" in old and "more" in new):
        return old | new
    more = json.loads(old["more"]) | json.loads(new["more"])
    return old | new | {"more": json.dumps(more, sort_keys=True)}

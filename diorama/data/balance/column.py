"""Columns by which clips are balanced: a word of the clip, a measure of a stage, or the words of its caption."""

import difflib
from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa

from diorama.core.errors import UserError

WORDS = "words"  # the column of every word of a caption, each once, in small letters
_WORDS = r"list_distinct(regexp_extract_all(lower(caption), '[\pL\pN]+'))"
ROWS = 8192  # rows of vectors read at a time


def reads(column: str) -> tuple[str, ...]:
    """What `values` asks for: "stage.column", or a word of the clip."""
    return ("caption",) if column == WORDS else (column,)


def measures(column: str) -> tuple[str, ...]:
    """What a rule that looks at `column` asks for of stages."""
    return (column,) if "." in column else ()


def values(con: duckdb.DuckDBPyConnection, column: str, clips: str = "left_over") -> pa.Table:
    """The `id` of every clip of the view `clips` with its `value` of `column`, a string or null; sorted by both.

    column: a word of the clip such as "label" or "class_name"; "stage.column"; or "words", those of the caption. One
    that holds lists gives a row for each distinct item, and one of null for an empty list. Raises `UserError` for a
    column that is not there.
    """
    if column == WORDS:
        named, joined = _WORDS, ""
    elif "." in column:
        stage, _, name = column.partition(".")
        _known(con, stage, name, column)
        named, joined = f'"{stage}"."{name}"', f'left join "{stage}" using (id)'
    else:
        _known(con, clips, column, column)
        named, joined = f'"{clips}"."{column}"', ""
    found = con.sql(f'select id, {named} as value from "{clips}" {joined}')
    if str(found.types[1]).endswith("[]"):
        each = "unnest(case when len(value) > 0 then list_distinct(value) else [null] end)"
        found = con.sql(f"select id, {each} as value from ({found.sql_query()})")
    query = found.sql_query()
    return con.sql(f"select id, value::varchar as value from ({query}) order by id, value").to_arrow_table()


def groups(con: duckdb.DuckDBPyConnection, column: str) -> tuple[list[str], np.ndarray, list[str | None]]:
    """Ids of all clips left over, sorted; the number of each one's value (n,); and the values, null as None.

    Raises `UserError` for a column of which a clip has several values.
    """
    table = values(con, column)
    ids, named = table["id"].to_pylist(), table["value"].to_pylist()
    if len(set(ids)) < len(ids):
        raise UserError(f"a clip has several values of {column}: a quota needs a column with one for each clip")
    distinct = sorted(set(named), key=lambda value: (value is None, value or ""))
    number = {value: k for k, value in enumerate(distinct)}
    return ids, np.array([number[value] for value in named], np.int64), distinct


def unit_vectors(con: duckdb.DuckDBPyConnection, column: str, ids: Sequence[str]) -> np.ndarray:
    """The vectors of clips, (n, d) float32 of length 1; rows of 0 where there is none, or it is 0 or not finite.

    They are read in parts, so what is held is the result and ROWS more. Raises `UserError` for a column that is not
    there or has vectors of several lengths.
    """
    stage, _, name = column.partition(".")
    _known(con, stage, name, column)
    place = {identifier: k for k, identifier in enumerate(ids)}
    lengths = con.sql(f'select distinct len("{name}") from "{stage}" where "{name}" is not null').fetchall()
    if len(lengths) > 1:
        raise UserError(f"{column} holds vectors of {len(lengths)} lengths, which cannot be compared")
    out = np.zeros((len(ids), lengths[0][0] if lengths else 0), np.float32)
    if not out.size:
        return out
    reader = con.sql(f'select id, "{name}" as vector from "{stage}" where "{name}" is not null').to_arrow_reader(ROWS)
    for batch in reader:
        flat = batch["vector"].flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        rows = np.array([place.get(identifier, -1) for identifier in batch["id"].to_pylist()])
        out[rows[rows >= 0]] = flat.reshape(len(rows), -1)[rows >= 0]
    for start in range(0, len(out), ROWS):
        part = out[start : start + ROWS]
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            part /= np.linalg.norm(part, axis=1, keepdims=True)
        part[~np.isfinite(part).all(1)] = 0
    return out


def _known(con: duckdb.DuckDBPyConnection, view: str, name: str, column: str) -> None:
    try:
        columns = con.sql(f'select * from "{view}" limit 0').columns
    except duckdb.CatalogException:
        raise UserError(f"there is no {column}: no stage of this curation is called '{view}'") from None
    if name not in columns:
        close = difflib.get_close_matches(name, columns, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(columns)}"
        raise UserError(f"there is no {column}; {hint}")

"""Which of several columns says what a clip shows."""

from collections.abc import Sequence

import pyarrow as pa


def preferred(table: pa.Table, columns: Sequence[str]) -> list[str | None]:
    """Of each row the text of the first of `columns` that holds more than white space; None where none does."""
    texts = [table[column].to_pylist() for column in columns]
    return [next((text for text in row if text and text.strip()), None) for row in zip(*texts, strict=True)]

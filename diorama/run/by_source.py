"""Where each training clip comes from: what its `source` says beside it, else the bucket that it is in."""

import json
from collections import Counter

import numpy as np

from diorama.core.errors import UserError
from diorama.data import ArraySource, Catalogue
from diorama.run.examples import clips
from diorama.run.run import Bucket
from diorama.train.by_source import SOURCE

MOST = 16  # sources in the log; the clips of seldom ones are "other" together

Given = list[tuple[Bucket, ArraySource]]


def with_sources(catalogue: Catalogue, given: Given) -> tuple[tuple[str, ...], Given]:
    """The sources' names, and the training examples with the column `source`, an index into them.

    No names, and the examples as they are, where all are of one. Raises `UserError` for a condition called so.
    """
    said = [_said(catalogue, bucket) for bucket, _ in given]
    counts = Counter(name for names in said for name in names)
    if len(counts) < 2:
        return (), given
    if any(SOURCE in source.columns for _, source in given):
        raise UserError(f"'{SOURCE}' names where a clip comes from: call the condition by another name")
    kept = sorted(name for name, _ in counts.most_common(MOST if len(counts) <= MOST else MOST - 1))
    names = (*kept, *(["other"] if len(kept) < len(counts) else []))
    index = {name: i for i, name in enumerate(names)}
    columns = [np.array([index.get(name, len(names) - 1) for name in clips], np.int32) for clips in said]
    return names, [(bucket, ArraySource(source.columns | {SOURCE: column}, source.weights))
                   for (bucket, source), column in zip(given, columns, strict=True)]  # fmt: skip


def _said(catalogue: Catalogue, bucket: Bucket) -> list[str]:
    """The source of every training example of a bucket, in order."""
    source = clips(catalogue, bucket, "train")
    assert source is not None
    more = (json.loads(source.row(i).get("more") or "{}") for i in range(len(source)))
    return [str(row.get(SOURCE) or bucket) for row in more]

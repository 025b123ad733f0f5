"""What weights and rules do to a catalogue: how common each value was, and how often it is drawn now."""

import duckdb
import numpy as np
import pyarrow as pa

from diorama.data.balance.column import values

DISTRIBUTION = pa.schema([
    ("value", pa.string()),  # null is a value of its own
    ("clips", pa.int64()),
    ("before", pa.float64()),  # share of the clips
    ("after", pa.float64()),  # share of what is drawn
])  # fmt: skip


def distribution(
    con: duckdb.DuckDBPyConnection, column: str, weights: pa.Table, *, clips: str = "left_over"
) -> pa.Table:
    """Each value of `column` with its share before and after, as `DISTRIBUTION`; the commonest first.

    weights: id and weight, as `Balance.weights` gives them; a clip that is not there counts as left out, so with
    `clips="sound"` what rules do is seen too. column: as `values` takes it; where a clip has several values, it counts
    for each, and shares sum to more than 1. Raises `UserError` for a column that is not there.
    """
    rows = values(con, column, clips)
    if not len(rows):
        return DISTRIBUTION.empty_table()
    con.register("weighed", weights.select(["id", "weight"]))
    con.register("valued", rows)
    try:
        return con.sql(
            f'with total as (select count(*) as clips, sum(coalesce(weight, 0)) as weight from "{clips}" '
            "left join weighed using (id)) "
            "select value, count(*) as clips, count(*) / any_value(total.clips) as before, "
            "coalesce(sum(coalesce(weighed.weight, 0)) / nullif(any_value(total.weight), 0), 0) as after "
            "from valued left join weighed using (id) cross join total group by value "
            "order by clips desc, value nulls last"
        ).to_arrow_table().cast(DISTRIBUTION)  # fmt: skip
    finally:
        con.unregister("weighed")
        con.unregister("valued")


def effective(weights: np.ndarray) -> float:
    """How many clips of equal weight tell as much as these: (sum w)² / sum w², from 1 to n; 0 where all are 0.

    Kish 1965, "Survey sampling", section 11.7.
    """
    weights = np.asarray(weights, np.float64)
    square = float((weights**2).sum())
    return float(weights.sum()) ** 2 / square if square else 0.0

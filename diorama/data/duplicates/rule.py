"""The rule that leaves out near-duplicates."""

import sys
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from diorama.data.duplicates.groups import DISTANCE, SCORE, near_duplicates
from diorama.data.rules import ALIKE, VERDICT


@dataclass(frozen=True)
class NearDuplicates:
    """Keeps one clip of those that show the same: re-encoded, scaled, cropped, toned, and `mirrored` ones.

    Kept is what a person chose, else a test clip (so that none leaks), a captioned one, the one of most pixels, of most
    bytes. The ledger names it as partner, and as value how well the two correlate once laid over each other. Needs the
    stage `Signature`. distance: bits by which hashes of candidates differ, at most; 8 suits more than 30,000 frames,
    and misses a few strong crops.
    """

    name: str = "near-duplicate"
    mirrored: bool = True
    distance: int = DISTANCE

    @property
    def measures(self) -> tuple[str, ...]:
        """What it asks for."""
        return ("signature.hashes", "signature.thumbnails")

    def verdicts(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        """As `Rule.verdicts`."""
        rows = con.sql(
            "select id, location, chosen, hashes, thumbnails, (chosen::int, (coalesce(split, '') = 'test')::int, "
            "(caption is not null)::int, h * w, bytes) as rank from left_over join signature using (id) "
            "where signature.error is null and frames > 0 order by id"
        ).fetchall()
        places = {row[0]: row[1] for row in rows}
        chosen = {row[0] for row in rows if row[2]}
        found = near_duplicates(
            list(places),
            [np.frombuffer(row[3], np.uint64).reshape(-1, 12) for row in rows],
            [np.frombuffer(row[4], np.uint8).reshape(-1, 64, 64) for row in rows],
            np.array([list(row[5]) for row in rows], float).reshape(len(rows), 5),
            mirrored=self.mirrored,
            distance=self.distance,
        )
        if found.skipped:
            print(f"diorama: {self.name}: {found.skipped:,} comparisons among very many like clips were left out",
                  file=sys.stderr, flush=True)  # fmt: skip
        pairs = pa.table({"id": [a for a, _ in found.pairs], "other": [b for _, b in found.pairs]}, ALIKE)
        con.register("near_pairs", pairs)
        con.execute("insert into alike select id, other from near_pairs")
        con.unregister("near_pairs")
        cut = [d for d in found.duplicates if d.id not in chosen]
        return pa.Table.from_pylist(
            [{"id": d.id, "partner": places[d.representative], "metric": "signature.score", "value": d.score,
              "threshold": SCORE} for d in cut], VERDICT)  # fmt: skip

"""The rule that leaves out near-duplicates."""

import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diorama.core.config import to_text
from diorama.core.files import hash_bytes
from diorama.data.duplicates.groups import DISTANCE, find
from diorama.data.duplicates.matches import SCORE
from diorama.data.duplicates.memory import Memory
from diorama.data.rules import VERDICT
from diorama.data.splits import LINK
from diorama.data.stages.known import Signature

VERSION = 1  # of what is kept of clips and pairs; raise it when they would be judged otherwise


@dataclass(frozen=True)
class NearDuplicates:
    """Keeps one clip of those that show the same: re-encoded, scaled, cropped, toned, and `mirrored` ones.

    Kept is what a person chose, else a test clip (so that none leaks), a captioned one, the one of most pixels, of most
    bytes. The ledger names it as partner, and as value how well the two correlate once laid over each other. Needs the
    stage `Signature`. distance: bits by which hashes of candidates differ, at most; 8 suits more than 30,000 frames,
    and misses a few strong crops. What was found of two clips is kept in the catalogue's cache.
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
        clips = con.sql(
            "select id, location, chosen::int as chosen, (coalesce(split, '') = 'test')::int as test, "
            "(caption is not null)::int as captioned, h * w as pixels, bytes from left_over"
        ).to_arrow_table()
        ids = clips["id"].combine_chunks()
        rank = np.stack([clips[name].to_numpy() for name in clips.column_names[2:]], -1).astype(float)

        def signatures(asked: pa.Array, column: str) -> pa.Table:
            # Not the view `signature`, which would read every thumbnail to find the last row of each clip: two rows of
            # one clip say the same.
            con.register("asked_signatures", pa.table({"id": asked}))
            found = con.sql(
                f"select id, {column} from signature_all where id in (select id from asked_signatures) "
                "and error is null and frames > 0"
            ).to_arrow_table()
            con.unregister("asked_signatures")
            return found

        memory = Memory(self._kept(con))
        found = find(ids, rank, signatures, memory, mirrored=self.mirrored, distance=self.distance)
        if found.skipped:
            print(f"diorama: {self.name}: {found.skipped:,} comparisons among very many like clips were left out",
                  file=sys.stderr, flush=True)  # fmt: skip
        pairs = pa.table({"id": [a for a, _ in found.pairs], "other": [b for _, b in found.pairs]}, LINK)
        con.register("near_pairs", pairs)
        con.execute("insert into alike select id, other from near_pairs")
        con.unregister("near_pairs")

        named = pa.array([name for d in found.duplicates for name in (d.id, d.representative)], pa.string())
        of = {clip["id"]: clip for clip in clips.filter(pc.is_in(clips["id"], value_set=named)).to_pylist()}
        return pa.Table.from_pylist(
            [{"id": d.id, "partner": of[d.representative]["location"], "metric": "signature.score", "value": d.score,
              "threshold": SCORE} for d in found.duplicates if not of[d.id]["chosen"]], VERDICT)  # fmt: skip

    def _kept(self, con: duckdb.DuckDBPyConnection) -> Path:
        """Where what follows from signatures, distance and mirroring lies."""
        [(cache,)] = con.sql("select folder from cache").fetchall()
        stage = f"{Signature.name} {Signature.version} {to_text(Signature(), compared=True)}"
        key = hash_bytes(f"{VERSION} {stage} {self.distance} {self.mirrored}".encode(), 8)
        return Path(cache) / "near" / key

"""The rule that leaves out pictures that show the same kind of thing, by what an encoder sees in them."""

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from diorama.data.duplicates.vectors import join
from diorama.data.rules import VERDICT


@dataclass(frozen=True)
class SemanticDuplicates:
    """Keeps one clip of those whose embeddings point the same way (Abbas et al. 2023, "SemDeDup").

    Kept is the best by the ranking of `NearDuplicates`; the ledger names it as partner, and as value the cosine of the
    two, which is at least `cosine` for every clip left out: being like another one that was left out is not enough.
    What a cosine means depends on the encoder, so look at pairs about the threshold first. Exact up to 4,096 clips;
    beyond, a few pairs may be missed (`duplicates.vectors`). vectors: the embedding, as `stage.column`.
    """

    cosine: float
    vectors: str = "embedding.vector"
    name: str = "semantic duplicate"

    @property
    def measures(self) -> tuple[str, ...]:
        """What it asks for."""
        return (self.vectors,)

    def verdicts(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        """As `Rule.verdicts`."""
        stage = self.vectors.split(".")[0]
        rows = con.sql(
            f"select id, location, chosen, {self.vectors} as vector from left_over join {stage} using (id) "
            f"where {self.vectors} is not null order by chosen desc, (coalesce(split, '') = 'test') desc, "
            "caption is null, h * w desc, bytes desc, id"
        ).to_arrow_table()
        if not len(rows):
            return VERDICT.empty_table()
        vectors = np.stack(rows["vector"].to_numpy(zero_copy_only=False)).astype(np.float32)
        chosen, places = rows["chosen"].to_pylist(), rows["location"].to_pylist()
        cut = [
            {"id": rows["id"][j].as_py(), "partner": places[i], "metric": self.vectors, "value": value,
             "threshold": self.cosine}
            for i, j, value in stars(*join(vectors, self.cosine)) if not chosen[j]
        ]  # fmt: skip
        return pa.Table.from_pylist(cut, VERDICT)


def stars(pairs: np.ndarray, values: np.ndarray) -> list[tuple[int, int, float]]:
    """Representatives and their members, out of pairs (p, 2) with i < j of clips in the order of their rank.

    From the best clip on, each that is no member yet takes those of its neighbours that are free; each member comes
    once, with the value of its pair.
    """
    members: set[int] = set()
    found = []
    for (i, j), value in sorted(zip(map(tuple, pairs.tolist()), values.tolist(), strict=True)):
        if i not in members and j not in members:
            members.add(j)
            found.append((i, j, value))
    return found

"""The rule that leaves out clips whose caption many clips share."""

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from diorama.data.rules import VERDICT


@dataclass(frozen=True)
class SameCaption:
    """Leaves out clips whose caption more than `most` sound clips have: the name of a site says nothing of a picture.

    Captions are the same when they differ in case, spaces and punctuation only. Needs the stage `CaptionChecks`, called
    `wording`. Not for captions that are meant to be shared, such as those made of class names.
    """

    most: int = 100
    name: str = "same caption as many"
    wording: str = "wording"

    @property
    def measures(self) -> tuple[str, ...]:
        """What it asks for."""
        return (f"{self.wording}.key",)

    def verdicts(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        """As `Rule.verdicts`."""
        clips = f"select id, key from {{}} join {self.wording} using (id) where key is not null"
        shared = f"select key, count(*) as n from ({clips.format('sound')}) group by key having n > {self.most:d}"
        found = con.sql(
            f"select id, null::varchar as partner, '{self.wording}.key' as metric, n::double as value, "
            f"{self.most:d}::double as threshold from ({clips.format('left_over')} and not chosen) "
            f"join ({shared}) using (key) order by id"
        )
        return found.to_arrow_table().cast(VERDICT)

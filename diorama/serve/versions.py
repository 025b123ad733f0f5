"""Two versions of a catalogue beside each other: every run of curation added to the ledger what it changed."""

import threading
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pyarrow as pa

from diorama.data.ledger import DECISION, connect

# The verdicts that runs after `a`, up to `b`, changed: what they were at `a` (null for what was not there) and at `b`.
_CHANGES = """
with latest as (select location, arg_max((verdict, reason), run) as new from ledger
    where run > {a:d} and run <= {b:d} group by location),
  before as (select location, arg_max((verdict, reason), run) as old from ledger
    where run <= {a:d} and location in (select location from latest) group by location)
select location, old[1] as old_verdict, old[2] as old_reason, new[1] as new_verdict, new[2] as new_reason
from latest left join before using (location)
"""


class Versions:
    """The runs of the catalogue in folder `path`, by their numbers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._con = connect({"ledger": (path / "decisions", DECISION)})  # its views are those of one connection
        self._lock = threading.Lock()

    def runs(self) -> list[dict[str, Any]]:
        """Every run that changed a verdict, the oldest first: its number, policy, time and changes."""
        return self._ask("select run, min(policy) as policy, min(time) as time, count(*) as changes from ledger "
                         "group by run order by run").to_pylist()  # fmt: skip

    def history(self, location: str) -> list[dict[str, Any]]:
        """Every verdict on an item, the oldest first."""
        return self._ask("select * from ledger where location = ? order by run", [location]).to_pylist()

    def changes(self, a: int, b: int) -> list[dict[str, Any]]:
        """Counts of what changed from run `a` to run `b`, by verdict and reason before (null: not there) and after."""
        counted = "old_verdict, old_reason, new_verdict, new_reason, count(*) as n"
        source = _CHANGES.format(a=a, b=b)
        return self._ask(f"select {counted} from ({source}) group by all order by n desc, 1, 2, 3, 4").to_pylist()

    def locations(self, a: int, b: int, old: tuple[str, str] | None, new: tuple[str, str]) -> pa.Table:
        """The items of one line of `changes`, as a table of `location`."""
        return self._ask(
            f"select location from ({_CHANGES.format(a=a, b=b)}) where old_verdict is not distinct from ? "
            "and old_reason is not distinct from ? and new_verdict = ? and new_reason = ?",
            [*(old or (None, None)), *new],
        )

    def policies(self, a: int, b: int) -> list[str]:
        """The lines of the policy that differ between the two runs, each after - or +."""
        of = {row["run"]: row["policy"] for row in self.runs()}
        lines = unified_diff(self._policy(of.get(a)), self._policy(of.get(b)), n=0, lineterm="")
        return [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]

    def close(self) -> None:
        """Let go of the ledger."""
        self._con.close()

    def _policy(self, fingerprint: str | None) -> list[str]:
        path = self._path / "policies" / f"{fingerprint}.txt"
        return path.read_text().splitlines() if path.exists() else []

    def _ask(self, question: str, given: list[Any] | None = None) -> pa.Table:
        with self._lock:
            return self._con.sql(question, params=given or []).to_arrow_table()

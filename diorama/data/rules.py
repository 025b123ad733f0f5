"""Rules of a curation: what is left out, by thresholds on what stages measured, as near-duplicates, or by people.

A rule is data. Nothing it leaves out is deleted: a cut is a view, taken anew from the same observations when the rule
changes, and every verdict names the measure, its value, the threshold and the clip kept instead.
"""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from diorama.core.config import to_text
from diorama.core.errors import UserError
from diorama.core.files import hash_bytes
from diorama.data.balance.weights import Balance
from diorama.data.ledger import OBSERVATION
from diorama.data.stages.stage import Derived, Stage
from diorama.media import Limits

# Views and tables of curation, beside which every stage has its own.
RESERVED = {"observations", "decisions", "judgements", "latest", "verdict", "verdict_later", "decisions_later",
            "verdicts", "changed", "ranked", "sound", "judged", "cut", "left_over", "away", "found",
            "seen", "ledger", "every_seen", "every_ledger", "clips", "item", "file", "files", "clip", "parents",
            "pieces", "alike",
            "cache", "weighed", "valued", "kept", "settled", "placed", "stored", "captioned", "divided", "probe",
            "copies", "held", "listed", "near_pairs", "asked_signatures", "labelled", "numbered"}  # fmt: skip

NEAREST = 5  # names of measures that a message gives
# What rules may ask for without a stage: the view `clip`.
CLIP_MEASURES = {"clip.t": int, "clip.h": int, "clip.w": int, "clip.side": int, "clip.aspect": float,
                 "clip.seconds": float, "clip.rate": float, "clip.bytes": int}  # fmt: skip


@dataclass(frozen=True)
class Percentile:
    """A threshold that leaves `percent` of all sound clips below it."""

    percent: float

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise UserError(f"a percentile lies between 0 and 100, not at {self.percent:g}")


@dataclass(frozen=True)
class Where:
    """A measure, as `stage.measure`, that lies below or above a threshold; one that is null does neither.

    Of every clip there are clip.t, .h, .w, .side (the shorter), .aspect (w / h), .seconds, .rate and .bytes.

    Raises `UserError` unless exactly one of both is given.
    """

    measure: str
    below: float | Percentile | None = None
    above: float | Percentile | None = None

    def __post_init__(self) -> None:
        if (self.below is None) == (self.above is None):
            raise UserError(f"{self.measure}: give either below= or above=")
        if self.measure.count(".") != 1:
            raise UserError(f"'{self.measure}' is no measure: write stage.measure, as in technical.sharpness")

    @property
    def limit(self) -> float | Percentile:
        """The threshold."""
        limit = self.above if self.below is None else self.below
        assert limit is not None
        return limit


VERDICT = pa.schema([
    ("id", pa.string()),
    ("partner", pa.string()),  # the location kept instead, or null
    ("metric", pa.string()),
    ("value", pa.float64()),
    ("threshold", pa.float64()),
])  # fmt: skip


_LEFT_OUT = VERDICT.append(pa.field("reason", pa.string()))


class Rule(Protocol):
    """What leaves clips out; a frozen dataclass.

    name: the reason that the ledger records. measures: what it asks for, as `stage.measure`.
    """

    @property
    def name(self) -> str: ...

    @property
    def measures(self) -> tuple[str, ...]: ...

    def verdicts(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        """The clips left out, as `VERDICT`.

        `con` has the views `sound` (every readable clip, one of each content), `left_over` (those that no earlier
        rule left out; `chosen` where a person said keep), and one a stage, by id. Pairs of clips that belong together,
        so that they must not come to lie in different splits, go to its table `alike` (id, other). Its table `cache`
        (folder) says where a rule may keep what took long to find and follows from observations alone.
        """


@dataclass(frozen=True)
class Drop:
    """Leaves out the clips for which every condition holds; the first one is recorded as the reason's measure.

    Raises `UserError` for what are no conditions.
    """

    name: str
    where: tuple[Where, ...]

    def __post_init__(self) -> None:
        given: Any = self.where
        if not isinstance(given, tuple) or not given or not all(isinstance(where, Where) for where in given):
            raise UserError(
                f"rule '{self.name}' needs a tuple of conditions, as (Where(...),) with its comma; not {given!r}"
            )

    @property
    def measures(self) -> tuple[str, ...]:
        """What the conditions ask for."""
        return tuple(where.measure for where in self.where)

    def verdicts(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        """As `Rule.verdicts`."""
        return together(con, (self,)).select(VERDICT.names)

    @staticmethod
    def limit(con: duckdb.DuckDBPyConnection, where: Where) -> float | None:
        """A condition's threshold; a percentile is that of all sound clips that have the measure, None if none has."""
        if not isinstance(where.limit, Percentile):
            return float(where.limit)
        stage = where.measure.split(".")[0]
        share = where.limit.percent / 100
        row = con.sql(f"select quantile_cont({where.measure}::double, {share!r}) from sound join {stage} using (id)")
        [(value,)] = row.fetchall()
        return value


def together(con: duckdb.DuckDBPyConnection, rules: Sequence[Drop]) -> pa.Table:
    """What `rules`, one after the other, leave out: `VERDICT`, and the rule's name as `reason`.

    No threshold depends on what earlier ones left out, so one reading of the measures does for all.
    """
    limits = [[Drop.limit(con, where) for where in rule.where] for rule in rules]
    able = [k for k in range(len(rules)) if None not in limits[k]]  # else a percentile of what no clip has
    if not able:
        return _LEFT_OUT.empty_table()
    holds, values = "", ""
    for k in able:
        conditions = " and ".join(
            f"{where.measure}::double {'<' if where.above is None else '>'} '{limit!r}'::double"
            for where, limit in zip(rules[k].where, limits[k], strict=True)
        )
        holds += f" when {conditions} then {k}"
        values += f" when {k} then {rules[k].where[0].measure}::double"
    stages = dict.fromkeys(measure.split(".")[0] for k in able for measure in rules[k].measures)
    found = con.sql(
        f'select id, case{holds} end as "which rule", case "which rule"{values} end as value from left_over '
        f'{" ".join(f"left join {stage} using (id)" for stage in stages)} where not chosen and "which rule" is not null'
    ).to_arrow_table()
    which = found["which rule"]
    metrics, thresholds = [rule.where[0].measure for rule in rules], [limit[0] for limit in limits]
    return pa.table(
        [found["id"], pa.nulls(len(found), pa.string()), pa.array(metrics).take(which), found["value"],
         pa.array(thresholds, pa.float64()).take(which), pa.array([rule.name for rule in rules]).take(which)],
        schema=_LEFT_OUT,
    )  # fmt: skip


@dataclass(frozen=True)
class Curation:
    """How sources become clips: the configuration of `curate`.

    Args:
        stages: what is measured of every clip.
        cut: the stage that says where a file is cut into clips, such as `Shots`; None: a file is a clip.
        derived: what is derived from that, and from what is said of clips; a later one may read an earlier one's.
        rules: applied in this order; the first that leaves a clip out is its reason.
        caption: where a clip's caption is taken from: the first of these that holds words, such as ("caption",
            "vlm.caption"). What a person gave as its caption comes before all of them.
        balance: how often each clip that is left is drawn in training; several multiply.
        inline_bytes: files of at most this size are kept inside the catalogue; larger ones stay where they are.
        test_share: of the clips without a split, those that are held back.
        limits: what one file may cost.
    """

    stages: tuple[Stage, ...] = ()
    cut: Stage | None = None
    derived: tuple[Derived, ...] = ()
    rules: tuple[Rule, ...] = ()
    caption: tuple[str, ...] = ("caption",)
    balance: tuple[Balance, ...] = ()
    inline_bytes: int = 2 << 20
    test_share: float = 0.1
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for stages in (self.stages, (self.cut,) if self.cut else ()):
            _are("stage", stages, ("name", "version", "columns", "__call__"))
        _are("derived stage", self.derived, ("name", "version", "columns", "reads", "prepare"))
        _are("rule", self.rules, ("name", "measures", "verdicts"))
        _are("balance", self.balance, ("reads", "weights"))
        _distinct("rules", [rule.name for rule in self.rules])
        _distinct("stages", [stage.name for stage in self.measured])
        for stage in self.measured:
            taken = {stage.name: RESERVED} | {
                column: {"id", "error", "words", "nth", "copy"} for column in stage.columns
            }
            for word, others in taken.items():
                if not word.isidentifier() or word in others:
                    raise UserError(f"a stage or a column of one cannot be called '{word}': it is a word of curation")
        if self.cut and not {"starts", "ends", "seconds"} <= set(self.cut.columns):
            raise UserError(f"the stage {self.cut.name} cannot cut: it gives no starts, ends and seconds")
        known = {f"{s.name}.{column}" for s in self.looking for column in s.columns}
        for derived in self.derived:
            for read in derived.reads:
                _known(f"the stage {derived.name} reads", read, known if "." in read else OBSERVATION.names)
            known |= {f"{derived.name}.{column}" for column in derived.columns}
        known |= {*CLIP_MEASURES}
        for balance in self.balance:
            for read in balance.reads:
                _known(f"{type(balance).__name__} reads", read, known if "." in read else OBSERVATION.names)
        columns = dict(CLIP_MEASURES)
        columns |= {f"{stage.name}.{c}": kind for stage in self.measured for c, kind in stage.columns.items()}
        for name in self.caption:
            _known("a caption is to come from", name, known if "." in name else OBSERVATION.names)
            if columns.get(name) is not str and not ("." not in name and OBSERVATION.field(name).type == pa.string()):
                raise UserError(f"a caption is to come from {name}, which holds no text")
        for rule in self.rules:
            for measure in rule.measures:
                _known(f"rule '{rule.name}' asks for", measure, known)
                if isinstance(rule, Drop) and columns[measure] not in (float, int, bool):
                    raise UserError(f"rule '{rule.name}' compares {measure}, which is no number")

    @property
    def looking(self) -> tuple[Stage, ...]:
        """The stages that look at media, the one that cuts among them."""
        return (*((self.cut,) if self.cut and self.cut not in self.stages else ()), *self.stages)

    @property
    def measured(self) -> tuple[Stage | Derived, ...]:
        """All stages, in their order."""
        return (*self.looking, *self.derived)

    def text(self) -> str:
        """Everything it is made of, as sorted `path: value` lines."""
        return to_text(self)

    @property
    def fingerprint(self) -> str:
        """The hash of what decides: stages and rules."""
        versions = [f"{stage.name} {stage.version}" for stage in self.measured]
        return hash_bytes((to_text(self, compared=True) + " ".join(versions)).encode(), 8)


def _are(what: str, given: Any, parts: tuple[str, ...]) -> None:
    """Raise `UserError` unless each of `given` is a `what`, which has these parts."""
    if not isinstance(given, tuple | list):
        raise UserError(f"a curation needs a tuple of {what}s, as ({type(given).__name__}(...),) with its comma")
    for one in given:
        if isinstance(one, type):
            raise UserError(f"{one.__name__} is a class: write {one.__name__}(), with its settings")
        if lacking := [part for part in parts if not hasattr(one, part)]:
            hint = f": write Drop('its reason', ({type(one).__name__}(...),))" if isinstance(one, Where) else ""
            raise UserError(f"{one!r} is no {what}, for want of {', '.join(lacking)}{hint}")


def _distinct(what: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise UserError(f"two {what} have one name: {', '.join(names)}")


def _known(who: str, measure: str, known: Collection[str]) -> None:
    if measure not in known:
        close = difflib.get_close_matches(measure, known, n=1)
        nearest = difflib.get_close_matches(measure, known, n=NEAREST, cutoff=0.0)
        hint = f"did you mean {close[0]}?" if close else f"the nearest are {', '.join(nearest)}"
        raise UserError(f"{who} {measure}, which no stage before it measures; {hint}")

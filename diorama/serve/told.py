"""What a curation's report shows of words: captions, licences and the like, and people's judgements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from diorama.data.ledger import JUDGEMENT, connect
from diorama.serve import curation_plots as plots
from diorama.serve.funnel import Applied
from diorama.serve.items import Filter
from diorama.serve.opened import Items, Number

WORDS, REPEATED, VALUES = 30, 12, 15
EXAMPLES = 12  # pictures beside their captions
# Words that hold sentences together, which every set of English captions has most of.
SMALL = [
    "a", "an", "the", "of", "in", "on", "at", "to", "and", "or", "with", "is", "are", "be", "by", "for", "from",
    "it", "its", "this", "that", "as", "into", "up", "out", "over", "under", "his", "her", "their", "there",
    "while", "near", "next",
]  # fmt: skip
_LENGTHS = [(1, "1 to 3"), (4, "4 to 7"), (8, "8 to 15"), (16, "16 to 31"), (32, "32 to 63"), (64, "64 to 127"),
            (128, "128 and more")]  # fmt: skip
_CAPTION = "verdict = 'keep' and caption is not null"
_SPLIT = r"string_split_regex(lower(caption), '[^\p{L}\p{N}]+')"
_LENGTH = rf"len(list_filter({_SPLIT}, lambda w: w <> ''))"


@dataclass(frozen=True)
class Captions:
    """Captions of kept clips: how many have one, how long they are, which words and sentences are common."""

    kept: int
    given: Number
    lacking: Number
    distinct: int
    lengths: Markup | None
    words: list[tuple[str, Number]]
    repeated: list[tuple[str, Number]]
    examples: Number


def captions(items: Items) -> Captions:
    """Of the clips kept."""
    kept = items.one("select count(*) from shown where verdict = 'keep'")
    given = items.where(_CAPTION, note="caption")
    blank = Number(0)
    if not given.count:
        return Captions(kept, given, items.where("verdict = 'keep' and caption is null"), 0, None, [], [], blank)
    counts = [items.one(f"select count(*) from shown where {_CAPTION} and {_LENGTH} >= ? and {_LENGTH} < ?",
                        [low, _LENGTHS[k + 1][0] if k + 1 < len(_LENGTHS) else 1 << 30])
              for k, (low, _) in enumerate(_LENGTHS)]  # fmt: skip
    words = items.con.execute(
        f"select word, count(*) from (select n, unnest(list_distinct({_SPLIT})) as word from shown where {_CAPTION}) "
        "where word <> '' and not list_contains(?, word) group by word order by 2 desc, 1 limit ?", [SMALL, WORDS]
    ).fetchall()  # fmt: skip
    repeated = items.con.execute(f"select caption from shown where {_CAPTION} group by caption having count(*) > 1 "
                                 "order by count(*) desc, caption limit ?", [REPEATED]).fetchall()  # fmt: skip
    examples = items.sheet(f"from shown where {_CAPTION} order by hash(n) limit {EXAMPLES}", note="caption")
    return Captions(
        kept, given, items.where("verdict = 'keep' and caption is null"),
        items.one(f"select count(distinct caption) from shown where {_CAPTION}"),
        plots.bars([name for _, name in _LENGTHS], counts, "words in the caption"),
        [(w, items.where(f"{_CAPTION} and list_contains({_SPLIT}, ?)", [w], note="caption", pictures=4))
         for w, _ in words],
        [(c, items.where(f"{_CAPTION} and caption = ?", [c], pictures=4)) for (c,) in repeated],
        Number(len(examples), (("", examples),)),
    )  # fmt: skip


@dataclass(frozen=True)
class Told:
    """A column of what sidecars say of kept clips: its commonest values, how many others, and how many lack one."""

    name: str
    values: list[tuple[str, Number]]
    others: int
    unknown: Number


def provenance(items: Items) -> list[Told]:
    """Licences, authors, terms, and the hosts that kept clips came from."""
    said = items.catalogue.ask("select id, terms from clips where terms is not null")
    items.con.register("given", said)
    items.con.execute("create or replace temp table bound as select * from given")
    items.con.unregister("given")
    columns = [
        ("licence", "licence", "licence"), ("author", "author", "author"),
        ("terms", "(select any_value(terms) from bound where bound.id = shown.id)", None),
        ("host of the origin", r"coalesce(nullif(regexp_extract(origin, '^\w+://([^/:]+)', 1), ''), origin)", None),
    ]  # fmt: skip
    return [_told(items, *column) for column in columns]


def _told(items: Items, name: str, value: str, column: str | None) -> Told:
    known = f"from (select {value} as v from shown where verdict = 'keep') where v is not null"
    rows = items.con.execute(f"select v {known} group by v order by count(*) desc, v limit {VALUES}").fetchall()
    different = items.one(f"select count(distinct v) {known}")

    def number(v: str | None) -> Number:
        if column:
            return items.asked(Filter("keep", column=column, equals=v))
        holds, given = (f"({value}) = ?", [v]) if v is not None else (f"({value}) is null", [])
        return items.where(f"verdict = 'keep' and {holds}", given)

    return Told(name, [(v, number(v)) for (v,) in rows], different - len(rows), number(None))


@dataclass(frozen=True)
class People:
    """Who judged what, and how often each rule was overruled: (rule, left out, people said keep, people said drop)."""

    persons: list[tuple[str, str, int, Number]]
    overruled: list[tuple[str, Number, Number, Number]]
    missed: Number


def people(items: Items, rules: Sequence[Applied]) -> People:
    """Judgements as people left them; a later one of the same clip replaces an earlier one, in `overruled` only."""
    con = connect({"judgements": (items.catalogue.path / "judgements", JUDGEMENT)})
    given = con.sql("select id, coalesce(person, 'unknown') as person, verdict from judgements")
    items.con.register("given", given.to_arrow_table())
    items.con.execute("create or replace temp table spoken as select * from given")
    items.con.unregister("given")
    rows = items.con.execute(
        "select person, verdict, count(*) from spoken group by all order by 1, 3 desc, 2"
    ).fetchall()
    persons = [(person, verdict, count, items.where("id in (select id from spoken where person = ? and verdict = ?)",
                                                    [person, verdict], note="verdict || ': ' || reason"))
               for person, verdict, count in rows]  # fmt: skip

    def said(rule: str, verdict: str | None) -> Number:
        asked, given = "rule_verdict = 'drop' and rule = ?", list[Any]([rule])
        if verdict:
            asked, given = f"{asked} and judged = ?", [rule, verdict]
        return items.where(asked, given)

    overruled = [(r.name, said(r.name, None), said(r.name, "keep"), said(r.name, "drop")) for r in rules]
    missed = items.where("rule_verdict = 'keep' and judged = 'drop'", note="reason")
    return People(persons, overruled, missed)

"""What a curation's policy says, read back from its text, and where its items went: from all that was seen to what is
kept, step by step, in the order in which curation decides."""

import ast
import re
from dataclasses import dataclass
from itertools import groupby

from diorama.serve.items import Filter
from diorama.serve.opened import COPIES, CUT, Items, Number

EDGE = 8  # pictures on either side of a threshold
REASONS = 50  # for which files were unreadable, that are listed


@dataclass(frozen=True)
class Condition:
    """A measure that lies below or above (`sign`) a `limit`; null for a percentile, of which `words` tell."""

    measure: str
    sign: str
    limit: float | None
    words: str


@dataclass(frozen=True)
class Applied:
    """A rule as its policy's text has it."""

    name: str
    kind: str
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Step:
    """A step of the funnel: what it did to the items, how many it took `out`, and how many are `left` after it.

    edge: what lies nearest to the threshold on either side, to be looked at. came: clips that it added. whole: those
    left, where a step can name them.
    """

    name: str
    what: str
    out: Number
    left: int
    came: int = 0
    metric: str = ""
    threshold: float | None = None
    edge: Number | None = None
    whole: Number | None = None


def applied(policy: str) -> list[Applied]:
    """The rules of a policy's text (`Curation.text`), in their order."""
    lines = dict(line.split(": ", 1) for line in policy.splitlines() if ": " in line)
    rules = sorted((int(m[1]), kind) for key, kind in lines.items() if (m := re.fullmatch(r"rules\.(\d+)", key)))
    found = []
    for i, kind in rules:
        conditions, k = [], 0
        while f"rules.{i}.where.{k}.measure" in lines:
            conditions.append(_condition(lines, f"rules.{i}.where.{k}."))
            k += 1
        name = ast.literal_eval(lines[f"rules.{i}.name"]) if f"rules.{i}.name" in lines else kind
        found.append(Applied(name, kind, tuple(conditions)))
    return found


def _condition(lines: dict[str, str], path: str) -> Condition:
    measure = ast.literal_eval(lines[path + "measure"])
    side, sign = ("below", "<") if lines[path + "below"] != "None" else ("above", ">")
    limit = lines[path + side]
    if limit == "Percentile":
        return Condition(measure, sign, None, f"{measure} {sign} percentile {lines[f'{path}{side}.percent']}")
    return Condition(measure, sign, float(limit), f"{measure} {sign} {float(limit):g}")


def funnel(items: Items, rules: list[Applied]) -> list[Step]:
    """The steps, from all files that were seen to the clips kept."""
    files = items.where("asset is null")
    steps = [Step("seen", "files, or rows of tables, that the sources hold", Number(0), files.count, whole=files)]

    def take(name: str, what: str, out: Number, came: int = 0, **more: object) -> None:
        steps.append(Step(name, what, out, steps[-1].left - out.count + came, came, **more))  # type: ignore[arg-type]

    take("readable", "could be decoded within the limits", items.asked(Filter(column="kind"), note="error"))
    cut = items.asked(Filter(verdict="drop", reason=CUT), note="t || ' frames'")
    if cut.count:
        pieces = items.one("select count(*) from shown where asset is not null")
        take(CUT, "long files make way for the clips that they are cut into", cut, pieces)
    for reason, what in zip(COPIES, ("no two files are the same", "no two show exactly the same pixels"), strict=True):
        drop = Filter(verdict="drop", reason=reason)
        take(reason.removesuffix(" as another clip").replace("same", "distinct"), what, items.asked(drop))
    people = items.where("verdict = 'drop' and actor <> 'rule' and error is null", note="actor || ': ' || reason")
    if people.count:
        take("people", "someone said drop", people)
    for rule in rules:
        steps.append(_ruled(items, rule, steps[-1].left))
    known = [*COPIES, CUT, *(rule.name for rule in rules)]
    others = items.con.execute(
        "select reason from shown where verdict = 'drop' and actor = 'rule' and error is null "
        "and not list_contains(?, reason) group by reason order by count(*) desc, reason", [known]
    ).fetchall()  # fmt: skip
    for (reason,) in others:
        take(reason, "a rule that the policy does not name", items.asked(Filter("drop", reason)))
    kept = items.asked(Filter("keep"))
    return [*steps, Step("kept", "what trains", Number(0), kept.count, whole=kept)]


_OUT = "verdict = 'drop' and reason = ? and actor = 'rule' and error is null"
_MEASURE = "round(value, 3)"


def _ruled(items: Items, rule: Applied, before: int) -> Step:
    """A rule's step, with what lies nearest to its threshold: left out on one side, kept on the other."""
    out = items.asked(Filter(verdict="drop", reason=rule.name), note=f"metric || ' ' || {_MEASURE}")
    [seen] = items.rows("select any_value(metric) as metric, any_value(threshold) as threshold "
                        f"from shown where {_OUT}", [rule.name])  # fmt: skip
    first = rule.conditions[0] if rule.conditions else None
    metric = seen["metric"] or (first.measure if first else "")
    threshold = seen["threshold"] if seen["threshold"] is not None else first.limit if first else None
    edge = None
    if threshold is not None and metric:
        near = items.sheet(f"from shown where {_OUT} order by abs(value - ?), n limit {EDGE}", [rule.name, threshold],
                           f"metric || ' ' || {_MEASURE}")  # fmt: skip
        sheets = [(f"left out, nearest to {threshold:g}", near)]
        if first and metric in items.measures:
            value, stays = f'"{metric}"::double', ">=" if first.sign == "<" else "<="
            sheets.append((f"kept, nearest to {threshold:g}", items.sheet(
                f"from shown where verdict = 'keep' and {value} {stays} ? order by abs({value} - ?), n limit {EDGE}",
                [threshold, threshold], f"'{metric} ' || round({value}, 3)")))  # fmt: skip
        edge = Number(sum(len(sheet) for _, sheet in sheets), tuple(s for s in sheets if s[1]))
    words = " and ".join(c.words for c in rule.conditions) or (f"{rule.kind}, by {metric}" if metric else rule.kind)
    return Step(rule.name, words, out, before - out.count, 0, metric, threshold, edge)


def unreadable(items: Items) -> list[tuple[str, Number]]:
    """Files that could not be read, by reason, the commonest first; the last one holds all beyond `REASONS`."""
    found = items.con.execute(
        "select reason from shown where error is not null group by reason "
        f"order by count(*) desc, reason limit {REASONS}"
    ).fetchall()
    reasons = [reason for (reason,) in found]
    rows = [(reason, items.asked(Filter(verdict="drop", reason=reason))) for reason in reasons]
    others = items.where("error is not null and not list_contains(?, reason)", [reasons], note="error")
    return [*rows, ("other reasons", others)] if others.count else rows


def lines(rules: list[Applied], steps: list[Step]) -> dict[str, list[tuple[float, str]]]:
    """Thresholds by measure, each with the name of its rule."""
    taken = {step.name: (step.metric, step.threshold) for step in steps if step.metric}
    found = [(c.measure, c.limit, rule.name) for rule in rules for c in rule.conditions]
    found += [(metric, limit, name) for name, (metric, limit) in taken.items()]
    rows = sorted({(m, limit, name) for m, limit, name in found if limit is not None})
    return {m: [(limit, name) for _, limit, name in group] for m, group in groupby(rows, key=lambda row: row[0])}

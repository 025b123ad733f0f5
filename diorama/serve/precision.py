"""How often people agree with each rule, from a random sample that they judge without being told its verdict.

A sample draws from every rule alike, and from what is kept, in the order of a hash of the clip's id: what was judged
before stays part of it, and a larger sample holds the smaller. Intervals are Wilson's (1927) at 95 %.
"""

import math
from typing import Any

import duckdb

KEPT = 1 / 3  # of a sample, the share drawn from what is kept
LEVEL = 1.959964  # standard deviations: 95 %

# A rule's verdict on a clip is its last one, though people overruled it since. What is certain is not asked: copies by
# bytes or pixels, and files that became clips.
_STRATA = """
create view stratum as select n, id, case rule_verdict when 'drop' then rule end as rule, judged, sampled
from shown where error is null and id is not null and not (rule_verdict = 'drop'
  and rule in ('same bytes as another clip', 'same pixels as another clip', 'cut into clips'))
"""


def wilson(agreed: int, judged: int) -> tuple[float, float]:
    """The 95 % interval of a share of which `agreed` of `judged` were seen (Wilson 1927, equation 7); (0, 1) of none.

    >>> tuple(round(end, 3) for end in wilson(9, 10))
    (0.596, 0.982)
    """
    if not judged:
        return 0.0, 1.0
    share, square = agreed / judged, LEVEL**2
    middle = (share + square / (2 * judged)) / (1 + square / judged)
    half = LEVEL / (1 + square / judged) * math.sqrt(share * (1 - share) / judged + square / (4 * judged**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Make the view `stratum`: clips by the rule that left them out, null for what is kept."""
    con.execute(_STRATA)


def sample(con: duckdb.DuckDBPyConnection, size: int) -> list[int]:
    """Numbers of up to `size` items that were not judged yet, a third of them kept, the others evenly from the rules,
    in an order that tells nothing."""
    rows = con.execute("""
        select coalesce(rule, '') as rule, list(n order by md5(id || 'sample')) from
          (select rule, id, min(n) as n from stratum
            where not coalesce(sampled and judged <> 'undo', false) group by all)
        group by rule
    """).fetchall()
    strata = {rule: numbers for rule, numbers in rows}
    quota = _quotas({rule: len(numbers) for rule, numbers in strata.items()}, size)
    chosen = [n for rule, count in quota.items() for n in strata[rule][:count]]
    order = con.execute("select n from unnest(?::int[]) as t(n) order by hash(n)", [chosen])
    return [n for (n,) in order.fetchall()]


def estimates(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """What the judgements of random samples say so far.

    rules: for each its clips, how many were `judged` and how many people would drop too (`agreed`), the `precision`
    (null before any) and its interval `low` to `high`. kept: likewise, the share of kept clips that people would drop
    (`missed`). recall: of all that people would drop, the estimated share that the rules did, or null.
    """
    rows = con.execute("""
        select rule, count(distinct id) as clips,
          count(distinct id) filter (sampled and judged in ('keep', 'drop')) as judged,
          count(distinct id) filter (sampled and judged = 'drop') as dropped
        from stratum group by rule order by clips desc, rule
    """).fetchall()
    rules: list[dict[str, Any]] = []
    kept: dict[str, Any] = {"clips": 0, "judged": 0, "dropped": 0, "missed": None, "low": 0.0, "high": 1.0}
    for rule, clips, judged, dropped in rows:
        low, high = wilson(dropped, judged)
        share = dropped / judged if judged else None
        if rule is None:
            kept = {"clips": clips, "judged": judged, "dropped": dropped, "missed": share, "low": low, "high": high}
        else:
            rules.append({"rule": rule, "clips": clips, "judged": judged, "agreed": dropped, "precision": share,
                          "low": low, "high": high})  # fmt: skip
    recall = None
    if kept["missed"] is not None and all(rule["precision"] is not None for rule in rules):
        found = sum(rule["clips"] * rule["precision"] for rule in rules)
        wanted = found + kept["clips"] * kept["missed"]
        recall = found / wanted if wanted else None
    return {"rules": rules, "kept": kept, "recall": recall}


def _quotas(sizes: dict[str, int], size: int) -> dict[str, int]:
    """How many to draw of each stratum ('' is what is kept): what a small one lacks, the others give."""
    quota = {"": min(sizes.get("", 0), round(size * KEPT))} if "" in sizes else {}
    rules = sorted((name for name in sizes if name), key=lambda name: (sizes[name], name))
    left = size - sum(quota.values())
    for k, name in enumerate(rules):
        quota[name] = min(sizes[name], left // (len(rules) - k))
        left -= quota[name]
    if "" in quota:
        quota[""] += min(left, sizes[""] - quota[""])
    return quota

"""What a compiled program sends between devices, read from its text (XLA's HLO).

A collective in the body of a loop runs as often as the loop turns, which XLA writes beside it (`known_trip_count`); one
whose length is not known is counted once. Of the branches of a conditional all are counted.

Bytes are what one device sends, by the ring algorithms that collective libraries use on large arrays, of g members:

    all-gather      (g - 1) / g of the result           all-reduce          2 (g - 1) / g of the result
    reduce-scatter  (g - 1) times the result            all-to-all          (g - 1) / g of the result
    collective-permute, collective-broadcast            the result

XLA's CPU compiler adds up 16-bit numbers in 32 bits (in computations that it names `..._promoted`), which accelerators
do not; there half is counted. Nor does it make reduce-scatters: an all-reduce of which each device keeps its part stays
one, and sends up to twice of what it would elsewhere.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from math import prod

import numpy as np

_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)[a-z0-9]*)\[([\d,]*)\]")
_KINDS = "all-gather|all-reduce|reduce-scatter|all-to-all|ragged-all-to-all|collective-permute|collective-broadcast"
_COLLECTIVE = re.compile(rf" = (.+?) ({_KINDS})(-start)?\(")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) .*\{$")
_CALLED = re.compile(r"(body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{\{([\d,{} ]+)\}\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}")
_AXIS = re.compile(r"'([^']+)'(?:=(\d+)|:\((\d+)\)(\d+))?")


@dataclass(frozen=True)
class Collective:
    """One kind of exchange, of all instructions together.

    Args:
        kind: as XLA calls it, such as "all-gather".
        across: whether members of one group lie on several nodes.
        count: how often it runs.
        bytes: that one device sends in all of them.
    """

    kind: str
    across: bool
    count: int
    bytes: int


def collectives(text: str, devices: int, node: int) -> list[Collective]:
    """All that `text`, a program compiled for `devices`, exchanges in one run, by kind; `node` devices form a node.

    Devices are numbered node after node. An exchange among groups of one device is none.
    """
    computations, entry = _computations(text)
    turns = _turns(computations, entry)
    found: dict[tuple[str, bool], list[int]] = defaultdict(lambda: [0, 0])
    for name, lines in computations.items():
        for line in lines:
            match = _COLLECTIVE.search(line)
            if match is None or not turns[name]:
                continue
            groups = _groups(line, devices)
            if groups.size == 0 or groups.shape[1] < 2:
                continue
            across = bool((groups // node != groups[:, :1] // node).any())
            sums = found[match[2], across]
            sums[0] += turns[name]
            sums[1] += turns[name] * _sent(match[2], _arrays(match[1], bool(match[3])), groups.shape[1], line)
    return [Collective(*key, *sums) for key, sums in sorted(found.items())]


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The instructions of every computation by its name, and which of them the program begins with."""
    found: dict[str, list[str]] = {}
    here, entry = "", ""
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        head = _HEAD.match(line)
        if head and "->" in line:
            here, entry = head[2], head[2] if head[1] else entry
            found[here] = []
        elif here:
            found[here].append(line)
    return found, entry


def _turns(computations: dict[str, list[str]], entry: str) -> dict[str, int]:
    """How often each computation runs, the entry once."""
    calls: dict[str, list[tuple[str, int]]] = defaultdict(list)  # of a computation: whom, and how often
    for name, lines in computations.items():
        for line in lines:
            known = _TURNS.search(line)
            for role, called in _CALLED.findall(line):
                calls[name].append((called, int(known[1]) if known and role == "body" else 1))
            for branches in _BRANCHES.findall(line):
                calls[name] += [(called.strip(" %"), 1) for called in branches.split(",")]
    turns = dict.fromkeys(computations, 0)

    def run(name: str, times: int) -> None:
        turns[name] += times
        for called, each in calls[name]:
            run(called, times * each)

    run(entry, 1)
    return turns


def _arrays(kind: str, begun: bool) -> list[int]:
    """Bytes of each array of an instruction's result. What begins an asynchronous one returns its operands too."""
    sizes = [
        prod(int(n) for n in shape.split(",") if n) * int(bits or 8) // 8  # a pred takes a byte
        for _, bits, shape in _ARRAY.findall(kind)
        if not (begun and shape == "")  # a permutation's contexts
    ]
    return sizes[len(sizes) // 2 :] if begun and len(sizes) > 1 else sizes


def _sent(kind: str, arrays: list[int], members: int, line: str) -> int:
    """Bytes that one device sends in one run of an instruction."""
    size = sum(arrays) // (2 if "promoted," in line else 1)
    match kind:
        case "all-reduce":
            return 2 * size * (members - 1) // members
        case "reduce-scatter":
            return size * (members - 1)
        case "collective-permute" | "collective-broadcast":
            return size
    return size * (members - 1) // members


def _groups(line: str, devices: int) -> np.ndarray:
    """Who exchanges with whom: device numbers (groups, members), in any of the three ways in which XLA writes them."""
    if match := _LISTED.search(line):
        rows = np.array([[int(n) for n in row.split(",")] for row in match[1].split("},{")])
        return rows[rows[:, 0] != rows[:, 1]] if "source_target_pairs" in match[0] else rows
    if match := _IOTA.search(line):
        return _iota(match[2], match[3]).reshape(_numbers(match[1]))
    if match := _MESH.search(line):
        names, sizes = zip(*((axis[0], int(axis[1])) for axis in _AXIS.findall(match[1])), strict=True)
        ids = _iota(match[2], match[3]) if match[2] else np.arange(devices)
        rest, members = np.indices(sizes).reshape(len(sizes), -1), 1
        for name, _, before, part in _AXIS.findall(match[4]):  # 'x' is a whole axis, 'x':(2)4 the 4 below its first 2
            axis = names.index(name)
            size = int(part or sizes[axis])
            after = sizes[axis] // (int(before or 1) * size)
            rest[axis] -= rest[axis] // after % size * after
            members *= size
        return ids[np.lexsort(rest)].reshape(-1, members)
    return np.arange(devices)[None]  # nothing is said: all


def _iota(dims: str, order: str) -> np.ndarray:
    """0, 1, ... in the shape `dims`, its axes put in `order`, in a row."""
    numbers = np.arange(prod(_numbers(dims))).reshape(_numbers(dims))
    return (numbers.transpose(_numbers(order)) if order else numbers).reshape(-1)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(","))

"""Engines that fail: a batch that is lost is run again, and a row that ends its process costs itself alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diorama.data.runners.runner import Advance, FunctionError, patiently


class Double:
    """Twice each number."""

    @contextmanager
    def open(self, workers: int) -> Iterator[Callable[[pa.Table, Advance], pa.Table]]:
        yield lambda batch, advance: pa.table({"y": [2 * x for x in batch["x"].to_pylist()]}, schema=SEEN)

    def failed(self, batch: pa.Table, reason: str) -> pa.Table:
        return pa.table({"y": [-1] * len(batch)}, schema=SEEN)


SEEN = pa.schema([("y", pa.int64())])


def batches(sizes: list[int]) -> list[pa.Table]:
    """Tables of 0, 1, 2, ... in batches."""
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return [pa.table({"x": pa.array(range(s, s + n), pa.int64())}) for s, n in zip(starts, sizes, strict=True)]


class Engine:
    """Does batches in order, `lanes` at a time; all are lost when `poison` is among them, or at call `fails`."""

    def __init__(self, poison: frozenset[int] = frozenset(), fails: frozenset[int] = frozenset()) -> None:
        self.poison, self.fails, self.calls, self.most = poison, fails, 0, 0

    def __call__(self, batches: list[pa.Table], lanes: int) -> Iterator[tuple[int, pa.Table]]:
        self.calls += 1
        with Double().open(1) as function:
            for first in range(0, len(batches), lanes):
                under_way = batches[first : first + lanes]
                if self.calls in self.fails or any(self.poison & {*b["x"].to_pylist()} for b in under_way):
                    raise OSError("a process is gone")
                for k, batch in reversed([*enumerate(under_way)]):
                    yield first + k, function(batch, lambda n: None)


def run(engine: Engine, sizes: list[int], lanes: int) -> tuple[list[int], int]:
    """The results in the order of their rows, and how many were reported as done."""
    told: list[int] = []
    results = dict(patiently(engine, Double(), batches(sizes), lanes, told.append))
    assert sorted(results) == list(range(len(sizes)))
    assert [len(results[k]) for k in range(len(sizes))] == sizes
    return [y for k in range(len(sizes)) for y in results[k]["y"].to_pylist()], sum(told)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 3), st.data())
def test_poison_costs_itself_alone(sizes, lanes, data):
    total = sum(sizes)
    poison = data.draw(st.frozensets(st.integers(0, total - 1), max_size=3))
    engine = Engine(poison)
    values, told = run(engine, sizes, lanes)
    assert values == [-1 if x in poison else 2 * x for x in range(total)]
    assert told == total


def test_nothing_fails_is_one_call():
    engine = Engine()
    assert run(engine, [3, 3, 1], 2)[0] == list(range(0, 14, 2))
    assert engine.calls == 1


def test_what_was_lost_by_accident_is_run_again():
    engine = Engine(fails=frozenset([1]))
    assert run(engine, [2, 2, 2], 2) == ([0, 2, 4, 6, 8, 10], 6)
    assert engine.calls == 2


def test_an_engine_that_runs_nothing_blames_no_row():
    with pytest.raises(OSError, match="a process is gone"):
        run(Engine(fails=frozenset(range(100))), [4, 4], 2)


def test_a_mistake_of_the_function_is_raised_at_once():
    calls = []

    def engine(batches, lanes):
        calls.append(len(batches))
        raise FunctionError("NameError")
        yield

    with pytest.raises(FunctionError, match="NameError"):
        list(patiently(engine, Double(), batches([2, 2]), 2, lambda n: None))
    assert calls == [2]


def test_batches_that_an_engine_forgets_are_asked_for_again():
    def engine(batches, lanes):
        with Double().open(1) as function:
            yield 0, function(batches[0], lambda n: None)

    results = dict(patiently(engine, Double(), batches([1, 1, 1]), 1, lambda n: None))
    assert sorted(results) == [0, 1, 2]

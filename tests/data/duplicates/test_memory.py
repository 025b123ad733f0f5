"""What is kept from one decision to the next changes no result, whatever of it is there."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from benchmarks.planted.copies import decode, plant
from benchmarks.planted.originals import synthetic
from diorama.core.errors import UserError
from diorama.data.duplicates import NearDuplicates, candidates, verified
from diorama.data.duplicates.groups import Found, find, near_duplicates
from diorama.data.duplicates.memory import Memory
from diorama.data.stages.hashes import signature
from diorama.media import Media

Signature = tuple[np.ndarray, np.ndarray]


class Clips:
    """Clips with signatures and ranks; counts whose signatures are asked for."""

    def __init__(self, signatures: dict[str, Signature]) -> None:
        self.signatures = signatures
        self.read: dict[str, Counter[str]] = {"hashes": Counter(), "thumbnails": Counter()}
        self.fail_after = 10**9  # of the questions for thumbnails

    def __call__(self, asked: pa.Array, column: str) -> pa.Table:
        there = [i for i in asked.to_pylist() if i in self.signatures][::-1]
        self.read[column].update(there)
        if column == "thumbnails":
            self.fail_after -= 1
            if self.fail_after < 0:
                raise InterruptedError
        place = ("hashes", "thumbnails").index(column)
        return pa.table({"id": there, column: [self.signatures[i][place].tobytes() for i in there]})

    def find(self, ids: list[str], memory: Memory, ranking: int = 5) -> Found:
        rank = np.array([[hash_of(i) % ranking, hash_of(i) % 3] for i in ids]).reshape(-1, 2)
        found = find(pa.array(ids, pa.string()), rank, self, memory, mirrored=True, distance=10)
        assert found.skipped == 0
        return found


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode()) * 2654435761 >> 7


def pictures() -> dict[str, Signature]:
    originals = [synthetic(np.random.default_rng([8, k]), size=96) for k in range(9)]
    files = [file for k in range(3) for file in plant(originals, np.random.default_rng(k), k)]
    return {f"{hash_of(str(k)):030x}": signature(Media(decode(f.data)[None])) for k, f in enumerate(files)}


def films() -> dict[str, Signature]:
    """Pans over pictures, some of them cut, some backwards."""
    clips = {}
    for k in range(4):
        scene = synthetic(np.random.default_rng([9, k]), size=200)
        frames = np.stack([scene[20:116, x : x + 96] for x in range(0, 96, 8)])
        for name, some in {"all": frames, "end": frames[3:], "start": frames[:9], "back": frames[::-1]}.items():
            clips[f"film {k} {name}"] = signature(Media(np.ascontiguousarray(some), 1.0))
        clips[f"still {k}"] = signature(Media(frames[:1]))
    return clips


@pytest.fixture(scope="module")
def signatures() -> dict[str, Signature]:
    flat = signature(Media(np.zeros((1, 32, 32, 3), np.uint8)))
    return {**pictures(), **films(), "flat": flat, "flat too": flat}


@pytest.fixture(scope="module")
def truth(signatures: dict[str, Signature]) -> Found:
    found = Clips(signatures).find(list(signatures), Memory(None))
    assert len(found.duplicates) > 30
    return found


def test_kept_or_not_the_same_is_found(tmp_path: Path, signatures: dict[str, Signature], truth: Found) -> None:
    ids = list(signatures)
    clips = Clips(signatures)
    assert clips.find(ids, Memory(tmp_path)) == truth
    read = clips.read["thumbnails"].total()
    assert clips.find(ids[::-1], Memory(tmp_path)) == truth
    assert clips.read["thumbnails"].total() == read
    assert clips.read["hashes"].total() <= len(ids) + 2 * read
    for file in tmp_path.rglob("*.parquet"):
        file.unlink()
        assert clips.find(ids, Memory(tmp_path)) == truth


@pytest.mark.parametrize("seed", range(3))
def test_clips_in_any_order_are_the_same_as_all_at_once(
    tmp_path: Path, signatures: dict[str, Signature], truth: Found, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.permutation(list(signatures)).tolist()
    clips = Clips(signatures)
    for _ in range(5):  # any clips, new ones and known ones, while some that are known are left out
        clips.find(rng.permutation(ids)[: rng.integers(len(ids))].tolist(), Memory(tmp_path))
        files = sorted(tmp_path.rglob("*.parquet"))
        if files and rng.random() < 0.5:
            files[rng.integers(len(files))].unlink()
    assert clips.find(ids, Memory(tmp_path)) == truth
    fewer = sorted(ids[: len(ids) // 2])
    assert clips.find(fewer, Memory(tmp_path)) == clips.find(fewer, Memory(None))


def test_what_was_found_holds_for_another_ranking(tmp_path: Path, signatures: dict[str, Signature]) -> None:
    ids = list(signatures)
    found = [Clips(signatures).find(ids, Memory(tmp_path), ranking) for ranking in (5, 7, 11)]
    assert found == [Clips(signatures).find(ids, Memory(None), ranking) for ranking in (5, 7, 11)]
    assert len({d.representative for some in found for d in some.duplicates}) > len(found[0].duplicates) / 2


def test_a_deleted_file_is_missed_by_no_clip_of_the_same_hashes(tmp_path: Path) -> None:
    picture = synthetic(np.random.default_rng(3), size=96)
    one, near = (signature(Media(x[None])) for x in (picture, np.ascontiguousarray(picture[4:, 4:])))
    assert not (one[0] == near[0]).all()
    clips = Clips({"first": one, "second": one, "near": near})
    clips.find(["near"], Memory(tmp_path))
    before = set((tmp_path / "clips").iterdir())
    clips.find(["near", "first"], Memory(tmp_path))
    (said_of_first,) = set((tmp_path / "clips").iterdir()) - before
    clips.find(["near", "first", "second"], Memory(tmp_path))
    said_of_first.unlink()
    found = clips.find(["near", "second"], Memory(tmp_path))
    assert len(found.duplicates) == 1
    assert found == clips.find(["near", "second"], Memory(None))


def test_a_signature_that_is_gone_is_named(tmp_path: Path, signatures: dict[str, Signature]) -> None:
    one = next(iter(signatures.values()))
    clips = Clips({"a": one, "b": one})
    candidates.candidates(pa.array(["a", "b"]), clips, Memory(tmp_path), mirrored=True, distance=10)
    del clips.signatures["b"]
    with pytest.raises(UserError, match=r"of clip b is gone.*delete cache/near"):
        clips.find(["a", "b"], Memory(tmp_path))


def test_known_clips_are_neither_read_nor_compared_again(tmp_path: Path, signatures: dict[str, Signature]) -> None:
    ids = list(signatures)
    clips = Clips(signatures)
    clips.find(ids[:-12], Memory(tmp_path))
    clips.read = {"hashes": Counter(), "thumbnails": Counter()}
    clips.find(ids, Memory(tmp_path))
    assert set(ids[-12:]) <= set(clips.read["hashes"])
    assert clips.read["hashes"].total() < len(ids)


def test_thumbnails_are_read_of_candidates_only(signatures: dict[str, Signature], truth: Found) -> None:
    clips = Clips(signatures)
    rng = np.random.default_rng(0)
    alone = {
        f"alone {k}": (rng.integers(0, 2**64, (1, 12), np.uint64), clips.signatures["flat"][1]) for k in range(500)
    }
    clips.signatures = {**signatures, **alone}
    assert clips.find(list(clips.signatures), Memory(None)) == truth
    copies = {d.id for d in truth.duplicates} | {d.representative for d in truth.duplicates}
    assert copies <= set(clips.read["thumbnails"])
    assert not {"flat", *alone} & set(clips.read["thumbnails"])


@pytest.mark.parametrize("questions", [0, 1, 3])
def test_a_run_that_is_killed_loses_its_last_batch_only(
    tmp_path: Path, signatures: dict[str, Signature], truth: Found, questions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified, "FRAMES", 60)
    clips = Clips(signatures)
    clips.fail_after = questions
    with pytest.raises(InterruptedError):
        clips.find(list(signatures), Memory(tmp_path))
    clips.fail_after = 10**9
    hashed = clips.read["hashes"].total()
    assert clips.find(list(signatures), Memory(tmp_path)) == truth
    assert clips.read["hashes"].total() - hashed < 2 * len(signatures)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_is_killed_as_it_writes(
    tmp_path: Path, signatures: dict[str, Signature], truth: Found, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add: Callable[[Memory, pa.Table], None] = Memory.add_clips

    def killed(memory: Memory, table: pa.Table) -> None:
        if when == "after":
            add(memory, table)
        raise InterruptedError

    ids = list(signatures)
    Clips(signatures).find(ids[:30], Memory(tmp_path))
    monkeypatch.setattr(Memory, "add_clips", killed)
    with pytest.raises(InterruptedError):
        Clips(signatures).find(ids[:50], Memory(tmp_path))
    monkeypatch.setattr(Memory, "add_clips", add)
    assert Clips(signatures).find(ids, Memory(tmp_path)) == truth


def test_thousands_of_equal_pictures_are_one_group(tmp_path: Path) -> None:
    """Of equal hashes 2,000 clips would be two million pairs."""
    one = signature(Media(synthetic(np.random.default_rng(4), size=96)[None]))
    ids = [f"{k:05d}" for k in range(2000)]
    clips = Clips(dict.fromkeys(ids, one))
    found = clips.find(ids, Memory(tmp_path))
    assert len(found.duplicates) == 1999
    assert len({d.representative for d in found.duplicates}) == 1
    assert len(Memory(tmp_path).outcomes()) == 1999
    clips.signatures["later"] = one
    clips.find([*ids[::-1], "later"], Memory(tmp_path))
    assert len(Memory(tmp_path).outcomes()) <= 2 * 2000
    assert clips.read["hashes"]["later"] <= 2


def connection(signatures: dict[str, Signature], cache: Path) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    rows = pa.table({
        "id": list(signatures), "error": pa.nulls(len(signatures), pa.string()),
        "frames": [len(hashes) for hashes, _ in signatures.values()],
        "hashes": [hashes.tobytes() for hashes, _ in signatures.values()],
        "thumbnails": [thumbnails.tobytes() for _, thumbnails in signatures.values()],
    })  # fmt: skip
    con.register("rows", rows)
    con.execute(
        "create table signature_all as from rows union all by name select 'failed' as id, 'no picture' as error"
    )
    con.execute("create table left_over as select id, 'at/' || id as location, id = 'copy' as chosen, null::varchar as "
                "split, null::varchar as caption, 96 as h, 96 as w, 1000 as bytes from signature_all")  # fmt: skip
    con.execute("create table alike (id varchar, other varchar)")
    con.execute("create table cache as select ? as folder", [str(cache)])
    return con


def test_rules_that_differ_share_nothing(tmp_path: Path) -> None:
    picture = synthetic(np.random.default_rng(3), size=128)
    flipped = signature(Media(np.ascontiguousarray(picture[:, ::-1])[None]))
    near = signature(Media(synthetic(np.random.default_rng(3), size=128)[None, 6:, 9:]))
    clips = {"first": signature(Media(picture[None])), "flipped": flipped, "near": near}
    rules = [NearDuplicates(), NearDuplicates(mirrored=False), NearDuplicates(distance=0), NearDuplicates(distance=4)]
    alone = [rule.verdicts(connection(clips, tmp_path / f"{k}")) for k, rule in enumerate(rules)]
    assert len({str(verdicts) for verdicts in alone}) > 2
    for _ in range(2):
        for rule, verdicts in zip(rules, alone, strict=True):
            assert rule.verdicts(connection(clips, tmp_path / "cache")).equals(verdicts)


def test_a_rule_names_what_it_keeps_and_spares_what_a_person_chose(tmp_path: Path) -> None:
    one = signature(Media(synthetic(np.random.default_rng(3), size=96)[None]))
    other = signature(Media(synthetic(np.random.default_rng(5), size=96)[None]))
    clips = {"a": one, "copy": one, "other": other, "z": one}
    for _ in range(2):
        con = connection(clips, tmp_path)
        rows = NearDuplicates().verdicts(con).to_pylist()
        assert [(row["id"], row["partner"], row["metric"]) for row in rows] == [
            ("a", "at/copy", "signature.score"), ("z", "at/copy", "signature.score")]  # fmt: skip
        assert all(row["value"] >= row["threshold"] for row in rows)
        assert sorted(con.sql("from alike").fetchall()) == [("copy", "a"), ("copy", "z")]
    assert len(NearDuplicates().verdicts(connection({"other": other}, tmp_path))) == 0


def test_candidates_are_those_of_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of videos share hashes, and clips follow in three parts."""
    rng = np.random.default_rng(2)
    pool = rng.integers(1, 2**64, (60, 12), np.uint64)
    clips = {}
    for k in range(60):
        start, length = rng.integers(0, 50), rng.integers(1, 9)
        hashes = pool[start : start + length].copy()
        hashes[:, rng.integers(0, 12, 4)] ^= np.uint64((1 << int(rng.integers(0, 13))) - 1)
        hashes[rng.random(hashes.shape) < 0.1] = 0
        clips[f"{k}"] = (hashes, np.zeros((length, 64, 64), np.uint8))
    ids = list(clips)
    memory, codes, near = Memory(None), np.zeros(0, np.uint64), np.zeros((0, 2), np.uint64)
    for part in (ids[:20], ids[:40], ids):
        told = candidates.candidates(pa.array(part), Clips(clips), memory, mirrored=True, distance=6)
        codes, near = told.codes, told.near
    found = {frozenset(pair) for pair in near.tolist()}
    alike = [
        (i, j) for i in range(60) for j in range(i)
        if codes[i] != codes[j] and verified.match(clips[ids[i]][0], clips[ids[j]][0], 6, True)
    ]  # fmt: skip
    assert len(alike) > 50
    assert {frozenset((int(codes[i]), int(codes[j]))) for i, j in alike} == found


def test_ids_may_come_in_any_order(signatures: dict[str, Signature], truth: Found) -> None:
    ids = list(np.random.default_rng(1).permutation(list(signatures)))
    rank = np.array([[hash_of(i) % 5, hash_of(i) % 3] for i in ids])
    hashes, thumbnails = [signatures[i][0] for i in ids], [signatures[i][1] for i in ids]
    assert near_duplicates(ids, hashes, thumbnails, rank) == truth

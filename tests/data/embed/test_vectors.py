"""Columns of vectors, clusters of them, and copies among them: exact truths."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from diorama.core.errors import UserError
from diorama.data.embed import Clusters, SemanticDuplicates
from diorama.data.embed.semantic import stars
from diorama.data.embed.vectors import over_known, stacked


def table(vectors: list) -> pa.Table:
    ids = [f"{k:03d}" for k in range(len(vectors))]
    return pa.table({"id": ids, "embedding.vector": pa.array(vectors, pa.list_(pa.float32()))})


def around(rng: np.random.Generator, centres: np.ndarray, each: int) -> np.ndarray:
    vectors = np.repeat(centres, each, 0) + 0.02 * rng.standard_normal((each * len(centres), centres.shape[1]))
    return np.float32(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_vectors_that_are_null_stay_null():
    column = table([[1.0, 2.0], None, [3.0, 4.0]])["embedding.vector"]
    vectors, rows = stacked(column)
    np.testing.assert_array_equal(vectors, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(rows, [0, 2])
    assert over_known(column, lambda x: {"sum": x.sum(1).tolist()}, ["sum"]) == {"sum": [3.0, None, 7.0]}


@pytest.mark.parametrize("vectors", [[], [None, None]])
def test_no_vectors_at_all(vectors):
    column = table(vectors)["embedding.vector"]
    assert len(stacked(column)[0]) == 0
    assert over_known(column, lambda x: {"sum": x}, ["sum"]) == {"sum": [None] * len(vectors)}


def test_clusters_are_those_that_were_planted(tmp_path):
    rng = np.random.default_rng(0)
    centres = np.eye(8)[:3]
    vectors = np.concatenate([around(rng, centres[k : k + 1], each) for k, each in enumerate((60, 30, 10))])
    stage = Clusters(clusters=3)
    clips = table([*vectors.tolist(), None])
    columns = stage.prepare(tmp_path, lambda n: clips)(clips)
    assert columns["cluster"] == [0] * 60 + [1] * 30 + [2] * 10 + [None]  # the largest first
    assert max(columns["distance"][:-1]) < 0.2
    opposite = stage.prepare(tmp_path, pytest.fail)(table([(-centres[0]).tolist()]))  # fitted once
    assert opposite["distance"][0] > 1.4


def test_distances_are_from_the_centre_that_is_nearest(tmp_path):
    vectors = around(np.random.default_rng(1), np.eye(4), 8)
    from safetensors.numpy import load_file

    clips = table(vectors.tolist())
    columns = Clusters(clusters=4).prepare(tmp_path, lambda n: clips)(clips)
    centres = load_file(tmp_path / "centres.safetensors")["centres"]
    apart = np.linalg.norm(vectors[:, None] - centres, axis=-1)
    np.testing.assert_array_equal(columns["cluster"], apart.argmin(1))
    np.testing.assert_allclose(columns["distance"], apart.min(1), atol=1e-6)


def test_fewer_clips_than_clusters(tmp_path):
    clips = table(np.eye(3).tolist())
    columns = Clusters(clusters=10).prepare(tmp_path, lambda n: clips)(clips)
    assert sorted(columns["cluster"]) == [0, 1, 2]
    np.testing.assert_allclose(columns["distance"], 0, atol=1e-6)


def test_clusters_need_vectors_and_sizes(tmp_path):
    with pytest.raises(UserError, match=r"no clip has embedding\.vector"):
        Clusters().prepare(tmp_path, lambda n: table([None]))
    with pytest.raises(UserError, match="at least 1"):
        Clusters(clusters=0)


def left_over(angles: list[float | None], chosen: set[int] = frozenset()) -> duckdb.DuckDBPyConnection:
    """Clips in the plane by their angle in degrees, the earlier the more pixels."""
    con = duckdb.connect()
    clips = pa.table({
        "id": [f"{k}" for k in range(len(angles))], "location": [f"/{k}.png" for k in range(len(angles))],
        "chosen": [k in chosen for k in range(len(angles))], "split": pa.nulls(len(angles), pa.string()),
        "caption": pa.nulls(len(angles), pa.string()), "h": [100 - k for k in range(len(angles))],
        "w": [100] * len(angles), "bytes": [1] * len(angles),
    })  # fmt: skip
    vectors = [None if a is None else [float(np.cos(np.radians(a))), float(np.sin(np.radians(a)))] for a in angles]
    embedding = pa.table({"id": clips["id"], "vector": pa.array(vectors, pa.list_(pa.float32()))})
    con.register("left_over", clips)
    con.register("embedding", embedding)
    return con


def cut(rule: SemanticDuplicates, con: duckdb.DuckDBPyConnection) -> dict[str, tuple[str, float]]:
    rows = rule.verdicts(con).to_pylist()
    assert all(row["metric"] == "embedding.vector" and row["threshold"] == rule.cosine for row in rows)
    return {row["id"]: (row["partner"], row["value"]) for row in rows}


def test_every_clip_left_out_is_near_the_one_kept_for_it():
    rule = SemanticDuplicates(cosine=np.cos(np.radians(10.0)))
    found = cut(rule, left_over([0.0, 8.0, 16.0, 24.0, 90.0, None]))
    # 16 is near 8 only, which is left out for 0; so 16 stays, and 24 is left out for it
    assert {clip: partner for clip, (partner, _) in found.items()} == {"1": "/0.png", "3": "/2.png"}
    np.testing.assert_allclose([value for _, value in found.values()], np.cos(np.radians(8.0)), atol=1e-6)


def test_what_a_person_chose_is_kept():
    con = left_over([0.0, 1.0, 2.0], chosen={1, 2})
    assert {clip: partner for clip, (partner, _) in cut(SemanticDuplicates(cosine=0.9), con).items()} == {"0": "/1.png"}


def test_no_vectors_no_duplicates():
    assert cut(SemanticDuplicates(cosine=0.9), left_over([None, None])) == {}


def test_stars_against_their_definition():
    rng = np.random.default_rng(2)
    pairs = np.argwhere(np.triu(rng.random((30, 30)) < 0.1, 1))
    near = set(map(tuple, pairs.tolist()))
    found = stars(pairs, np.arange(len(pairs)))
    kept: list[int] = []
    expected = {}
    for k in range(30):
        best = next((i for i in kept if (i, k) in near), None)
        if best is None:
            kept.append(k)
        else:
            expected[k] = best
    assert {j: i for i, j, _ in found} == expected
    assert all(tuple(pairs[int(value)]) == (i, j) for i, j, value in found)


def test_files_of_models_are_whole_or_absent(tmp_path: Path):
    clips = table(np.eye(3).tolist())
    Clusters(clusters=2).prepare(tmp_path, lambda n: clips)
    assert [path.name for path in tmp_path.iterdir()] == ["centres.safetensors"]

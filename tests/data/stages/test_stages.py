"""The stages that come with Diorama, through a whole curation with the recipes, on planted pictures and clips."""

import cv2
import numpy as np
import pytest

from benchmarks.planted import copies, defects
from benchmarks.planted.originals import synthetic
from diorama.cli import recipes
from diorama.data import Catalogue, curate
from diorama.data.stages.shots import Shot, shots
from diorama.media import write_mp4, write_png

SEED = 9_000_000


def left_out(catalogue) -> dict[str, tuple[str, str | None]]:
    """{file name: (reason, name of the clip kept instead)}."""
    rows = (
        Catalogue(catalogue).ask("select location, reason, partner from decisions where verdict = 'drop'").to_pylist()
    )
    short = {row["location"]: row["location"].rsplit("/", 1)[1] for row in rows}
    return {short[r["location"]]: (r["reason"], r["partner"] and r["partner"].rsplit("/", 1)[1]) for r in rows}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Four pictures; copies of the first; a defect planted into each of the others."""
    folder = tmp_path_factory.mktemp("planted") / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(SEED)
    originals = [synthetic(np.random.default_rng(SEED + i)) for i in range(4)]
    for i, picture in enumerate(originals):
        write_png(folder / f"original{i}.png", picture)
    for name, picture, quality in (("mirrored", originals[0][:, ::-1], 90), ("coded", originals[0], 40)):
        data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        (folder / f"{name}.jpg").write_bytes(data)
    write_png(folder / "small.png", cv2.resize(originals[0], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    for kind, source in (("blurred", 1), ("dark", 2), ("grey", 3), ("letterboxed", 1)):
        write_png(folder / f"{kind}.png", defects.PICTURES[kind][0](rng, originals[source]))
    return folder


def test_stills(pictures, tmp_path):
    policy = recipes.policy("curate_stills", [])
    summary = curate([pictures], tmp_path / "c", policy)
    found = left_out(tmp_path / "c")
    near = {name: partner for name, (reason, partner) in found.items() if reason == "near-duplicate"}
    assert near == {name: "original0.png" for name in ("mirrored.jpg", "coded.jpg", "small.png")}
    assert {found[f"{kind}.png"][0] for kind in ("blurred", "dark", "grey", "letterboxed")} == {
        "blurred", "dark", "grey", "letterboxed",
    }  # fmt: skip
    assert summary.clips == 4
    assert curate([pictures], tmp_path / "c", policy).new == 0
    [explanation] = Catalogue(tmp_path / "c").explain("mirrored.jpg")
    assert "original0.png is kept" in str(explanation)
    assert "signature.score" in str(explanation)
    assert len(explanation.measured["technical"]) > 30


def test_a_test_clip_is_kept_before_its_copy(pictures, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("original0.png", "small.png"):
        (folder / name).write_bytes((pictures / name).read_bytes())
    (folder / "metadata.jsonl").write_text('{"file_name": "small.png", "split": "test"}\n')
    curate([folder], tmp_path / "c", recipes.policy("curate_stills", []))
    assert left_out(tmp_path / "c") == {"original0.png": ("near-duplicate", "small.png")}


def test_settings_reach_into_a_policy(pictures, tmp_path):
    names = [rule.name for rule in recipes.policy("curate_stills", []).rules]
    curate(
        [pictures], tmp_path / "c", recipes.policy("curate_stills", [f"rules.{names.index('dark')}.where.0.below=0.5"])
    )
    assert "dark" not in {reason for reason, _ in left_out(tmp_path / "c").values()}


def test_videos(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(SEED)
    first, second = (defects.clip(rng, synthetic(np.random.default_rng(SEED + i)), t=30) for i in (10, 11))
    write_mp4(folder / "moving.mp4", first, 25.0, lossless=True)
    write_mp4(folder / "static.mp4", np.repeat(first[:1], 30, 0), 25.0, lossless=True)
    write_mp4(folder / "joined.mp4", np.concatenate([first, second]), 25.0, lossless=True)
    curate([folder], tmp_path / "c", recipes.policy("curate_videos", []))
    assert {name: reason for name, (reason, _) in left_out(tmp_path / "c").items()} == {
        "static.mp4": "static", "joined.mp4": "cut into clips", "moving.mp4": "near-duplicate",
    }  # fmt: skip
    rows = Catalogue(tmp_path / "c").ask(
        "select starts, ends from shots join observations using (id) where location like '%joined.mp4'"
    )
    assert rows.to_pylist() == [{"starts": [0, 30], "ends": [30, 60]}]
    assert shots(np.concatenate([first, second]), 25.0)[0] == Shot(0, 30, "start", "cut")


def test_planted_copies_are_of_their_originals():
    rng = np.random.default_rng(SEED)
    files = copies.plant([synthetic(np.random.default_rng(SEED + i), size=64) for i in range(3)], rng)
    assert {file.original for file in files} == {0, 1, 2}

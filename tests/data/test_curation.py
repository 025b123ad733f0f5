import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from diorama.core.errors import UserError
from diorama.core.files import sole_writer
from diorama.data import Catalogue, ClipSource, Curation, curate, curation, observe, store
from diorama.data.rehearse import rehearse
from diorama.media import Limits, write_png
from tests.data.make import media_folder, picture, video
from tests.shared import shared_data


def reasons(catalogue) -> dict[str, str]:
    """{file name: reason} of what was left out."""
    rows = Catalogue(catalogue).ask("select location, reason from decisions where verdict = 'drop'").to_pylist()
    return {os.path.basename(row["location"]): row["reason"] for row in rows}


def times(folder) -> dict:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.name != ".lock"}


def test_everything_is_kept_or_has_a_reason(tmp_path):
    folder = media_folder(tmp_path / "media")
    shutil.copy(folder / "still0.png", folder / "copy.png")
    Image.fromarray(picture(1)).save(folder / "recoded.bmp")
    (folder / "broken.png").write_bytes((folder / "still2.png").read_bytes()[:60])
    (folder / "notes.md").write_text("about these pictures")
    summary = curate([folder], tmp_path / "c")
    assert summary.clips == 9
    assert summary.kinds == {"image": 6, "video": 3}
    assert summary.new == 13
    left_out = reasons(tmp_path / "c")
    assert left_out["copy.png"] == "same bytes as another clip"  # the captioned one is kept
    assert left_out["recoded.bmp"] == "same pixels as another clip"
    assert "truncated" in left_out["broken.png"]
    assert left_out["notes.md"] == "text, not media"
    partner = Catalogue(tmp_path / "c").ask("select partner from decisions where location like '%recoded.bmp'")
    assert partner["partner"].to_pylist() == [str(folder / "still1.png")]


def test_again_is_no_work(tmp_path):
    folder = media_folder(tmp_path / "media")
    first = curate([folder], tmp_path / "c")
    files = times(tmp_path / "c")
    second = curate([folder], tmp_path / "c")
    assert second.new == 0
    assert second.hash == first.hash
    assert "no work" in str(second)
    assert files == times(tmp_path / "c")


def test_only_what_changed_is_looked_at(tmp_path):
    folder = media_folder(tmp_path / "media")
    out = tmp_path / "c"
    first = curate([folder], out)
    write_png(folder / "new.png", picture(77))
    sidecar = folder / "metadata.jsonl"
    sidecar.write_text(sidecar.read_text().replace("still 3", "renamed"))
    (folder / "still4.png").unlink()
    second = curate([folder], out)
    assert second.new == 3  # new, renamed, missing
    assert second.clips == 9
    source = ClipSource(Catalogue(out), None, 1, 16, 16)
    assert set(source.captions) == {"", "still 0", "still 1", "still 2", "renamed", "still 5"}
    for i in range(len(source)):  # media still belong to their rows after rows were deleted and appended
        name = source.row(i)["location"]
        seed = 77 if "new" in name else int(name[-5])
        np.testing.assert_array_equal(source[i]["media"][0], picture(seed))
    write_png(folder / "still4.png", picture(4))
    (folder / "new.png").unlink()
    sidecar.write_text(sidecar.read_text().replace("renamed", "still 3"))
    third = curate([folder], out)
    assert third.hash == first.hash
    assert reasons(out)["new.png"] == "no longer at its source"


def test_sources_add_up(tmp_path):
    a, b = media_folder(tmp_path / "a", 3, 0), tmp_path / "b"
    b.mkdir()
    write_png(b / "other.png", picture(50))
    curate([a], tmp_path / "c")
    assert curate([b], tmp_path / "c").clips == 4
    assert curate([a, b], tmp_path / "both").hash == Catalogue(tmp_path / "c").hash()


def test_the_catalogue_may_lie_inside_its_source(tmp_path):
    folder = media_folder(tmp_path / "media")
    first = curate([folder], folder / "catalogue")
    assert curate([folder], folder / "catalogue") == type(first)(**{**vars(first), "new": 0})


def test_large_files_stay_where_they_are(tmp_path):
    folder = media_folder(tmp_path / "media")
    inside, beside = curate([folder], tmp_path / "a"), curate([folder], tmp_path / "b", Curation(inline_bytes=0))
    assert inside.hash == beside.hash
    a, b = (ClipSource(Catalogue(tmp_path / n), "test", 5, 16, 16) for n in "ab")
    assert isinstance(Catalogue(tmp_path / "b").media([b.row(0)])[0], Path)
    np.testing.assert_array_equal(a[0]["media"], b[0]["media"])


def test_a_large_file_that_moves_is_found_again(tmp_path):
    folder, out = media_folder(tmp_path / "media", stills=0, videos=1), tmp_path / "c"
    (folder / "metadata.jsonl").unlink()
    write_png(folder / "other.png", picture(0))

    def frames() -> np.ndarray:
        return ClipSource(Catalogue(out), None, 5, 16, 16)[0]["media"]

    first = curate([folder], out, Curation(inline_bytes=0))
    (folder / "b").mkdir()
    (folder / "video0.mp4").rename(folder / "b/video0.mp4")
    assert curate([folder], out, Curation(inline_bytes=0)).hash == first.hash
    np.testing.assert_array_equal(frames(), video(1))
    shutil.copy(folder / "b/video0.mp4", folder / "a.mp4")  # is kept in place of the other, then goes
    curate([folder], out, Curation(inline_bytes=0))
    (folder / "a.mp4").unlink()
    assert curate([folder], out, Curation(inline_bytes=0)).hash == first.hash
    np.testing.assert_array_equal(frames(), video(1))
    assert curate([folder], out, Curation(inline_bytes=1 << 20)).hash == first.hash  # now it is taken in
    assert all(isinstance(media, bytes) for media in Catalogue(out).media(Catalogue(out).clips().to_pylist()))
    shutil.rmtree(folder)
    np.testing.assert_array_equal(frames(), video(1))


def test_a_large_file_that_moves_to_another_source_is_found_again(tmp_path):
    a, b, out = media_folder(tmp_path / "a", stills=0, videos=1), tmp_path / "b", tmp_path / "c"
    b.mkdir()
    write_png(b / "other.png", picture(0))
    (a / "metadata.jsonl").unlink()
    curate([a, b], out, Curation(inline_bytes=0))
    (a / "video0.mp4").rename(b / "video0.mp4")
    curate([a, b], out, Curation(inline_bytes=0))
    np.testing.assert_array_equal(ClipSource(Catalogue(out), None, 5, 16, 16)[0]["media"], video(1))
    shutil.rmtree(a)
    b.rename(tmp_path / "z")  # a source that was moved as a whole cannot be named any more
    curate([tmp_path / "z"], out, Curation(inline_bytes=0))
    np.testing.assert_array_equal(ClipSource(Catalogue(out), None, 5, 16, 16)[0]["media"], video(1))


def test_a_table_that_names_another_place_of_the_same_file_is_followed(tmp_path):
    out = tmp_path / "c"
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, picture(0))
        table = pa.table({"image": [{"bytes": None, "path": name}]})
        pq.write_table(table, tmp_path / "t.parquet")
        curate([tmp_path / "t.parquet"], out, Curation(inline_bytes=0))
    assert Catalogue(out).media(Catalogue(out).clips().to_pylist()) == [tmp_path / "b.png"]


def test_damaged_containers_are_left_out_with_a_reason(tmp_path):
    folder = media_folder(tmp_path / "media", stills=2, videos=0)
    np.savez_compressed(folder / "a.npz", clips=np.stack([picture(i) for i in range(3)]))
    (folder / "a.npz").write_bytes((folder / "a.npz").read_bytes()[:-60])
    stored = bytearray(gzip.compress(bytes(4) + picture(0).tobytes()))
    stored[10:20] = b"\xff" * 10  # no block that zlib knows
    (folder / "b-images-idx3-ubyte.gz").write_bytes(stored)
    pngs = [(folder / f"still{i}.png").read_bytes() + bytes([i]) for i in range(2)]
    for name, column in ("c.parquet", "image"), ("d.parquet", "caption"):
        path = folder / name
        pq.write_table(pa.table({"image": pngs, "caption": ["cat", "dog"]}), path, row_group_size=1)
        chunk = pq.ParquetFile(path).metadata.row_group(1).column(("image", "caption").index(column))
        stored = bytearray(path.read_bytes())
        start = chunk.dictionary_page_offset
        stored[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
        path.write_bytes(stored)
    summary = curate([folder], tmp_path / "c")
    assert summary.clips == 2  # the sound row of c.parquet shows the pixels of still0.png
    left_out = reasons(tmp_path / "c")
    assert left_out.pop("still0.png") == "same pixels as another clip"
    assert "decompressing data" in left_out["b-images-idx3-ubyte.gz"]
    assert set(left_out) == {"a.npz", "b-images-idx3-ubyte.gz", "c.parquet#00000001", "d.parquet"}
    assert all(reason.startswith("not readable: ") for reason in left_out.values())


def test_actions_must_fit_the_frames(tmp_path):
    folder = media_folder(tmp_path / "media", 1, 1)
    sidecar = folder / "metadata.jsonl"
    sidecar.write_text(sidecar.read_text().replace("[0, 1, 2, 3, 4]", "[0, 1]"))
    curate([folder], tmp_path / "c")
    assert reasons(tmp_path / "c") == {"video0.mp4": "2 actions were given for 5 frames"}


def test_strips_are_videos(tmp_path):
    frames = video(3, t=4)
    write_png(tmp_path / "told.png", np.concatenate(list(frames), axis=1))
    write_png(tmp_path / "wide.png", picture(1, 16, 64))
    write_png(tmp_path / "implied.png", np.concatenate(list(frames[::-1]), axis=1))
    write_png(tmp_path / "wrong.png", picture(2, 16, 50))
    rows = [
        {"file_name": "told.png", "frame_width": 16, "rate": 25, "split": "train"},
        {"file_name": "implied.png", "frames": 4, "width": 16, "split": "train"},
        {"file_name": "wrong.png", "frame_width": 16},
        {"file_name": "wide.png", "frames": 1, "width": 64},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    summary = curate([tmp_path], tmp_path / "c")
    assert summary.kinds == {"video": 2, "image": 1}
    assert "does not divide" in reasons(tmp_path / "c")["wrong.png"]
    source = ClipSource(Catalogue(tmp_path / "c"), None, 4, 16, 16)
    got = {os.path.basename(source.row(i)["location"]): source[i]["media"] for i in range(2)}
    np.testing.assert_array_equal(got["told.png"], frames)
    np.testing.assert_array_equal(got["implied.png"], frames[::-1])


def test_splits_follow_what_is_given_then_groups(tmp_path):
    rows = []
    for i in range(60):
        write_png(tmp_path / f"{i}.png", picture(i))
        rows.append({"file_name": f"{i}.png", "group": str(i // 3)} | ({"split": "train"} if i < 6 else {}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    curate([tmp_path], tmp_path / "c", Curation(test_share=0.3))
    clips = Catalogue(tmp_path / "c").clips().to_pylist()
    groups = {}
    for clip in clips:
        groups.setdefault(clip["group"], set()).add(clip["split"])
    assert all(len(splits) == 1 for splits in groups.values())
    assert groups["0"] == groups["1"] == {"train"}
    assert 1 <= sum(splits == {"test"} for splits in groups.values()) <= 12


def test_a_small_set_still_has_something_to_test_on(tmp_path):
    folder = media_folder(tmp_path / "media", stills=3, videos=0)
    assert curate([folder], tmp_path / "c", Curation(test_share=1e-6)).splits == {"train": 2, "test": 1}


def test_a_test_clip_is_kept_before_its_training_copy(tmp_path):
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, picture(0))
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "caption": "x", "split": "train"}\n{"file_name": "b.png", "split": "test"}\n'
    )
    assert curate([tmp_path], tmp_path / "c").splits == {"test": 1}


def test_nothing_to_curate(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="nothing to curate"):
        curate([tmp_path / "empty"], tmp_path / "c")
    (tmp_path / "empty" / "a.txt").write_text("words")
    with pytest.raises(UserError, match="no clip that can be read"):
        curate([tmp_path / "empty"], tmp_path / "c")
    with pytest.raises(UserError, match="not a finished catalogue"):
        Catalogue(tmp_path / "c")


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("step", "call"),
    [
        ("append", 0),
        ("append", 1),
        ("lance.write_dataset", 0),
        ("lance.write_dataset", 1),
        ("lance.write_dataset", 3),
        ("curation.write_text", 0),
        ("store.write_text", 0),
    ],
)
@pytest.mark.parametrize("after", [False, True])
def test_stopped_anywhere_and_run_again_is_the_same(tmp_path, monkeypatch, step, after, call):
    monkeypatch.setattr(observe, "SHARD", 4)
    monkeypatch.setattr(observe, "LEAST", 4)
    monkeypatch.setattr(store, "STORE", 4)
    folder = media_folder(tmp_path / "media")
    straight = curate([folder], tmp_path / "straight")
    owner = {"append": observe, "lance": store.lance, "curation": curation, "store": store}[step.split(".")[0]]
    name = step.split(".")[-1]
    real, calls = getattr(owner, name), []

    def stop(*args, **options):
        calls.append(None)
        if len(calls) == call + 1 and not after:
            raise Killed
        done = real(*args, **options)
        if len(calls) == call + 1:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop)
        with pytest.raises(Killed):
            curate([folder], tmp_path / "c")
    again = curate([folder], tmp_path / "c")
    assert again.hash == straight.hash
    assert again.clips == straight.clips
    assert sorted(Catalogue(tmp_path / "c").dataset.to_table(["id"])["id"].to_pylist()) == (
        Catalogue(tmp_path / "straight").clips()["id"].to_pylist()
    )


def test_a_large_strip_is_cut_at_its_own_size(tmp_path):
    clips = np.repeat(np.arange(0, 160, 10, dtype=np.uint8), 256 * 256).reshape(1, 16, 256, 256)
    np.savez(tmp_path / "large.npz", media=clips)
    curate([tmp_path / "large.npz"], tmp_path / "c")
    frames = ClipSource(Catalogue(tmp_path / "c"), None, 16, 32, 32)[0]["media"]
    assert frames.shape == (16, 32, 32, 3)
    assert frames.mean((1, 2, 3)).tolist() == list(range(0, 160, 10))


def test_other_limits_look_at_earlier_sources_again(tmp_path):
    a, b, out = media_folder(tmp_path / "a", stills=3, videos=0), tmp_path / "b", tmp_path / "c"
    b.mkdir()
    write_png(b / "b.png", picture(99))
    curate([a], out)
    assert curate([b], out, Curation(limits=Limits(seconds=60.0))).clips == 4


def test_a_dry_run_between_does_not_hide_what_came_back(tmp_path):
    folder, out = media_folder(tmp_path / "a", stills=3, videos=0), tmp_path / "c"
    first = curate([folder], out)
    (folder / "still0.png").rename(tmp_path / "away.png")
    list(rehearse([folder], out, Curation()))
    (tmp_path / "away.png").rename(folder / "still0.png")
    assert curate([folder], out, Curation(test_share=0.2)).clips == first.clips


def test_a_file_named_from_outside_is_followed(tmp_path):
    folder, out = tmp_path / "a", tmp_path / "c"
    folder.mkdir()
    write_png(folder / "in.png", picture(0))
    (folder / "metadata.jsonl").write_text('{"file_name": "../out.png", "caption": "x"}\n')
    assert curate([folder], out).clips == 1
    write_png(tmp_path / "out.png", picture(1))
    assert curate([folder], out).clips == 2


def test_a_name_that_is_no_text_is_told(tmp_path):
    folder = media_folder(tmp_path / "a", stills=1, videos=0)
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes((folder / "still0.png").read_bytes())
    with pytest.raises(UserError, match="not UTF-8"):
        curate([folder], tmp_path / "c")


def test_two_at_once(tmp_path):
    folder = media_folder(tmp_path / "media", stills=2, videos=0)
    with sole_writer(tmp_path / "c", "curating"), pytest.raises(UserError, match=rf"process {os.getpid()} is curating"):
        curate([folder], tmp_path / "c")
    assert curate([folder], tmp_path / "c").clips == 2


def test_weizmann_strips(tmp_path):
    summary = curate([shared_data("video/weizmann64")], tmp_path / "c")
    assert summary.clips == 56
    assert summary.kinds == {"video": 56}
    assert summary.dropped == {}
    clips = Catalogue(tmp_path / "c").clips().to_pylist()
    assert {c["label"] for c in clips} == {0, 1, 3, 4}
    assert {(c["h"], c["w"], c["rate"]) for c in clips} == {(64, 64, 25.0)}
    assert (
        len({c["group"] for c in clips if c["split"] == "test"} & {c["group"] for c in clips if c["split"] == "train"})
        == 0
    )
    source = ClipSource(Catalogue(tmp_path / "c"), "train", 16, 64, 64, hop=8)
    assert source[5]["media"].shape == (16, 64, 64, 3)
    assert len(source) > 200
    assert len(np.unique(source.ids)) == len(source)


def test_emoji_lie_on_white(tmp_path):
    summary = curate([shared_data("captions/noto_emoji_128px.parquet")], tmp_path / "c")
    assert summary.clips + sum(summary.dropped.values()) == 1198
    source = ClipSource(Catalogue(tmp_path / "c"), "test", 1, 32, 32)
    assert all(source.captions)
    assert np.mean([source[i]["media"][0, 0, 0].min() == 255 for i in range(len(source))]) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["images/cifar10_train-00-of-05.parquet", "images/mnist_t10k"])
def test_ten_thousand_small_pictures(tmp_path, name):
    summary = curate([shared_data(name)], tmp_path / "c")
    assert summary.clips + sum(summary.dropped.values()) == 10_000
    assert 0.08 < summary.splits["test"] / summary.clips < 0.12
    assert curate([shared_data(name)], tmp_path / "c").new == 0
    labels = ClipSource(Catalogue(tmp_path / "c"), None, 1, 32, 32).labels
    assert np.bincount(labels).min() > 800


@pytest.mark.slow
def test_odd_files_end_in_arrays_or_a_reason(tmp_path):
    summary = curate([shared_data("odd_media")], tmp_path / "c")
    assert summary.new == 604  # 602 files, of which one is an archive of two, and observed.json
    assert summary.clips + sum(summary.dropped.values()) == 604

import gzip
import json

import cv2
import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diorama.core.errors import UserError
from diorama.data import Curation, curate
from diorama.data.sources import fetch, listing, state
from diorama.data.sources.said import said
from diorama.data.strip import cut
from diorama.media import BadMedia, read, write_png
from tests.data.make import media_folder, picture


def pixels(location: str) -> np.ndarray:
    return read(fetch(location)).frames


def test_a_folder_lists_every_file_with_what_its_sidecar_says(tmp_path):
    items = list(listing(media_folder(tmp_path / "a", stills=2, videos=1)))
    assert [item.location for item in items] == [
        str(tmp_path / "a" / n) for n in ("still0.png", "still1.png", "video0.mp4")
    ]
    assert items[1].said == {"caption": "still 1", "label": 1}
    assert items[2].said == {"caption": "video 0", "actions": [0, 1, 2, 3, 4], "split": "test"}


def test_other_sidecars(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        write_png(tmp_path / name, picture(0))
    (tmp_path / "a.txt").write_text("by a text file\n")
    (tmp_path / "list.csv").write_text("file,caption,label,odd\nb.png,by a table,3,x\n")
    (tmp_path / "index.json").write_text(json.dumps([{"image": "c.png", "category": "Food", "person": 4}]))
    a, b, c = listing(tmp_path)
    assert a.said == {"caption": "by a text file"}
    assert b.said == {"caption": "by a table", "label": 3, "more": '{"odd": "x"}'}
    assert c.said == {"class_name": "Food", "group": "4"}


def test_files_that_are_no_sidecars_are_listed_as_media(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a cat"}\n')
    (tmp_path / "poses.json").write_text("{}")
    (tmp_path / ".hidden").write_text("")
    assert [item.location for item in listing(tmp_path)] == [str(tmp_path / n) for n in ("poses.json", "prompts.jsonl")]


def test_mistakes_in_a_sidecar_are_named(tmp_path):
    sidecar = tmp_path / "metadata.jsonl"
    sidecar.write_text('{"file_name": "a.png"}\nnot json\n')
    with pytest.raises(UserError, match="line 2 is not JSON"):
        list(listing(tmp_path))
    sidecar.write_text('{"file_name": "a.png", "actions": "left"}\n')
    with pytest.raises(UserError, match="row 1: 'actions' cannot be 'left'"):
        list(listing(tmp_path))
    with pytest.raises(UserError, match="there is no file or folder"):
        list(listing(tmp_path / "nowhere"))


def test_a_comma_without_quotes_is_named(tmp_path):
    sidecar = tmp_path / "list.csv"
    for head, line in (
        ("file,caption,label", "a.jpg,a dog, on a beach,x,y"),
        ("file,caption", "a.jpg,a dog, on a beach"),
    ):
        sidecar.write_text(f'{head}\nb.jpg,"a cat, in\na house"\n{line}\n')
        with pytest.raises(UserError, match=r"list.csv line 4 has more values than headers"):
            list(listing(tmp_path))
    sidecar.write_text('file,caption\nb.jpg,"a cat, in\na house",\n')  # a comma at the end says nothing
    (item,) = listing(tmp_path)
    assert item.said == {"caption": "a cat, in\na house"}
    sidecar.write_text("x,y\n1,2,3\n")  # names no files
    assert [item.location for item in listing(tmp_path)] == [str(sidecar)]
    sidecar.write_text("file,caption\na.jpg,x\nb.jpg," + "long" * 50_000)
    with pytest.raises(UserError, match="no CSV after line 2"):
        list(listing(tmp_path))


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085"])
def test_line_marks_of_unicode_are_part_of_a_caption(tmp_path, mark):
    rows = [{"file_name": f"{i}.png", "caption": f"{i}, a{mark}b"} for i in range(2)]
    (tmp_path / "metadata.jsonl").write_text("\r\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\r\n")
    (tmp_path / "more.csv").write_text(f"file,caption\n2.png,a{mark}b\n")
    assert [item.said["caption"] for item in listing(tmp_path)] == [f"0, a{mark}b", f"1, a{mark}b", f"a{mark}b"]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
def test_a_byte_order_mark_is_passed_over(tmp_path, suffix):
    write_png(tmp_path / "b.png", picture(0))
    (tmp_path / "b.txt").write_text("by a text file", encoding="utf-8-sig")
    row = '{"file_name": "a.png", "caption": "Käse"}'
    text = {".csv": "file_name,caption\na.png,Käse\n", ".json": f"[{row}]", ".jsonl": row + "\n"}[suffix]
    (tmp_path / f"list{suffix}").write_text(text, encoding="utf-8-sig")
    assert [item.said for item in listing(tmp_path)] == [{"caption": "Käse"}, {"caption": "by a text file"}]


def test_what_is_said_adds_up_and_the_nearer_word_counts(tmp_path):
    (tmp_path / "sub").mkdir()
    names = ("cat.png", "zebra.png", "sub/cat.png")
    for name in names:
        write_png(tmp_path / name, picture(0))
        (tmp_path / name).with_suffix(".txt").write_text(f"{name} by its text")
    (tmp_path / "sub/empty.png").write_bytes((tmp_path / "cat.png").read_bytes())
    (tmp_path / "sub/empty.txt").write_text("\n")
    rows = [{"file": name, "caption": "by the table", "label": 1, "x": 1} for name in [*names, "sub/empty.png"]]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "sub/aaa.csv").write_text("file,label,y\ncat.png,2,y\n")
    cat, sub, empty, zebra = listing(tmp_path)
    assert cat.said == {"caption": "cat.png by its text", "label": 1, "more": '{"x": 1}'}
    assert zebra.said == {"caption": "zebra.png by its text", "label": 1, "more": '{"x": 1}'}
    assert sub.said == {"caption": "sub/cat.png by its text", "label": 2, "more": '{"x": 1, "y": "y"}'}
    assert empty.said == {"caption": "by the table", "label": 1, "more": '{"x": 1}'}


def test_a_text_belongs_to_every_file_of_its_name(tmp_path):
    for name in ("a.png", "a.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "a.txt").write_text("a cat")
    assert [item.said for item in listing(tmp_path)] == [{"caption": "a cat"}] * 2


def test_a_missing_file_is_listed_and_cannot_be_fetched(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "gone.png", "caption": "lost"}\n')
    (item,) = listing(tmp_path)
    with pytest.raises(BadMedia, match="no such file"):
        fetch(item.location)


def test_a_class_by_name_is_a_class_name():
    assert said({"label": "cat"}, "") == {"class_name": "cat"}
    assert said({"label": "7", "url": "https://x"}, "") == {"label": 7, "origin": "https://x"}


def png(seed: int) -> bytes:
    return cv2.imencode(".png", picture(seed)[..., ::-1])[1].tobytes()


def test_parquet_with_bytes(tmp_path):
    table = pa.table({"image": [png(i) for i in range(5)], "caption": list("abcde"), "label": range(5)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    items = list(listing(tmp_path))
    assert items[3].said == {"caption": "d", "label": 3}
    for i in (4, 0, 3, 1, 2):
        np.testing.assert_array_equal(pixels(items[i].location)[0], picture(i))


def test_parquet_with_structs_and_class_names(tmp_path):
    write_png(tmp_path / "beside.png", picture(1))
    images = [{"bytes": png(0), "path": None}, {"bytes": None, "path": "beside.png"}, {"bytes": None, "path": None}]
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    table = pa.table({"image": images, "label": [1, 0, None]}).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    items = list(listing(tmp_path / "t.parquet"))
    assert [item.said for item in items] == [{"label": 1, "class_name": "dog"}, {"label": 0, "class_name": "cat"}, {}]
    np.testing.assert_array_equal(pixels(items[1].location)[0], picture(1))
    with pytest.raises(BadMedia, match="holds no media"):
        fetch(items[2].location)


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def test_idx_with_its_labels(tmp_path):
    digits = np.stack([picture(i)[..., 0] for i in range(4)])
    (tmp_path / "t-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(digits)))
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(idx(np.arange(4, dtype=np.uint8)))
    (tmp_path / "u-labels-idx1-ubyte").write_bytes(idx(np.arange(4, dtype=np.uint8)))
    (tmp_path / "v-images-idx3-ubyte").write_bytes(idx(digits)[:-1])
    (tmp_path / "t-labels-idx1-ubyte").rename(tmp_path / "t-labels-idx1-ubyte.gz")
    (tmp_path / "t-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(4, dtype=np.uint8))))
    *items, lonely, short = listing(tmp_path)
    assert [item.said["label"] for item in items] == [0, 1, 2, 3]
    np.testing.assert_array_equal(pixels(items[2].location)[0, ..., 1], digits[2])
    with pytest.raises(BadMedia, match="without its images"):
        fetch(lonely.location)
    with pytest.raises(BadMedia, match="cut short"):
        fetch(short.location)


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3), (5, 16, 16), (5, 16, 16, 3)])
def test_npz_comes_back_exactly(tmp_path, shape):
    clips = np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8)
    np.savez(tmp_path / "a.npz", clips=clips, labels=np.arange(3), captions=np.array(["x", "y", "z"]))
    items = list(listing(tmp_path))
    assert [(item.said["label"], item.said["caption"]) for item in items] == [(0, "x"), (1, "y"), (2, "z")]
    frames = pixels(items[1].location)
    if shape[0] == 5:
        frames = cut(frames, items[1].said["frame_width"])
    expected = clips[1] if shape[-1] == 3 else np.repeat(clips[1][..., None], 3, axis=-1)
    np.testing.assert_array_equal(frames, expected if shape[0] == 5 else expected[None])


def test_npz_without_pictures_says_so(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 4, 4), np.float32))
    (item,) = listing(tmp_path)
    with pytest.raises(BadMedia, match="without uint8 pictures"):
        fetch(item.location)


def test_a_strip_must_divide_evenly():
    with pytest.raises(BadMedia, match="does not divide"):
        cut(np.zeros((1, 4, 10, 3), np.uint8), 4)


@pytest.mark.parametrize("form", ["lance", "stream", "file"])
def test_lance_and_arrow_tables(tmp_path, form):
    rows = [{"image": {"bytes": png(i), "path": None}, "text": f"picture {i}"} for i in range(3)]
    table = pa.Table.from_pylist(rows)
    path = tmp_path / ("t.lance" if form == "lance" else "t.arrow")

    def write(table):
        if form == "lance":
            lance.write_dataset(table, path, mode="overwrite")
        else:
            with (pa.ipc.new_stream if form == "stream" else pa.ipc.new_file)(str(path), table.schema) as sink:
                sink.write_table(table)

    write(table)
    items = list(listing(tmp_path))
    assert [item.said["caption"] for item in items] == ["picture 0", "picture 1", "picture 2"]
    assert fetch(items[2].location) == png(2)
    write(table.slice(1))
    again = list(listing(tmp_path))
    assert [item.said["caption"] for item in again] == ["picture 1", "picture 2"]
    assert again[0].stamp != items[0].stamp
    assert fetch(again[0].location) == png(1)


def test_another_catalogue_is_a_source(tmp_path):
    first = curate([media_folder(tmp_path / "media")], tmp_path / "a")
    again = curate([tmp_path / "a" / "clips.lance"], tmp_path / "b")
    assert again.hash == first.hash


def test_a_list_of_files(tmp_path):
    folder = media_folder(tmp_path / "media", stills=3, videos=0)
    lines = ["file,caption", "media/still0.png,one", "media/still2.png,two", "media/other.png,gone"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    items = list(listing(tmp_path / "list.csv"))
    assert [item.location for item in items] == [str(folder / n) for n in ("still0.png", "still2.png", "other.png")]
    assert [item.said["caption"] for item in items] == ["one", "two", "gone"]
    assert curate([tmp_path / "list.csv"], tmp_path / "c").clips == 2


def test_the_folder_of_a_catalogue_has_its_clips(tmp_path):
    first = curate([media_folder(tmp_path / "media")], tmp_path / "in" / "a", Curation(inline_bytes=200))
    again = curate([tmp_path / "in" / "a"], tmp_path / "b")
    assert again.hash == first.hash
    assert again.dropped == {}


def test_a_catalogue_inside_a_source_is_passed_over(tmp_path):
    folder = media_folder(tmp_path / "photos")
    first = curate([folder], folder / "old" / "c")
    second = curate([folder], tmp_path / "other")
    assert (second.hash, second.dropped) == (first.hash, {})
    before = state(folder)
    curate([media_folder(tmp_path / "more", stills=9)], folder / "old" / "c")
    assert state(folder) == before  # so that nothing is listed anew


def test_odd_names_of_folders(tmp_path):
    folder = media_folder(tmp_path / "photos.zip" / "c [1]", stills=2, videos=0)
    assert len(list(listing(tmp_path))) == 2
    assert curate([folder], tmp_path / "out [*]").clips == 2
    assert curate([folder], tmp_path / "out [*]").new == 0


@pytest.mark.parametrize("split", ["../../x", "/tmp/x", "a/b", ".."])
def test_a_split_is_a_plain_name(split):
    with pytest.raises(UserError, match="a plain name"):
        said({"split": split}, "here")


def test_a_number_that_is_too_large():
    with pytest.raises(UserError, match="'label' cannot be 5000000000"):
        said({"label": 5_000_000_000}, "here")


def test_what_a_sidecar_says_of_a_container_holds_for_its_clips(tmp_path):
    np.savez(tmp_path / "n.npz", media=np.stack([picture(1), picture(2)]))
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "n.npz", "license": "CC0"}')
    assert [item.said["licence"] for item in listing(tmp_path)] == ["CC0", "CC0"]

"""The page's server: what it answers, what it refuses, and that what people say counts."""

import io
import shutil
import socket
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from scipy.stats import binomtest

from diorama.core import UserError
from diorama.data import Catalogue, Curation, Drop, Where, curate
from diorama.data.stages.preview import Preview
from diorama.media import write_png
from diorama.serve import pictures
from diorama.serve.gallery import Gallery
from diorama.serve.look import app, serve
from diorama.serve.precision import wilson
from tests.data.make import media_folder
from tests.data.toy import Bright, Relative

LEVELS = (10, 40, 80, 120, 200)


def policy(dark: float = 50.0, **more) -> Curation:
    return Curation(stages=(Bright(),), rules=(Drop("dark", (Where("bright.mean", below=dark),)),), **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = media_folder(tmp_path_factory.mktemp("look") / "media", stills=0, videos=1)
    for level in LEVELS:
        write_png(folder / f"grey{level}.png", np.full((300, 400, 3), level, np.uint8))
    shutil.copy(folder / "grey80.png", folder / "same80.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "c"
    curate([folder], out, policy())
    return out


@pytest.fixture
def catalogue(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "c"))


@pytest.fixture
def gallery(catalogue):
    gallery = Gallery(catalogue)
    yield gallery
    gallery.close()


@pytest.fixture
def page(gallery):
    return client(gallery)


def client(gallery: Gallery) -> TestClient:
    return TestClient(app(gallery), base_url="http://127.0.0.1:8765")


def name(row) -> str:
    return row["location"].rsplit("/", 1)[1]


def names(answer) -> list[str]:
    return [name(row) for row in answer.json()["rows"]]


def rows(page, **asked) -> dict[str, dict]:
    return {name(row): row for row in page.get("/items", params=asked).json()["rows"]}


def test_what_it_knows(page):
    about = page.get("/about").json()
    assert about["items"] == 8
    assert sorted((r["verdict"], r["n"]) for r in about["reasons"]) == [
        ("drop", 1),
        ("drop", 1),
        ("drop", 2),
        ("keep", 4),
    ]
    assert {"bright.mean", "bright.most", "clip.side"} <= set(about["measures"])
    assert "bright.frames" not in about["measures"]
    assert (about["vectors"], about["copies"]) == ([], ["same bytes as another clip"])
    assert "<title>diorama look</title>" in page.get("/").text
    for part in ("look.js", "core.js", "look.css", "icon.svg"):
        assert page.get(f"/page/{part}").status_code == 200


def test_items_by_verdict_measure_column_and_words(page):
    dark = page.get("/items", params={"reason": "dark"})
    assert names(dark) == ["grey10.png", "grey40.png"]
    assert dark.json()["rows"][1]["threshold"] == 50
    params = {"measure": "bright.mean", "low": 40, "high": 120, "sort": "measure", "down": True}
    bright = page.get("/items", params=params)
    assert [n for n in names(bright) if n.startswith("grey")] == ["grey120.png", "grey80.png", "grey40.png"]
    assert bright.json()["rows"][-1]["shown"] == 40
    assert names(page.get("/items", params={"words": "video 0"})) == ["video0.mp4"]
    assert names(page.get("/items", params={"column": "kind", "equals": "video"})) == ["video0.mp4"]
    one = page.get("/items", params={"limit": 1, "offset": 2}).json()
    assert (one["total"], len(one["rows"])) == (8, 1)
    everything = [page.get("/items", params={"limit": 3, "offset": offset}) for offset in (0, 3, 6)]
    assert [n for part in everything for n in names(part)] == names(page.get("/items"))


def test_sheets_hold_every_clip_once(page):
    kinds = page.get("/sheets", params={"by": "kind"}).json()
    assert {sheet["value"]: sheet["n"] for sheet in kinds} == {"image": 6, "video": 1, None: 1}
    tenths = page.get("/sheets", params={"by": "bright.mean"}).json()
    assert sum(sheet["n"] for sheet in tenths) == 8
    lows = [sheet["low"] for sheet in tenths if sheet["low"] is not None]
    assert lows == sorted(lows)
    assert all(
        sheet["low"] <= row["shown"] <= sheet["high"] for sheet in tenths if sheet["value"] for row in sheet["rows"]
    )


def test_a_histogram_counts_every_measured_clip(page):
    seen = page.get("/histogram", params={"of": "bright.mean"}).json()
    assert (seen["least"], seen["most"]) == (10, 200)
    assert (sum(seen["keep"]), sum(seen["drop"])) == (4, 3)


def test_a_threshold_shows_what_it_would_cut_and_both_sides_of_it(page):
    below, above = page.get("/threshold", params={"of": "bright.mean", "below": 100, "above": 130}).json()
    assert (below["clips"], below["cut"], below["kept"]) == (7, 4, 1)  # 10, 40, 80 and its copy; 80 is kept
    assert {name(row) for row in below["out"][:2]} == {"grey80.png", "same80.png"}
    assert name(below["stay"][0]) == "grey120.png"
    assert [name(row) for row in above["out"]] == ["grey200.png"]
    assert sorted(row["shown"] for row in above["stay"])[0] == 10


def test_pictures_without_stored_ones_are_decoded(page):
    found = rows(page)
    preview = np.asarray(Image.open(io.BytesIO(page.get(f"/preview/{found['grey80.png']['n']}").content)))
    assert preview.shape == (192, 256, 3)
    assert abs(int(preview.mean()) - 80) <= 1
    assert page.get(f"/preview/{found['broken.png']['n']}").status_code == 200
    assert page.get(f"/media/{found['broken.png']['n']}").status_code == 404  # whatever is no media is not handed out
    media = page.get(f"/media/{found['grey80.png']['n']}")
    assert np.asarray(Image.open(io.BytesIO(media.content))).shape == (300, 400, 3)
    assert media.headers["content-security-policy"] == "sandbox"
    assert np.frombuffer(page.get("/thumbnails?n=0,1,2").content, "<u4").tolist() == [0, 0, 0]
    known = page.get(f"/item/{found['same80.png']['n']}").json()
    assert known["measured"]["bright.mean"] == 80
    assert name(known["partner"]) == "grey80.png"
    assert [verdict["reason"] for verdict in known["history"]] == ["same bytes as another clip"]


def unpacked(content: bytes, count: int) -> list[bytes]:
    sizes = np.frombuffer(content[: 4 * count], "<u4")
    ends = 4 * count + np.cumsum(sizes)
    assert ends[-1] == len(content)
    return [content[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def test_stored_pictures_are_packed_once_and_come_in_any_order(folder, tmp_path):
    curate([folder], tmp_path / "c", Curation(stages=(Preview(), Bright())))
    [shard] = (tmp_path / "c" / "observations" / "preview").rglob("*.parquet")
    stored = {row["id"]: row for row in pq.read_table(shard).to_pylist()} | {None: {"images": [b""], "thumbnail": b""}}
    for turn in range(3):
        if turn == 2:
            shutil.rmtree(tmp_path / "c" / "cache")
        gallery = Gallery(tmp_path / "c")
        page = client(gallery)
        assert gallery.thumbnails
        gallery.thumbnails.wait()
        found = rows(page)
        asked = [found[n] for n in ("video0.mp4", "broken.png", "same80.png", "grey10.png", "grey80.png")]
        given = {"n": ",".join(str(row["n"]) for row in asked)}
        small = unpacked(page.get("/thumbnails", params=given).content, 5)
        assert small == [stored[row["id"]]["thumbnail"] for row in asked]
        images = unpacked(page.get("/thumbnails", params=given | {"larger": True}).content, 5)
        assert images == [middle(stored[row["id"]]["images"]) for row in asked]
        frames = page.get(f"/frames/{asked[0]['n']}").content
        assert unpacked(frames[4:], int(np.frombuffer(frames[:4], "<u4")[0])) == stored[asked[0]["id"]]["images"]
        assert page.get(f"/preview/{asked[4]['n']}").content == images[4]
        gallery.close()


def middle(images: list[bytes]) -> bytes:
    return images[len(images) // 2]


def test_observations_of_before_there_were_thumbnails_show_their_images(folder, tmp_path):
    curate([folder], tmp_path / "c", Curation(stages=(Preview(),)))
    [shard] = (tmp_path / "c" / "observations" / "preview").rglob("*.parquet")
    table = pq.read_table(shard).drop_columns("thumbnail")
    pq.write_table(table, shard)
    stored = {row["id"]: middle(row["images"]) for row in table.to_pylist()}
    gallery = Gallery(tmp_path / "c")
    page = client(gallery)
    gallery.thumbnails.wait()
    found = [row for row in rows(page).values() if row["id"]]
    for larger in (False, True):
        given = {"n": ",".join(str(row["n"]) for row in found), "larger": larger}
        assert unpacked(page.get("/thumbnails", params=given).content, 7) == [stored[row["id"]] for row in found]
    gallery.close()
    assert pictures.stored(Catalogue(tmp_path / "c"), list(stored)) == stored


def test_packs_of_another_form_are_made_anew(folder, tmp_path):
    curate([folder], tmp_path / "c", Curation(stages=(Preview(),)))
    older = tmp_path / "c" / "cache" / "thumbnails" / "0123456789abcdef"
    older.mkdir(parents=True)
    (older / "pack.parquet").write_bytes(b"of another form")
    gallery = Gallery(tmp_path / "c")
    gallery.thumbnails.wait()
    assert all(gallery.thumbnails.get(row["n"]) for row in rows(client(gallery)).values() if row["id"])
    gallery.close()
    assert not older.exists()


def test_tables_are_made_once_a_state_of_the_catalogue(catalogue, folder):
    def tables() -> list:
        Gallery(catalogue).close()
        return [(path.name, path.stat().st_mtime_ns) for path in (catalogue / "cache").glob("items-*")]

    first = tables()
    assert tables() == first
    curate([folder], catalogue, policy(100.0))
    [other] = tables()
    assert other not in first
    again = Gallery(catalogue)
    assert len(rows(client(again), reason="dark")) == 3
    again.close()


def test_a_judgement_is_shown_again_and_counts_in_the_next_curation(page, folder, catalogue):
    known = rows(page)
    for body in (
        {"ids": [known["grey10.png"]["id"]], "verdict": "keep"},
        {"ids": [known["grey120.png"]["id"]], "verdict": "caption", "reason": "a light grey"},
        {"ids": [known["video0.mp4"]["id"]], "verdict": "caption", "reason": ""},
        {"ids": [known["grey120.png"]["id"], known["grey200.png"]["id"]], "verdict": "label", "reason": "light"},
        {"ids": [known["grey200.png"]["id"]], "verdict": "label", "reason": None},
    ):
        assert page.post("/judge", json=body | {"person": "ada"}).json() == {"judged": len(body["ids"])}
    again = Gallery(catalogue)  # as after a restart
    for found in (rows(page), rows(client(again))):
        assert [found[n]["judged"] for n in ("grey10.png", "grey40.png")] == ["keep", None]
        assert [found[n]["caption"] for n in ("grey120.png", "video0.mp4", "grey200.png")] == [
            "a light grey",
            None,
            None,
        ]
        assert [found[n]["class_name"] for n in ("grey120.png", "grey200.png")] == ["light", None]
    again.close()
    curate([folder], catalogue, policy())
    clips = {row["location"].rsplit("/", 1)[1]: row for row in Catalogue(catalogue).clips().to_pylist()}
    assert "grey10.png" in clips
    assert "grey40.png" not in clips
    assert clips["grey120.png"]["caption"] == "a light grey"
    assert clips["grey120.png"]["class_name"] == "light"
    assert clips["video0.mp4"]["caption"] is None


def test_copies_stand_beside_the_one_kept(page):
    found = page.get("/groups").json()
    assert found["total"] == 1
    assert [[name(row) for row in group] for group in found["groups"]] == [["grey80.png", "same80.png"]]
    assert page.get("/groups", params={"reason": "dark"}).json()["total"] == 0


def test_what_changed_between_two_runs(catalogue, folder):
    curate([folder], catalogue, policy(100.0))
    gallery = Gallery(catalogue)
    page = client(gallery)
    first, second = page.get("/runs").json()
    assert (first["changes"], first["policy"] == second["policy"]) == (8, False)
    found = page.get("/changes", params={"a": first["run"], "b": second["run"]}).json()
    assert found["policy"] == ["-rules.0.where.0.below: 50.0", "+rules.0.where.0.below: 100.0"]
    change = {"old_verdict": "keep", "old_reason": "sound and unlike the others", "new_verdict": "drop",
              "new_reason": "dark", "n": 1}  # fmt: skip
    assert change in found["changes"]
    assert sum(line["n"] for line in found["changes"]) == second["changes"]
    body = {"a": first["run"], "b": second["run"], "new": ["drop", "dark"], "old": ["keep", change["old_reason"]]}
    chosen = page.post("/changes/select", json=body).json()
    assert chosen["items"] == 1
    assert list(rows(page, selection=chosen["selection"])) == ["grey80.png"]
    whole = page.get("/changes", params={"a": 0, "b": second["run"]}).json()["changes"]
    assert {line["old_verdict"] for line in whole} == {None}
    assert sum(line["n"] for line in whole) == 8
    gallery.close()


def test_a_lasso_selects_what_lies_inside(folder, tmp_path):
    curate([folder], tmp_path / "c", policy(derived=(Relative(),)))
    gallery = Gallery(tmp_path / "c")
    page = client(gallery)
    assert page.get("/about").json()["vectors"] == ["relative.vector"]
    data = page.get("/map", params={"vector": "relative.vector"}).content
    count = int(np.frombuffer(data[:4], "<u4")[0])
    assert count == 6  # one a content; what cannot be read has none
    n = np.frombuffer(data, "<i4", count, 4)
    x, y = np.frombuffer(data, "<f4", 2 * count, 4 + 4 * count).reshape(2, count)
    assert np.abs([x, y]).max() <= 1
    middle = float(np.sort(x)[2:4].mean())
    corners = [[-2, -2], [middle, -2], [middle, 2], [-2, 2]]
    found = page.post("/map/lasso", json={"vector": "relative.vector", "polygon": corners}).json()
    inside = page.get("/items", params={"selection": found["selection"]}).json()
    assert sorted(row["n"] for row in inside["rows"]) == sorted(n[x < middle].tolist())
    fits = page.get("/map/matching", params={"vector": "relative.vector", "reason": "dark"}).content
    assert sorted(n[np.frombuffer(fits, np.uint8) == 1]) == sorted(
        row["n"] for row in rows(page, reason="dark").values()
    )
    by = page.get("/map/colours", params={"vector": "relative.vector", "by": "verdict"}).json()
    assert by["values"] == ["keep", "drop"]
    assert sorted(bytes.fromhex(by["codes"])) == [0, 0, 0, 0, 1, 1]
    gallery.close()
    again = Gallery(tmp_path / "c")
    assert client(again).get("/map", params={"vector": "relative.vector"}).content == data
    again.close()


@pytest.mark.parametrize(("agreed", "judged"), [(0, 1), (1, 1), (3, 7), (0, 40), (50, 50), (97, 100)])
def test_intervals_are_wilsons(agreed, judged):
    truth = binomtest(agreed, judged).proportion_ci(method="wilson")
    assert wilson(agreed, judged) == pytest.approx((truth.low, truth.high), abs=1e-6)


def test_a_sample_estimates_precision_and_what_was_missed(page, folder, catalogue):
    asked = page.get("/sample", params={"size": 100}).json()
    assert sorted(name(row) for row in asked) == sorted(
        ["grey10.png", "grey40.png", "grey80.png", "grey120.png", "grey200.png", "video0.mp4"]  # one of equal ones
    )
    for row in asked:
        verdict = "drop" if name(row) in ("grey10.png", "grey200.png") else "keep"
        said = {"ids": [row["id"]], "verdict": verdict, "person": "ada", "reason": "random sample"}
        page.post("/judge", json=said)
    seen = page.get("/estimates").json()
    low, high = wilson(1, 2)
    assert seen["rules"] == [
        {"rule": "dark", "clips": 2, "judged": 2, "agreed": 1, "precision": 0.5, "low": low, "high": high}
    ]
    assert (seen["kept"]["judged"], seen["kept"]["missed"], seen["recall"]) == (4, 0.25, 0.5)
    assert page.get("/sample").json() == []
    curate([folder], catalogue, policy())  # where people overrule the rules, what these said is still known
    again = Gallery(catalogue)
    assert client(again).get("/estimates").json() == seen
    again.close()


def test_what_it_refuses(page, catalogue):
    for bad in ({"measure": "bright.mean; drop table item"}, {"sort": "n; --"}, {"column": "1=1 or kind"}):
        assert page.get("/items", params=bad).status_code == 400
    assert page.get("/items", params={"limit": 10**6}).status_code == 422
    assert page.get("/sheets", params={"by": "id) --"}).status_code == 400
    assert page.get("/thumbnails", params={"n": "1;2"}).status_code == 422
    assert page.get("/map", params={"vector": "../../etc/passwd"}).status_code == 400
    assert page.get("/preview/999").status_code == 400
    for path in ("/media/..%2f..%2fetc%2fpasswd", "/page/..%2flook.py", "/page/look.py", "/catalogue.json"):
        assert page.get(path).status_code in (404, 422)
    assert page.post("/judge", json={"ids": ["x"], "verdict": "maybe", "person": "x"}).status_code == 422
    assert page.get("/about", headers={"host": "evil.example"}).status_code == 403
    body = {"ids": [], "verdict": "keep", "person": "x"}
    assert page.post("/judge", json=body | {"ids": ["nothing"]}).status_code == 400
    assert page.post("/judge", json=body, headers={"origin": "http://evil.example"}).status_code == 403
    assert not (catalogue / "judgements").exists()


def test_a_wrong_path_is_said_before_a_port_that_is_taken(tmp_path, made):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match="nosuch"):
            serve(tmp_path / "nosuch", "127.0.0.1", port)
        with pytest.raises(UserError, match=f"cannot serve at 127.0.0.1:{port}"):
            serve(made, "127.0.0.1", port)


def test_a_token_opens_it_elsewhere(gallery):
    page = TestClient(app(gallery, "secret"), base_url="http://studio:8765")
    assert page.get("/about").status_code == 403
    assert page.get("/page/look.js").status_code == 403
    assert page.get("/about", params={"token": "wröng"}).status_code == 403
    assert page.get("/?token=secret").status_code == 200
    assert page.get("/about").status_code == 200  # by its cookie

"""The page's server: what it answers, what it refuses, and that judgements count."""

import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from diorama.data import Catalogue, Curation, Drop, Where, curate
from diorama.media import write_png
from diorama.serve.gallery import Gallery
from diorama.serve.look import app
from tests.data.make import media_folder
from tests.data.toy import Bright

POLICY = Curation(stages=(Bright(),), rules=(Drop("dark", (Where("bright.mean", below=50),)),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = media_folder(tmp_path_factory.mktemp("look") / "media", stills=0, videos=1)
    for level in (10, 40, 80, 120, 200):
        write_png(folder / f"grey{level}.png", np.full((300, 400, 3), level, np.uint8))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture
def page(folder, tmp_path):
    curate([folder], tmp_path / "c", POLICY)
    gallery = Gallery(tmp_path / "c")
    yield TestClient(app(gallery), base_url="http://127.0.0.1:8765")
    gallery.close()


def names(answer) -> list[str]:
    return [row["location"].rsplit("/", 1)[1] for row in answer.json()["rows"]]


def test_what_it_knows(page):
    about = page.get("/about").json()
    assert about["items"] == 7
    assert {(r["verdict"], r["n"]) for r in about["reasons"]} == {("keep", 4), ("drop", 2), ("drop", 1)}
    assert {"bright.mean", "bright.most"} <= set(about["measures"])
    assert "bright.frames" not in about["measures"]
    assert "<title>diorama look</title>" in page.get("/").text


def test_items_by_verdict_measure_and_words(page):
    dark = page.get("/items", params={"reason": "dark"})
    assert names(dark) == ["grey10.png", "grey40.png"]
    assert dark.json()["rows"][1]["threshold"] == 50
    params = {"measure": "bright.mean", "low": 40, "high": 120, "sort": "measure", "down": True}
    bright = page.get("/items", params=params)
    assert [n for n in names(bright) if n.startswith("grey")] == ["grey120.png", "grey80.png", "grey40.png"]
    assert bright.json()["rows"][-1]["shown"] == 40
    assert names(page.get("/items", params={"words": "video 0"})) == ["video0.mp4"]
    one = page.get("/items", params={"limit": 1, "offset": 2}).json()
    assert (one["total"], len(one["rows"])) == (7, 1)


def test_a_histogram_counts_every_measured_clip(page):
    seen = page.get("/histogram", params={"measure": "bright.mean"}).json()
    assert (seen["low"], seen["high"]) == (10, 200)
    assert (sum(seen["keep"]), sum(seen["drop"])) == (4, 2)


def test_pictures(page):
    rows = {row["location"].rsplit("/", 1)[1]: row["n"] for row in page.get("/items").json()["rows"]}
    preview = np.asarray(Image.open(io.BytesIO(page.get(f"/preview/{rows['grey80.png']}").content)))
    assert preview.shape == (192, 256, 3)
    assert abs(int(preview.mean()) - 80) <= 1
    assert page.get(f"/preview/{rows['broken.png']}").status_code == 200
    assert page.get(f"/media/{rows['broken.png']}").status_code == 404  # whatever is no media is not handed out
    media = page.get(f"/media/{rows['grey80.png']}")
    assert np.asarray(Image.open(io.BytesIO(media.content))).shape == (300, 400, 3)
    assert media.headers["content-security-policy"] == "sandbox"
    assert "bright: mean 80" in page.get(f"/explain/{rows['grey80.png']}").text


def test_a_judgement_is_shown_again_and_counts_in_the_next_curation(page, folder, tmp_path):
    rows = {row["location"].rsplit("/", 1)[1]: row["id"] for row in page.get("/items").json()["rows"]}
    body = {"ids": [rows["grey10.png"]], "verdict": "keep", "person": "ada"}
    assert page.post("/judge", json=body).json() == {"judged": 1}
    gallery = Gallery(tmp_path / "c")  # as after a restart
    again = TestClient(app(gallery), base_url="http://localhost").get("/items", params={"reason": "dark"}).json()
    gallery.close()
    assert [row["judged"] for row in again["rows"]] == ["keep", None]
    curate([folder], tmp_path / "c", POLICY)
    kept = {c.rsplit("/", 1)[1] for c in Catalogue(tmp_path / "c").clips()["location"].to_pylist()}
    assert "grey10.png" in kept
    assert "grey40.png" not in kept


def test_what_it_refuses(page, tmp_path):
    assert page.get("/items", params={"measure": "bright.mean; drop table item"}).status_code == 400
    assert page.get("/items", params={"sort": "n; --"}).status_code == 400
    assert page.get("/items", params={"limit": 10**6}).status_code == 422
    assert page.get("/preview/999").status_code == 400
    assert page.get("/media/..%2f..%2fetc%2fpasswd").status_code in (404, 422)
    assert page.post("/judge", json={"ids": ["x"], "verdict": "maybe", "person": "x"}).status_code == 422
    assert page.get("/about", headers={"host": "evil.example"}).status_code == 403
    body = {"ids": [], "verdict": "keep", "person": "x"}
    assert page.post("/judge", json=body | {"ids": ["nothing"]}).status_code == 400
    assert page.post("/judge", json=body, headers={"origin": "http://evil.example"}).status_code == 403


def test_a_token_opens_it_elsewhere(folder, tmp_path):
    curate([folder], tmp_path / "c", POLICY)
    gallery = Gallery(tmp_path / "c")
    page = TestClient(app(gallery, "secret"), base_url="http://studio:8765")
    assert page.get("/about").status_code == 403
    assert page.get("/about", params={"token": "wröng"}).status_code == 403
    assert page.get("/?token=secret").status_code == 200
    assert page.get("/about").status_code == 200  # by its cookie
    gallery.close()

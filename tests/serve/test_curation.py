"""The report of a curation: its numbers are the catalogue's, each opens its items, and nothing lies outside of it."""

import base64
import re
from pathlib import Path
from urllib.parse import parse_qsl

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from diorama.cli.main import app
from diorama.core import UserError
from diorama.data import Catalogue, Curation, Drop, Where, curate, judge
from diorama.data.rules import Percentile
from diorama.data.stages.preview import Preview
from diorama.media import write_mp4, write_png
from diorama.process.spectrum import rapsd
from diorama.serve.curation import share, write_curation_report
from diorama.serve.funnel import applied, funnel, unreadable
from diorama.serve.items import Filter
from diorama.serve.measured import _fall, _spectra, balances, histograms
from diorama.serve.opened import LOOK, Items, fragment
from diorama.serve.told import captions, people, provenance
from tests.data.make import media_folder, picture
from tests.data.toy import Bright, Halves, Picky
from tests.serve.page import Page

POLICY = Curation(
    stages=(Bright(), Picky(), Preview(side=64)),
    rules=(
        Drop("dark", (Where("bright.mean", below=50.0),)),
        Drop("glaring", (Where("bright.mean", above=190.0), Where("bright.most", above=100))),
        Drop("idle", (Where("bright.missing", above=1.0),)),
        Drop("tall", (Where("clip.aspect", below=Percentile(0)),)),
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Greys, four of them out of line; a copy by bytes and one by pixels; two files that cannot be read; two videos."""
    folder = media_folder(tmp_path_factory.mktemp("media") / "media", stills=3, videos=2)
    for level in (10, 40, 80, 120, 200, 220):
        write_png(folder / f"grey{level}.png", np.full((300, 400, 3), level, np.uint8))
    (folder / "again.png").write_bytes((folder / "grey80.png").read_bytes())
    cv2.imwrite(str(folder / "pixels.png"), np.full((300, 400, 3), 120, np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 0])
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "notes.md").write_text("<b>no picture</b>")
    rows = [f'{{"file_name": "grey{level}.png", "caption": "a grey <i>wall</i>", "licence": "CC0", "author": "ann"}}'
            for level in (80, 120)]  # fmt: skip
    with (folder / "metadata.jsonl").open("a") as file:
        file.write("".join(row + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def catalogue(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    out = tmp_path_factory.mktemp("curation") / "c"
    curate([folder], out, POLICY)
    ids = {Path(row["location"]).name: row["id"] for row in
           Catalogue(out).ask("select location, id from observations").to_pylist()}  # fmt: skip
    judge(out, [(ids["grey10.png"], "keep", None), (ids["still0.png"], "drop", "noise")], "ann")
    judge(out, [(ids["grey40.png"], "drop", None)], "bob")
    curate([folder], out, POLICY)
    return Catalogue(out)


@pytest.fixture(scope="module")
def items(catalogue: Catalogue) -> Items:
    return Items(catalogue)


@pytest.fixture(scope="module")
def text(catalogue: Catalogue) -> str:
    return write_curation_report(catalogue.path).read_text()


def count(catalogue: Catalogue, where: str, table: str = "decisions") -> int:
    return catalogue.ask(f"select count(*) as n from {table} where {where}")["n"][0].as_py()


def test_it_needs_nothing_beside_it(text):
    page = Page(text)
    assert all(re.match(r"data:|#", a) or a.startswith(LOOK + "#") for a in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "url(" not in text.replace("url(data:image/jpeg;base64,", "")
    assert "<i>wall</i>" not in text  # what people say is text


def test_every_link_means_as_many_items_as_its_number_says(text, items):
    links = re.findall(rf'href="{re.escape(LOOK)}#([^"]+)">See all ([\d,]+)', text)
    assert len(links) > 20
    kinds = {"low": float, "high": float}
    for address, number in links:
        given = dict(parse_qsl(address.replace("&amp;", "&"), keep_blank_values=True))
        asked = Filter(**{key: kinds.get(key, str)(value) for key, value in given.items()})
        where, values = asked.where(items.measures, items.words)
        assert items.one(f"select count(*) from shown where {where}", values) == int(number.replace(",", ""))


def test_fragments():
    assert fragment(Filter("drop", "blurred")) == "verdict=drop&reason=blurred"
    assert fragment(Filter(measure="a.b", low=0.0, high=2.5)) == "measure=a.b&low=0.0&high=2.5"
    assert fragment(Filter(column="licence")) == "column=licence"  # none of it
    assert fragment(Filter(column="licence", equals="")) == "column=licence&equals="
    assert dict(parse_qsl(fragment(Filter(reason="a&b=c #1")))) == {"reason": "a&b=c #1"}


def test_the_funnel_accounts_for_every_item(items, catalogue):
    steps = {step.name: step for step in funnel(items, applied(POLICY.text()))}
    reasons = {name: count(catalogue, f"verdict = 'drop' and actor = 'rule' and reason = '{name}'")
               for name in ("dark", "glaring", "idle", "tall")}  # fmt: skip
    assert {name: steps[name].out.count for name in reasons} == reasons
    assert reasons == {"dark": 0, "glaring": 2, "idle": 0, "tall": 0}
    assert steps["seen"].left == count(catalogue, "true", "observations") == 15
    assert steps["readable"].out.count == count(catalogue, "error is not null", "observations") == 2
    assert steps["distinct bytes"].out.count == steps["distinct pixels"].out.count == 1
    assert steps["people"].out.count == count(catalogue, "verdict = 'drop' and actor <> 'rule'") == 2
    *_, last, kept = steps.values()
    assert last.left == kept.left == count(catalogue, "verdict = 'keep'") == len(catalogue.clips())
    assert sum(number.count for _, number in unreadable(items)) == 2


def test_what_lies_at_the_edge_of_a_threshold(items):
    steps = {step.name: step for step in funnel(items, applied(POLICY.text()))}
    glaring = steps["glaring"]
    assert (glaring.metric, glaring.threshold) == ("bright.mean", 190)
    (_, out), (_, kept) = glaring.edge.sheets
    assert [Path(example.name).name for example in out] == ["grey200.png", "grey220.png"]  # the nearest first
    assert "grey120.png" in {Path(example.name).name for example in kept[:6]}
    assert steps["glaring"].what == "bright.mean > 190 and bright.most > 100"
    assert steps["tall"].what == "clip.aspect < percentile 0"


def test_histograms_count_every_distinct_clip_once(items):
    found = {h.measure: h for h in histograms(items, {"bright.mean": [(50.0, "dark")]})}
    assert found["bright.mean"].kept.count + found["bright.mean"].out.count == items.one("select count(*) from sound")
    assert "bright.missing" not in found
    assert "dark" in found["bright.mean"].figure
    names = [Path(e.name).name for _, sheet in found["bright.mean"].ends.sheets for e in sheet[:1]]
    assert names == ["grey10.png", "grey220.png"]


def test_balance_before_and_after(items, catalogue):
    found = {b.name: b for b in balances(items)}
    splits = {v.value: v.after.count for v in found["split"].values}
    assert splits == {name: count(catalogue, f"split = '{name}'", "clips") for name in splits}
    for name in ("kind", "resolution", "aspect ratio"):
        assert sum(v.before.count for v in found[name].values) == items.one("select count(*) from sound") == 11
        assert sum(v.after.count for v in found[name].values) == len(catalogue.clips())


def test_words_and_people(items, catalogue):
    said = captions(items)
    assert said.given.count == count(catalogue, "caption is not null", "clips")
    assert [(c, n.count) for c, n in said.repeated] == [("a grey <i>wall</i>", 2)]
    assert {"wall": 2, "still": 2, "video": 2}.items() <= {w: n.count for w, n in said.words}.items()
    told = {t.name: t for t in provenance(items)}
    assert [(v, n.count) for v, n in told["licence"].values] == [("CC0", 2)]
    assert told["licence"].unknown.count == len(catalogue.clips()) - 2
    spoken = people(items, applied(POLICY.text()))
    assert [(p, v, n) for p, v, n, _ in spoken.persons] == [("ann", "drop", 1), ("ann", "keep", 1), ("bob", "drop", 1)]
    overruled = {rule: (out.count, keep.count, drop.count) for rule, out, keep, drop in spoken.overruled}
    assert overruled["dark"] == (2, 1, 1)
    assert spoken.missed.count == 1


def test_what_nothing_looked_at_and_stages_that_failed(text):
    words = " ".join(Page(text).text.split())
    assert "picky 0 2" in words  # failed on both videos
    assert "no clip has a value of bright.missing" in words
    assert "kept clips that no person has judged" in words


def test_pictures_come_from_previews_or_from_the_files(folder, tmp_path, text):
    curate([folder], tmp_path / "c", Curation())
    bare = write_curation_report(tmp_path / "c").read_text()
    for page in (text, bare):
        held = dict(
            re.findall(r"\.(p\d+) \{ width: \d+px; background-image: url\(data:image/jpeg;base64,([^)]+)\)", page)
        )
        shown = re.findall(r'<div class="thumb (p\d+)" role="img" aria-label="([^"]+)"></div>', page)
        assert (
            page.count("base64,") == len(held) == 12
        )  # of 13 readable files, two of the same bytes: each picture once
        assert {name for name, _ in shown} == set(held)
        assert len(shown) > 3 * len(held)
        files = {said for name, said in shown if said.endswith(("grey80.png", "again.png"))}
        assert len(files) == 2  # the same picture says which file it stands for
    level = cv2.imdecode(np.frombuffer(base64.b64decode(held[_of(bare, "grey200.png")]), np.uint8), 0)
    assert abs(float(level.mean()) - 200) < 2
    assert "no stage Preview" in bare
    assert "no picture stored" not in bare


def _of(page: str, name: str) -> str:
    """The class of a file's picture."""
    [found] = set(re.findall(rf'class="thumb (p\d+)" role="img" aria-label="[^"]*{re.escape(name)}"', page))
    return found


def test_a_bar_opens_the_clips_that_it_counts(text, items):
    bars = re.findall(r'<a href="([^"]+)"><title>[^<]*: ([\d,]+) kept, ([\d,]+) left out</title>', text)
    assert len(bars) > 10
    for address, kept, out in bars:
        given = dict(parse_qsl(address.replace("&amp;", "&").removeprefix(LOOK + "#")))
        asked = Filter(measure=given["measure"], **{key: float(given[key]) for key in ("low", "high") if key in given})
        where, values = asked.where(items.measures, items.words)
        assert items.one(f"select count(*) from sound where {where}", values) == int(kept) + int(out)


def test_one_clip_and_nothing_else(tmp_path):
    (tmp_path / "media").mkdir()
    write_png(tmp_path / "media" / "one.png", picture(0))
    curate([tmp_path / "media"], tmp_path / "c", Curation())
    result = CliRunner().invoke(app, ["report", str(tmp_path / "c")])
    assert result.exit_code == 0, result.output
    words = " ".join(Page((tmp_path / "c" / "report.html").read_text()).text.split())
    for said in ("Every file could be read", "No clip was left out for another one", "Nobody has judged",
                 "No numbers were measured", "0 % of the clips kept", "takes 256 pixels"):  # fmt: skip
        assert said in words


def test_files_that_are_cut(tmp_path):
    (tmp_path / "media").mkdir()
    frames = np.repeat(np.uint8([20, 20, 20, 150, 150, 150]), 32 * 32 * 3).reshape(6, 32, 32, 3)
    write_mp4(tmp_path / "media" / "cut.mp4", frames, 8.0, lossless=True)
    write_mp4(tmp_path / "media" / "whole.mp4", frames[:3] + np.uint8(10), 8.0, lossless=True)
    curate([tmp_path / "media"], tmp_path / "c", Curation(cut=Halves(), stages=(Bright(),)))
    steps = {s.name: s for s in funnel(Items(Catalogue(tmp_path / "c")), [])}
    assert (steps["seen"].left, steps["cut into clips"].came, steps["kept"].left) == (2, 2, 3)
    assert steps["distinct pixels"].left == 3
    words = " ".join(Page(write_curation_report(tmp_path / "c").read_text()).text.split())
    assert "halves 0 0" in words  # the clips that a file became are none of its business


def test_a_spectrum_follows_the_power_law_that_its_pictures_have():
    rng, side = np.random.default_rng(0), 512
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    f[0, 0] = 1
    fields = [np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) / f**1.0).real for _ in range(8)]
    frames = [np.clip(128 + 30 * (x / x.std()), 0, 255).astype(np.uint8)[..., None].repeat(3, 2) for x in fields]
    power = _spectra(frames)
    assert _fall(np.median(power, axis=0)) == pytest.approx(2.0, abs=0.15)
    luma = np.stack([f[128:384, 128:384, 0] for f in frames]) / 127.5 - 1
    window = np.outer(np.hanning(256), np.hanning(256))
    windowed = (luma - luma.mean((1, 2), keepdims=True)) * window / np.sqrt((window**2).mean())
    assert power == pytest.approx(np.asarray(rapsd(windowed[..., None].astype(np.float32)))[..., 0], rel=1e-3, abs=1e-6)


def test_shares_say_no_more_than_they_know():
    pairs = {(1, 3): "33 %", (1, 4000): "0.025 %", (0, 7): "0 %", (7, 7): "100 %", (9999, 10000): "99.9 %", (0, 0): "–"}
    assert {pair: share(*pair) for pair in pairs} == pairs


def test_what_is_no_catalogue_is_named(tmp_path):
    with pytest.raises(UserError, match="not a finished catalogue"):
        write_curation_report(tmp_path)

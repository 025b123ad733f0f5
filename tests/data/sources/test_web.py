"""Fetching a list: what is fetched, what is left alone and why, how politely, and how it goes on after a kill."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes
from diorama.data import Catalogue, curate
from diorama.data.sources import web
from diorama.data.sources.transfer import Failure, address, public
from diorama.data.sources.web import LEDGER, Manners, fetch_list, names_addresses, rows
from tests.data.sources.site import Page, Site


def manners(**options) -> Manners:
    return Manners("me@example.org", **{"private": True, "delay": 0.0, "seconds": 5.0, "attempts": 1} | options)


def fetched(pages, lines, tmp_path: Path, **options):
    """The tally, the last ledger line by path, and the site, of a list of paths or rows."""
    again = options.pop("again", False)
    with Site(pages).open() as site:
        said = [{"url": site.url + line} if isinstance(line, str) else line | {"url": site.url + line["url"]}
                for line in lines]  # fmt: skip
        (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
        tally = fetch_list(tmp_path / "list.jsonl", tmp_path / "out", manners(**options), again=again)
        ledger = {line["url"].removeprefix(site.url): line for line in ledger_of(tmp_path)}
    return tally, ledger, site


def ledger_of(tmp_path: Path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "out" / LEDGER).read_text().splitlines()]


def sidecar_of(tmp_path: Path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(web, "BACK_OFF", 0.01)


def test_files_and_what_is_said_of_them(tmp_path):
    row = {"url": "/a.png", "caption": "a dot", "licence": "CC0", "Author": "Me", "score": 0.5}
    tally, _, site = fetched({"/a.png": Page(b"png", headers={"X-Robots-Tag": "nofollow"})}, [row], tmp_path)
    name = hash_bytes(b"png")
    assert (tmp_path / "out" / name[:2] / f"{name}.png").read_bytes() == b"png"
    [said] = sidecar_of(tmp_path)
    assert said.pop("retrieved").endswith("+00:00")
    assert said == {
        "url": site.url + "/a.png", "caption": "a dot", "licence": "CC0", "author": "Me", "score": 0.5,
        "final_url": site.url + "/a.png", "status": 200, "content_type": "image/png",
        "wishes": {"x-robots-tag": "nofollow"}, "file_name": f"{name[:2]}/{name}.png",
    }  # fmt: skip
    assert str(tally) == "1 of 1 fetched (100.0%), 1 of them looked for by this call"
    assert site.paths == ["/robots.txt", "/a.png"]
    assert site.visits[1].headers["user-agent"].startswith("diorama/")
    assert site.visits[1].headers["user-agent"].endswith("(+me@example.org)")
    assert site.visits[1].headers["host"] == site.url.removeprefix("http://")
    assert not (tmp_path / "out" / ".parts").exists()


def test_curate_reads_the_folder(tmp_path):
    import numpy as np

    from diorama.media import write_png

    write_png(tmp_path / "red.png", np.full((8, 8, 3), (200, 0, 0), np.uint8))
    page = Page((tmp_path / "red.png").read_bytes())
    fetched({"/r": page}, [{"url": "/r", "caption": "red", "license": "CC0"}, "/gone"], tmp_path)
    curate([tmp_path / "out"], tmp_path / "c")
    [clip] = Catalogue(tmp_path / "c").clips().to_pylist()
    assert (clip["caption"], clip["licence"], clip["origin"][-2:]) == ("red", "CC0", "/r")
    assert json.loads(clip["more"])["status"] == 200
    assert Catalogue(tmp_path / "c").ask("select count(*) as n from observations")["n"].to_pylist() == [1]


def test_every_kind_of_failure_has_its_reason(tmp_path):
    pages = {
        "/html": Page(b"<html>", headers={"Content-Type": "text/html; charset=utf-8"}),
        "/forbidden": Page(status=403),
        "/large": Page(b"x" * 2000),
        "/endless": Page(b"x" * 2000, length=-1),
        "/short": Page(b"abc", length=50),
        "/packed": Page(b"abc", headers={"Content-Encoding": "gzip"}),
        "/noai": Page(b"abc", headers={"X-Robots-Tag": "noai, noimageai"}),
        "/tdm": Page(b"abc", headers={"TDM-Reservation": "1"}),
        "/nowhere": Page(status=302),
        "/ftp": Page(status=302, headers={"Location": "ftp://127.0.0.1/x"}),
        "/ok": Page(b"ok"),
    }
    urls = [*pages, "/gone"]
    tally, ledger, _ = fetched(pages, urls, tmp_path, most_bytes=1000)
    assert {path: ledger[path]["reason"] for path in urls} == {
        "/html": "no picture or video", "/forbidden": "status 403", "/gone": "not found", "/large": "too large",
        "/endless": "too large", "/short": "broke off", "/packed": "packed", "/noai": "reserved by its server",
        "/tdm": "reserved by its server", "/nowhere": "bad redirect", "/ftp": "no web address", "/ok": None,
    }  # fmt: skip
    assert ledger["/noai"]["detail"] == "X-Robots-Tag: noai, noimageai"
    assert tally.fetched == 1
    assert tally.failed["too large"] == 2
    assert [row["url"][-3:] for row in sidecar_of(tmp_path)] == ["/ok"]
    assert len(list((tmp_path / "out").glob("??/*"))) == 1


def test_what_is_no_web_address_or_not_there(tmp_path):
    lines = ["ftp://x/a", "file:///etc/passwd", "http://me:pw@x/", "http:///a", "http://x:99999/", "not-a-host.invalid"]
    urls = [*lines, "http://a-host-that-is-not-there.invalid/a"]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps({"url": url}) + "\n" for url in urls))
    tally = fetch_list(tmp_path / "list.jsonl", tmp_path / "out", manners())
    assert tally.failed == {"no web address": 6, "no such host": 1}


def test_robots_are_honoured(tmp_path):
    text = (
        b"User-agent: *\nDisallow: /\n\nUser-agent: diorama\nDisallow: /private/\nDisallow: /*.gif$\nCrawl-delay: 0.2"
    )
    pages = {"/robots.txt": Page(text), "/a": Page(b"a"), "/private/b": Page(b"b"), "/c.gif": Page(b"c"),
             "/d": Page(b"d"), "/to": Page(status=301, headers={"Location": "/private/b"})}  # fmt: skip
    _, ledger, site = fetched(pages, ["/a", "/private/b", "/c.gif", "/to", "/d"], tmp_path)
    forbidden = [path for path, line in ledger.items() if line["reason"] == "robots.txt forbids it"]
    assert sorted(forbidden) == ["/c.gif", "/private/b", "/to"]
    assert sorted(site.paths) == ["/a", "/d", "/robots.txt", "/to"]
    visits = [visit.at for visit in site.visits[1:]]
    assert all(later - earlier > 0.19 for earlier, later in pairwise(visits))


@pytest.mark.parametrize(
    ("page", "reason"),
    [(Page(status=404), None), (Page(status=403), None), (Page(b"User-agent: *\nDisallow: /" + b"#" * 600_000),
     "robots.txt forbids it"), (Page(status=500), "robots.txt cannot be read")],
)  # fmt: skip
def test_robots_that_cannot_be_read(page, reason, tmp_path):
    _, ledger, site = fetched({"/robots.txt": page, "/a": Page(b"a"), "/b": Page(b"b")}, ["/a", "/b"], tmp_path)
    assert {line["reason"] for line in ledger.values()} == {reason}
    assert site.paths.count("/robots.txt") == 1


def test_hosts_are_asked_slowly_and_side_by_side(tmp_path):
    pages = {f"/{n}": Page(b"%d" % n) for n in range(4)}
    with Site(pages).open() as one, Site(pages).open() as two:
        lines = [{"url": f"{site.url}/{n}"} for n in range(4) for site in (one, two)]
        (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
        tally = fetch_list(tmp_path / "list.jsonl", tmp_path / "out", manners(delay=0.15))
    assert tally.fetched == 8
    for site in (one, two):
        visits = [visit.at for visit in site.visits]
        assert all(later - earlier > 0.14 for earlier, later in pairwise(visits))
        assert site.most == 1
    assert one.visits[0].at < two.visits[-1].at
    assert two.visits[0].at < one.visits[-1].at


def test_no_more_requests_at_once_than_said(tmp_path):
    pages = {f"/{n}": Page(b"0123456789", pause=0.01) for n in range(12)}
    _, _, site = fetched(pages, [*pages], tmp_path, per_host=3)
    assert 1 < site.most <= 3


def test_a_slow_server_costs_its_time_and_no_more(tmp_path):
    pages = {"/slow": Page(b"0123456789", pause=5.0), "/ok": Page(b"ok")}
    began = time.monotonic()
    _, ledger, _ = fetched(pages, ["/slow", "/ok"], tmp_path, seconds=0.3)
    assert time.monotonic() - began < 5
    assert (ledger["/slow"]["reason"], ledger["/ok"]["reason"]) == ("too slow", None)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_left_alone_as_long_as_it_asks(status, tmp_path):
    def pages(path: str, before: int) -> Page:
        if path == "/robots.txt":
            return Page(status=404)
        return Page(path.encode()) if before or path != "/a" else Page(status=status, headers={"Retry-After": "1"})

    tally, _, site = fetched(pages, ["/a", "/b"], tmp_path, attempts=2)
    assert tally.fetched == 2
    first = next(visit.at for visit in site.visits if visit.path == "/a")
    assert all(visit.at - first >= 1 for visit in site.visits[2:])  # /b waits, too


def test_a_host_that_wants_to_be_left_alone_for_long_is(tmp_path):
    pages = {f"/{n}": Page(status=503, headers={"Retry-After": "3600"}) for n in range(5)}
    tally, ledger, site = fetched(pages, [*pages], tmp_path, attempts=3)
    assert tally.failed == {"server busy": 5}
    assert len(site.paths) == 2
    assert "3,600 s" in ledger["/4"]["detail"]


def test_attempts_are_bounded(tmp_path):
    _, ledger, site = fetched({"/a": Page(status=500)}, ["/a"], tmp_path, attempts=3)
    assert site.paths.count("/a") == 3
    assert (ledger["/a"]["reason"], ledger["/a"]["detail"]) == ("server busy", "status 500")


def test_redirects_are_followed_so_far(tmp_path):
    pages = {f"/{n}": Page(status=302, headers={"Location": f"/{n + 1}"}) for n in range(3)}
    pages |= {"/3": Page(b"here"), "/loop": Page(status=301, headers={"Location": "/loop"})}
    _, ledger, site = fetched(pages, ["/0", "/loop"], tmp_path, redirects=3)
    assert ledger["/0"]["final_url"].endswith("/3")
    assert ledger["/loop"]["reason"] == "too many redirects"
    assert site.paths.count("/loop") == 4


def test_addresses_at_home_are_refused(tmp_path):
    _, ledger, site = fetched({"/a": Page(b"a")}, ["/a"], tmp_path, private=False)
    assert (ledger["/a"]["reason"], ledger["/a"]["detail"]) == ("private address", "127.0.0.1 is 127.0.0.1")
    assert site.paths == []


def test_a_name_or_a_redirect_for_home_is_refused(tmp_path, monkeypatch):
    from diorama.data.sources import transfer

    known = transfer.public
    with Site({"/secret": Page(b"s")}).open() as home:
        there = home.url.replace("127.0.0.1", "localhost")
        monkeypatch.setattr(transfer, "public", lambda ip: ip == "127.0.0.1")  # so that the other site is the Internet
        monkeypatch.setattr(transfer.socket, "getaddrinfo", lambda host, port, *_, **__: [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host.replace("localhost", "10.0.0.7"), port))])  # fmt: skip
        pages = {"/a": Page(status=302, headers={"Location": there + "/secret"})}
        _, ledger, _ = fetched(pages, ["/a"], tmp_path, private=False)
        assert (ledger["/a"]["reason"], home.paths) == ("private address", [])
    assert not known("10.0.0.7")


@pytest.mark.parametrize(
    "ip",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
     "::1", "::", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1",
     "ff0e::1"],
)  # fmt: skip
def test_addresses_that_are_not_public(ip):
    assert not public(ip)


@pytest.mark.parametrize("ip", ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"])
def test_addresses_that_are(ip):
    assert public(ip)


def test_addresses_are_spelled_one_way():
    assert address("http://Exämple.org:80/a b#part").netloc == "xn--exmple-cua.org:80"
    assert address("https://[2606:4700::1111]/x").netloc == "[2606:4700::1111]"
    with pytest.raises(Failure, match="no web address"):
        address("javascript:alert(1)")


def test_what_is_done_is_not_asked_for_again(tmp_path):
    page = Page(b"a")
    with Site({"/a": page, "/b": Page(status=404)}).open() as site:
        path = tmp_path / "list.csv"
        path.write_text(f"url,caption\n{site.url}/a,one\n{site.url}/b,two\n")
        assert fetch_list(path, tmp_path / "out", manners()).failed == {"not found": 1}
        asked = len(site.paths)
        path.write_text(f"url,caption\n{site.url}/a,another\n{site.url}/b,two\n")
        tally = fetch_list(path, tmp_path / "out", manners())
        assert (tally.new, tally.fetched, len(site.paths)) == (0, 1, asked)
        assert sidecar_of(tmp_path)[0]["caption"] == "another"
        site.pages["/b"] = Page(b"b")
        assert fetch_list(path, tmp_path / "out", manners(), again=True).new == 1
        assert site.paths.count("/a") == 1
        assert [row["caption"] for row in sidecar_of(tmp_path)] == ["another", "two"]
        path.write_text(f"url\n{site.url}/c\n")
        fetch_list(path, tmp_path / "out", manners())
        assert len(sidecar_of(tmp_path)) == 2  # another list adds to the folder


def test_a_line_that_was_cut_off_is_asked_for_again(tmp_path):
    fetched({"/a": Page(b"a")}, ["/a"], tmp_path)
    ledger = tmp_path / "out" / LEDGER
    line = ledger.read_text()
    ledger.write_text(line + line[:40])
    tally = fetch_list(tmp_path / "list.jsonl", tmp_path / "out", manners())
    assert (tally.new, tally.fetched) == (0, 1)
    assert ledger.read_text() == line


PROGRAM = """
import sys
from pathlib import Path
from diorama.data.sources.web import Manners, fetch_list
fetch_list(Path(sys.argv[1]), Path(sys.argv[2]), Manners("me@example.org", delay=0.05, at_once=2, private=True))
"""


def test_a_kill_costs_nothing_that_was_done(tmp_path):
    pages = {f"/{n}": Page(b"%d" % n * 1000, pause=0.005) for n in range(30)}
    with Site(pages).open() as site:
        path, out = tmp_path / "list.jsonl", tmp_path / "out"
        path.write_text("".join(json.dumps({"url": site.url + page, "caption": page}) + "\n" for page in pages))
        child = subprocess.Popen([sys.executable, "-c", PROGRAM, str(path), str(out)])
        while len(site.paths) < 8:
            assert child.poll() is None
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        done = {line["url"].removeprefix(site.url) for line in ledger_of(tmp_path)}
        assert 0 < len(done) < 30
        tally = fetch_list(path, out, manners())
    assert (tally.fetched, tally.new) == (30, 30 - len(done))
    assert all(site.paths.count(page) == 1 for page in done)
    assert sorted(row["caption"] for row in sidecar_of(tmp_path)) == sorted(pages)
    for row in sidecar_of(tmp_path):
        assert (out / row["file_name"]).read_bytes() == pages[row["caption"]].body
    assert len(list(out.glob("??/*"))) == 30


def test_only_one_call_writes_to_a_folder(tmp_path):
    from diorama.core.files import sole_writer

    (tmp_path / "list.jsonl").write_text('{"url": "http://x.invalid/"}\n')
    with sole_writer(tmp_path / "out", "fetching into"), pytest.raises(UserError, match="fetching into"):
        fetch_list(tmp_path / "list.jsonl", tmp_path / "out", manners())


def test_lists_of_every_form(tmp_path):
    table = pa.table(
        {"URL": ["http://x/1", None], "TEXT": ["a", "b"], "score": [0.5, float("nan")], "raw": [b"1", b"2"]}
    )
    pq.write_table(table, tmp_path / "l.parquet")
    (tmp_path / "l.csv").write_text("\ufeffURL,TEXT,score\nhttp://x/1,a,0.5\n,b,\n")
    (tmp_path / "l.jsonl").write_text(
        '{"URL": "http://x/1", "TEXT": "a", "score": 0.5}\n\n{"TEXT": "b", "url": null}\n'
    )
    expected = [{"url": "http://x/1", "text": "a", "score": 0.5}, {"text": "b"}]
    assert list(rows(tmp_path / "l.parquet")) == list(rows(tmp_path / "l.jsonl")) == expected
    assert list(rows(tmp_path / "l.csv")) == [expected[0] | {"score": "0.5"}, {"text": "b"}]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("l.txt", "http://x", r"ends in none of .csv, .jsonl and .parquet"), ("l.csv", "url,a\nx,1,2\n", "row 1"),
        ("l.jsonl", "{", "is no list"), ("l.jsonl", '["a"]\n', "row 1"), ("l.parquet", "x", "is no list"),
        ("l.csv", "caption\nx\n", "names no web address"), ("l.jsonl", '{"url": ""}\n', "names no web address"),
    ],
)  # fmt: skip
def test_lists_that_are_none(name, text, said, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        fetch_list(tmp_path / name, tmp_path / "out", manners())
    with pytest.raises(UserError, match="cannot be read"):
        fetch_list(tmp_path / "missing.csv", tmp_path / "out", manners())


def test_lists_of_addresses_are_told_from_lists_of_files(tmp_path):
    texts = {
        "a.csv": "url,caption\nx,y\n",
        "b.csv": "file_name,url\nx,y\n",
        "c.csv": "caption\nx\n",
        "d.txt": "http://x",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    pq.write_table(pa.table({"image": [b"x"], "url": ["y"]}), tmp_path / "e.parquet")
    pq.write_table(pa.table({"URL": ["y"]}), tmp_path / "f.parquet")
    assert [p.name for p in sorted(tmp_path.iterdir()) if names_addresses(p)] == ["a.csv", "f.parquet"]


@pytest.mark.parametrize("contact", ["", "me", "me@x\r\nEvil: 1", "mé@x"])
def test_a_contact_is_needed(contact):
    with pytest.raises(UserError, match="is no contact"):
        Manners(contact)


def test_a_file_that_was_deleted_is_fetched_anew(tmp_path):
    with Site({"/a": Page(b"a")}).open() as site:
        (tmp_path / "l.csv").write_text(f"url\n{site.url}/a\n")
        fetch_list(tmp_path / "l.csv", tmp_path / "out", manners())
        [file] = (tmp_path / "out").glob("??/*")
        file.unlink()
        assert fetch_list(tmp_path / "l.csv", tmp_path / "out", manners()).new == 1
        assert file.exists()


def test_a_dead_host_costs_its_attempts_once(tmp_path):
    pages = {f"/{n}": Page(b"x") for n in range(6)} | {"/robots.txt": Page(status=500)}
    tally, _, site = fetched(pages, [f"/{n}" for n in range(6)], tmp_path, attempts=3)
    assert tally.failed == {"robots.txt cannot be read": 6}
    assert site.paths == ["/robots.txt"] * 3


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes a certificate, is not installed")
def test_certificates_are_checked_against_the_name(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    subprocess.run([*make, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    site = Site({"/a": Page(b"a")})
    site.secure(certificate, key)
    with site.open():

        def reason() -> str | None:
            (tmp_path / "l.csv").write_text(f"url\n{site.url}/a\n")
            fetch_list(tmp_path / "l.csv", tmp_path / "out", manners(), again=True)
            return ledger_of(tmp_path)[-1]["reason"]

        assert reason() == "bad certificate"  # signed by nobody known
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert reason() == "bad certificate"  # it is for localhost, not for 127.0.0.1
        site.url = site.url.replace("127.0.0.1", "localhost")
        assert reason() is None

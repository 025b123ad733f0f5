"""`diorama fetch`, as it is typed."""

import typer
from typer.testing import CliRunner

from diorama.cli.fetch import fetch
from tests.data.sources.site import Page, Site

app = typer.Typer()
app.command()(fetch)


def test_a_list_is_fetched_and_every_option_counts(tmp_path):
    with Site({"/a": Page(b"a"), "/b": Page(b"b" * 5000)}).open() as site:
        path = tmp_path / "urls.csv"
        path.write_text(f"url\n{site.url}/a\n{site.url}/b\n")
        args = [str(path), "--out", str(tmp_path / "out"), "--contact", "me@example.org", "--delay", "0"]
        home = CliRunner().invoke(app, args)
        assert "not fetched 2: private address" in home.output
        assert "asked only with --private --again" in home.output
        done = CliRunner().invoke(app, [*args, "--private", "--megabytes", "0.002", "--again", "--at-once", "2"])
    assert done.exit_code == 0, done.output
    assert "asked only" not in done.output
    assert "1 of 2 fetched (50.0%)" in done.output
    assert "not fetched 1: too large" in done.output
    assert f"next: diorama curate {tmp_path / 'out'} --out catalogue" in done.output
    assert len(list((tmp_path / "out").glob("??/*.png"))) == 1


def test_a_contact_is_asked_for(tmp_path):
    assert CliRunner().invoke(app, ["urls.csv", "--out", str(tmp_path)]).exit_code == 2

"""Progress: one line in a log, nothing when it is not wanted."""

from diorama.core.progress import progress


def test_one_line_at_the_end_where_there_is_no_terminal(capsys):
    with progress(10, "curating", "clips", done=4) as bar:
        for _ in range(6):
            bar.advance()
        bar.note("loss 0.1")
        assert capsys.readouterr().err == ""
    seen = capsys.readouterr()
    assert seen.out == ""
    assert len(seen.err.splitlines()) == 1
    assert "curating" in seen.err
    assert "10/10" in seen.err
    assert "loss 0.1" in seen.err


def test_a_line_now_and_then_in_a_log(capsys, monkeypatch):
    monkeypatch.setattr("diorama.core.progress.QUIET", 0.0)
    with progress(10, "denoiser", "examples") as bar:
        bar.advance(4)
        bar.note("loss 0.5")
        assert capsys.readouterr().err == "denoiser 4/10 loss 0.5\n"


def test_silent_when_not_wanted(capsys):
    with progress(2, "x", show=False) as bar:
        bar.advance(2)
    assert capsys.readouterr() == ("", "")

"""The command line's manners: help, errors in one sentence, exit codes."""

import errno
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import jax
import pytest

from diorama.cli.main import main
from tests.data.make import media_folder

FORMS = ("Folders", "ZIP", "TAR", "CSV", "JSON", "Parquet", "Arrow", "Lance", "IDX", "NPZ")
COMMANDS = ("demo", "curate", "train", "sample", "evaluate", "report")
TINY = str(Path(__file__).with_name("tiny.py"))


def run(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `diorama args`."""
    with pytest.raises(SystemExit) as left:
        main([*map(str, args)])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"Example:  diorama {command}" in out


def test_help_of_curate_names_every_form_it_reads(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "curate", "--help")
    assert [form for form in FORMS if form not in out] == []


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    code = "import diorama.cli.main, sys; print({'jax', 'numpy', 'lance', 'av'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize(
    "args", [("paint",), ("train", "digits"), ("curate", "x"), ("sample", "x", "--count", "0"), ("demo", "--fast")]
)
def test_a_wrong_command_line_exits_with_2(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *args)
    assert code == 2
    assert "Error" in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("train", "digitz", "--data", "c"), "did you mean 'digits'?"),
        (("train", "nothing.py", "--data", "c"), "nothing.py is no file"),
        (("train", "digits", "--data", "c"), "diorama curate"),
        (("train", "digits", "--data", "c", "--set", "denoiser.train.exampels=3"), "'denoiser.train.examples'"),
        (("train", "digits", "--data", "c", "--set", "seed"), "path=value"),
        (("train", "digits", "--data", "c", "--set", "seed=x"), "it takes int"),
        (("train", "digits", "--data", "c", "--set", "denoiser.align=Dispersive"), "a list of components"),
        (("curate", "nowhere", "--out", "c"), "nowhere"),
        (("sample", "nowhere"), "nowhere is not a run"),
        (("evaluate", "nowhere"), "nowhere is not a run"),
        (("evaluate", "nowhere", "--scales", "1,4"), "--scales 1,4 is for --guidance-sweep"),
        (("report", "nowhere"), "there is no folder nowhere"),
        (("report", "photos"), "photos is neither a run nor a finished catalogue"),
        (("tag", "nowhere", "v1"), "there is no folder nowhere"),
        (("tag", "photos", "v1"), "photos is not a finished catalogue"),
        (("curate", "photos/list.csv", "--out", "c"), "list.csv holds no clips"),
        (
            ("curate", "photos", "--out", "c", "--recipe", "curate_still"),
            "use one of curate_labelled, curate_stills, curate_videos, or",
        ),
        (
            ("train", "digitz", "--data", "c"),
            "use one of cifar10_class, digits, emoji_text, latent_video, panda_text, weizmann",
        ),
    ],
)
def test_a_wrong_request_exits_with_1_and_one_sentence(
    args: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "list.csv").write_text("file_name,caption\n")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *args)
    assert code == 1
    assert out == ""
    assert err.startswith("diorama: ")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"), [("x = 1\n", "no function recipe()"), ("def recipe():\n    return 3\n", "returned a int")]
)
def test_a_file_that_is_no_recipe(text: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(text)
    code, _, err = run(capsys, "train", tmp_path / "mine.py", "--data", "c")
    assert code == 1
    assert said in err


def test_your_own_recipes_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diorama.cli import recipes

    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "digits.py").write_text(Path(TINY).read_text())
    monkeypatch.chdir(tmp_path)
    assert recipes.resolve("digits", []).name == "tiny"
    assert "latent_video" in recipes.known()


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("diorama.data.curate", broken, raising=False)
    with pytest.raises(ZeroDivisionError):
        main(["curate", "x", "--out", "c"])


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError("LanceError(IO): No space left on device (os error 28), /build/lance-file/src/writer.rs:190:9"),
        duckdb.IOException('IO Error: Could not write file "/c/cache/y.parquet": No space left on device'),
    ],
)
def test_a_full_disk_is_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("diorama.data.curate", full, raising=False)
    code, _, err = run(capsys, "curate", "x", "--out", "c")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("diorama: No space left on device: make room there")


def test_too_little_memory_on_the_device_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: object, **options: object) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 87135393728 bytes.\nDetails")

    monkeypatch.setattr("diorama.data.curate", full, raising=False)
    code, _, err = run(capsys, "curate", "x", "--out", "c")
    assert (code, err.count("\n")) == (1, 1)
    assert "(Out of memory allocating 87135393728 bytes): give buckets a smaller batch" in err


@pytest.mark.parametrize("error", [OSError("cannot identify image file"), ConnectionRefusedError(111, "refused")])
def test_not_every_error_of_the_system_is_a_disk(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("diorama.data.curate", broken, raising=False)
    with pytest.raises(type(error)):
        main(["curate", "x", "--out", "c"])


def test_a_place_that_cannot_be_written_to_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    media_folder(tmp_path / "in", stills=2, videos=0)
    (tmp_path / "file").write_text("")
    assert run(capsys, "curate", tmp_path / "in", "--out", tmp_path / "c")[0] == 0
    for args in (
        ("curate", tmp_path / "in", "--out", tmp_path / "file"),
        ("curate", tmp_path / "in", "--out", tmp_path / "file" / "c"),
        ("export", tmp_path / "c", "--out", tmp_path / "file" / "out"),
    ):
        code, _, err = run(capsys, *args)
        assert (code, err.count("\n")) == (1, 1)
        assert err.startswith(f"diorama: {tmp_path / 'file'}")
        assert "a file lies where a folder is to be" in err


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "curate", media_folder(tmp_path / "in", stills=2, videos=0), "--out", "/proc/c")
    assert (code, err) == (1, "diorama: /proc/c: No such file or directory: name another place\n")


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diorama.data.curate", interrupted, raising=False)
    code, _, err = run(capsys, "curate", "x", "--out", "c")
    assert code == 130
    assert "diorama: stopped: run the same command again to go on\n" in err


def test_stopping_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from diorama.train import Stopped

    def stopped(*args: object) -> None:
        raise Stopped("codec", 12_800, 15)

    monkeypatch.setattr("diorama.run.train_run", stopped)
    monkeypatch.setattr("diorama.data.Catalogue", lambda path, release: path, raising=False)
    monkeypatch.setattr("diorama.run.examples.clips", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["diorama", "train", "digits", "--data", "my clips"])
    code, _, err = run(capsys, "train", "digits", "--data", "my clips")
    assert code == 143
    assert "12,800" in err
    assert "diorama train digits --data 'my clips'" in err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version")[:2] == (0, f"diorama {importlib.metadata.version('diorama')}\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_like_it", "line 1: ModuleNotFoundError"),
        ("def recipe(:", "line 1: SyntaxError"),
        ("def recipe():\n    return Run(3)", "line 2: NameError"),
    ],
)
def test_a_broken_recipe_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "train", "mine.py", "--data", tmp_path)
    assert code == 1
    assert "mine.py, " + said in err


def test_evaluate_changes_what_does_not_train(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config.txt").write_text("")
    code, _, err = run(capsys, "evaluate", tmp_path, "--set", "denoiser.train.examples=5")
    assert code == 1
    assert "only sampling.* and evaluation.*" in err

"""What curation runs elsewhere: a pure function of tables that knows no engine."""

import pickle
import subprocess
import sys
import zipfile

import pyarrow as pa
import pytest

from diorama.core.errors import UserError
from diorama.data.observe import GONE, WORK, Observer, Work, identity
from diorama.data.runners import RUNNERS, Local, named
from diorama.data.sources import Item, listing
from diorama.media import Limits
from tests.data.make import media_folder
from tests.data.toy import Bright, Fatal, Halves

STAGES = (Halves(), Bright(), Fatal())
OBSERVER = Observer(STAGES, Limits(), 7)
SAID = {"caption": "a", "label": 3, "actions": [0, 1], "rate": 2.5, "frame_width": 8, "more": '{"x": 1}'}


def test_works_survive_being_a_table():
    works = [
        Work(Item("/a", "/", "1", SAID), STAGES[1:], cut=STAGES[0]),
        Work(Item("/b", "/", "2"), (), "id", part=(1.5, 12)),
        Work(Item("/c", "/", GONE), ()),
    ]
    table = OBSERVER.table(works)
    assert table.schema == WORK
    assert OBSERVER._works(table) == works


def test_one_row_a_row_in_any_division(tmp_path):
    folder = media_folder(tmp_path / "in", stills=3, videos=2)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with zipfile.ZipFile(folder / "more.zip", "w") as file:
        file.write(folder / "still0.png", "in.png")
    works = [Work(item, (Bright(),), cut=Halves(250)) for item in listing(folder)]
    observer = pickle.loads(pickle.dumps(Observer((Halves(250), Bright()), Limits(), 7)))
    told: list[int] = []
    table = observer.table(works)
    with observer.open(2) as look:
        whole = look(table, told.append)
        parts = [look(table.slice(k, 2), told.append) for k in range(0, len(table), 2)]
    assert whole.column_names == ["item", "halves", "bright"]
    assert len(whole) == len(works) == sum(told) / 2
    assert pa.concat_tables(parts).to_pylist() == whole.to_pylist()
    rows = whole.to_pylist()
    assert {row["item"]["run"] for row in rows} == {7}
    for work, row in zip(works, rows, strict=True):
        assert row["item"]["location"] == work.item.location
        assert (row["bright"] is None) == (row["item"]["id"] is None) == (row["item"]["error"] is not None)
    assert sum(row["bright"] is None for row in rows) == 1
    assert rows[-1]["item"]["id"] == identity(folder / "video1.mp4")


def test_no_rows_are_no_rows():
    with OBSERVER.open(1) as look:
        assert look(OBSERVER.table([]), lambda n: None).num_rows == 0


def test_rows_that_cannot_be_looked_at_say_so():
    works = [Work(Item("/a", "/", "1", {"caption": "a"}), (Bright(),)), Work(Item("/b", "/", "2"), (Bright(),), "id")]
    new, known = OBSERVER.failed(OBSERVER.table(works), "ended").to_pylist()
    assert (new["item"]["error"], new["item"]["caption"], new["bright"]) == ("ended", "a", None)
    assert (known["item"], known["bright"]["id"], known["bright"]["error"]) == (None, "id", "ended")


def test_what_cannot_be_fetched_is_an_error_of_its_own(tmp_path, monkeypatch):
    folder = media_folder(tmp_path / "in", stills=3, videos=0)
    works = [Work(item, ()) for item in listing(folder)]
    from diorama.data import observe

    def fetch(location: str) -> object:
        if location.endswith("still1.png"):
            raise pa.ArrowInvalid("a column is damaged")
        return real(location)

    real = observe.fetch
    monkeypatch.setattr(observe, "fetch", fetch)
    with OBSERVER.open(1) as look:
        rows = look(OBSERVER.table(works), lambda n: None)["item"].to_pylist()
    assert [row["error"] for row in rows] == [None, "cannot be fetched: a column is damaged", None]


def test_what_goes_away_after_decoding_is_an_error_of_its_own(tmp_path, monkeypatch):
    folder = media_folder(tmp_path / "in", stills=2, videos=0)
    from diorama.data import observe

    def gone(data: object, width: int | None) -> str:
        if str(data).endswith("still0.png"):
            raise FileNotFoundError(2, "No such file or directory")
        return identity(data, width)

    monkeypatch.setattr(observe, "SMALL", 0)  # larger files are read anew for their hash
    monkeypatch.setattr(observe, "identity", gone)
    with OBSERVER.open(1) as look:
        table = OBSERVER.table([Work(item, ()) for item in listing(folder)])
        rows = look(table, lambda n: None)["item"].to_pylist()
    assert [row["error"] for row in rows] == ["cannot be read: No such file or directory", None]


def test_looking_imports_no_engine():
    code = "import sys, diorama.data.observe as o; sys.exit(bool({'daft', 'ray'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_local_is_told_of_every_row(tmp_path):
    folder = media_folder(tmp_path / "in", stills=5, videos=0)
    table = OBSERVER.table([Work(item, ()) for item in listing(folder)])
    told: list[int] = []
    results = Local().run(OBSERVER, [table.slice(0, 3), table.slice(3)], 2, told.append)
    assert next(results)[0] == 0
    assert told == [1, 1, 1]
    assert [number for number, _ in results] == [1]


def test_an_unknown_runner_names_the_others():
    with pytest.raises(UserError, match="no runner 'spark': take local, daft or daft-ray"):
        named("spark")
    assert RUNNERS == ("local", "daft", "daft-ray")
    assert named("local") == Local()


@pytest.mark.parametrize(("name", "module", "extra"), [("daft", "daft", "daft"), ("daft-ray", "ray", "ray")])
def test_an_engine_that_is_not_there_says_how_to_install_it(name, module, extra, monkeypatch):
    for known in ("daft", "ray"):
        monkeypatch.delitem(sys.modules, f"diorama.data.runners.{known}", raising=False)
    if module == "ray":
        pytest.importorskip("daft")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf'{module} is not installed: pip install "diorama\[{extra}\]"'):
        named(name)

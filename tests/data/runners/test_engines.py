"""Daft, and Daft on a real Ray cluster of two worker processes, see row for row what the local runner sees."""

import os
import signal
import subprocess
import sys
import time
import uuid
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diorama.data import Catalogue, curate, observe
from diorama.media import write_mp4, write_png
from tests.data.make import media_folder, picture
from tests.data.runners.program import processes
from tests.data.runners.toy import POLICY
from tests.data.test_cut import FRAMES, RATE

ROOT = Path(__file__).resolve().parents[3]
ENGINES = {"daft": ("daft",), "daft-ray": ("daft", "ray")}
WORKER = {"daft": "daft.execution.udf_worker", "daft-ray": "ray::UDFActor"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures, videos, two of which are cut, a strip, an archive, a table, and files
    that cannot be read, or that end the process which measures them."""
    path = media_folder(tmp_path_factory.mktemp("runners") / "in", stills=6, videos=2)
    write_mp4(path / "two.mp4", FRAMES, RATE, lossless=True)
    (path / "two.txt").write_text("two scenes")
    write_mp4(path / "three.mp4", FRAMES[2:], RATE, lossless=True)
    write_png(path / "strip.png", np.concatenate([picture(k) for k in range(40, 44)], 1))
    (path / "strip.txt").write_text("four frames")
    (path / "more.json").write_text('[{"file_name": "strip.png", "frame_width": 16}]')
    write_png(path / "deadly.png", picture(70, 18, 16))
    (path / "cut_off.png").write_bytes((path / "still2.png").read_bytes()[:60])
    (path / "empty.mp4").write_bytes(b"")
    with zipfile.ZipFile(path / "archive.zip", "w") as file:
        file.write(path / "still0.png", "again.png")
        write_png(path / "only.png", picture(50))
        file.write(path / "only.png", "only.png")
    (path / "only.png").unlink()
    for k in range(3):
        write_png(path / "row.png", picture(60 + k))
        rows = [*(rows if k else []), {"image": (path / "row.png").read_bytes(), "caption": f"row {k}"}]
    (path / "row.png").unlink()
    pq.write_table(pa.Table.from_pylist(rows), path / "table.parquet")
    return path


def seen(out: Path) -> dict[str, list[dict]]:
    """Every row of every observation and decision, in a fixed order."""
    catalogue = Catalogue(out)
    rows = {}
    for name in ("observations", "decisions", *(stage.name for stage in POLICY.looking)):
        table = catalogue.ask(f"select * {'exclude (time)' if name == 'decisions' else ''} from {name}")
        rows[name] = sorted(map(str, table.to_pylist()))
    return rows


@pytest.fixture(scope="module")
def local(folder, tmp_path_factory) -> tuple[str, dict]:
    """The manifest's hash, and what the local runner saw."""
    out = tmp_path_factory.mktemp("local") / "c"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "SHARD", 2)
        summary = curate([folder], out, POLICY)
    rows = seen(out)
    assert summary.clips > 10
    assert len(rows["observations"]) > 15
    assert sum("the decoder crashed" in row for row in rows["deadly"]) == 1
    assert any("'asset': '" in row for row in map(str, Catalogue(out).clips().to_pylist()))
    return summary.hash, rows


def start(runner: str, folder: Path, out: Path, *victim: str) -> tuple[subprocess.Popen, str]:
    """The program, and a word that its environment and that of all it starts has."""
    for module in ENGINES[runner]:
        if not find_spec(module):
            pytest.skip(f"the runner {runner} needs {module}, which is not installed")
    mark = f"runner-{uuid.uuid4().hex}"
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "MARK": mark}
    command = [sys.executable, "-m", "tests.data.runners.program", runner, str(folder), str(out), *victim]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True), mark


def none_left(mark: str, before: set[int], patience: float = 120.0) -> bool:
    """Whether all processes that have `mark` end soon, and those that Ray started and renamed since `before`.

    Ray's own agents notice after about a minute that what started them was killed.
    """
    until = time.monotonic() + patience
    while (left := processes(mark, "environ") or set(processes("ray::")) - before) and time.monotonic() < until:
        time.sleep(0.2)
    return not left


@pytest.mark.parametrize("runner", ENGINES)
def test_row_for_row_though_a_worker_is_killed(runner, folder, local, tmp_path):
    before = set(processes("ray::"))
    program, mark = start(runner, folder, tmp_path / "c", WORKER[runner])
    said, _ = program.communicate(timeout=900)
    assert program.returncode == 0
    assert "killed" in said
    assert said.split()[-1] == local[0]
    for name, rows in seen(tmp_path / "c").items():
        assert rows == local[1][name], name
    assert none_left(mark, before)


@pytest.mark.parametrize(
    ("runner", "number"),
    [("daft", signal.SIGINT), ("daft", signal.SIGTERM), ("daft", signal.SIGKILL), ("daft-ray", signal.SIGKILL)],
)
def test_stopped_it_leaves_no_process_and_no_half_file(runner, number, folder, local, tmp_path):
    out = tmp_path / "c"
    before = set(processes("ray::"))
    program, mark = start(runner, folder, out)
    while program.poll() is None and not list(out.rglob("observations/**/*.parquet")):
        time.sleep(0.02)
    program.send_signal(number)
    program.communicate(timeout=120)
    assert program.returncode != 0
    assert none_left(mark, before)
    for path in out.rglob("observations/**/*.parquet"):
        if not any(part.startswith(".") for part in path.relative_to(out).parts):
            pq.read_table(path)
    again = curate([folder], out, POLICY)
    rows = seen(out)
    assert {stage.name: rows[stage.name] for stage in POLICY.looking} == {
        stage.name: local[1][stage.name] for stage in POLICY.looking
    }
    assert again.hash == local[0]


def test_one_process_runs_daft_in_one_way(monkeypatch):
    daft = pytest.importorskip("daft", reason="the runner daft is not installed")
    from diorama.core.errors import UserError
    from diorama.data.runners.daft import settle

    def refuse() -> None:
        raise RuntimeError("Cannot set runner more than once")

    monkeypatch.setattr(daft.runners, "get_or_infer_runner_type", lambda: "native")
    settle("native", refuse)
    with pytest.raises(UserError, match="start a new one"):
        settle("ray", refuse)

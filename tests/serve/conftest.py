"""The runs of `tests/run`, copied, so that what a report leaves in them disturbs nobody."""

import json
import shutil
from pathlib import Path

import pytest

from diorama.run import Folder
from tests.run.conftest import catalogue, folder

__all__ = ["catalogue", "folder"]


@pytest.fixture(scope="module")
def trained(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The tiny run with logs, as after training that was stopped once."""
    path = tmp_path_factory.mktemp("report") / "tiny"
    shutil.copytree(folder.path, path)
    for stage in ("codec", "denoiser"):
        lines = [
            {
                "examples": 4 * i,
                "seconds": 10.0 * (1 + i % 4),
                "examples_per_second": 0.4,
                "loss": 1 / (i + 1),
                "psnr": 10.0 + i,
                "loss_tau0": 0.5,
            }
            for i in range(1, 9)
        ]
        lines[3]["loss_tau0"] = None
        _write(path / stage / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        devices = {"H200 (gpu)": 8} if stage == "denoiser" else {}
        machine = {"cpu": "a <processor>", "cores": 2, "devices": devices, "processes": 1 + len(devices)}
        _write(path / stage / "machine.json", json.dumps(machine))
    return Folder.open(path)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)

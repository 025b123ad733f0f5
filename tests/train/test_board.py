"""What Weights & Biases gets, by a stand-in for its library; and by itself, offline, where it is installed."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from diorama.core import UserError, override
from diorama.core.config import parse, to_text
from diorama.train import Train, WandB, read_log, train
from tests.train.toy import OBJECTIVE, Net, data

CONFIG = Train(64, log_every=16, wandb=WandB("clips", mode="offline"))


class Library:
    """Remembers what it is asked for."""

    class Run:
        def __init__(self, given):
            self.given, self.lines, self.metrics, self.open = given, [], {}, True

        def define_metric(self, name, step_metric=None):
            self.metrics[name] = step_metric

        def log(self, line):
            assert self.open
            self.lines.append(line)

        def finish(self):
            self.open = False

    def __init__(self):
        self.runs = []
        self.errors = SimpleNamespace(Error=KeyError)

    def init(self, **given):
        self.runs.append(self.Run(given))
        return self.runs[-1]


@pytest.fixture
def library(monkeypatch):
    stand_in = Library()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    return stand_in


def test_each_start_logs_all_lines_there_are(tmp_path, library):
    folder = tmp_path / "run" / "denoiser"
    train(replace(CONFIG, examples=32), Net.init, OBJECTIVE, data(), folder, seed=0, name="denoiser")
    train(CONFIG, Net.init, OBJECTIVE, data(), folder, seed=0, name="denoiser")
    lines = [{k: v for k, v in line.items() if v is not None} for line in read_log(folder)]
    first, second = library.runs
    assert first.lines == lines[:2]
    assert second.lines == lines
    assert not first.open
    assert not second.open
    assert second.metrics == {"examples": None, "*": "examples"}
    given = second.given
    assert (given["project"], given["mode"], given["group"], given["job_type"]) == (
        "clips", "offline", "run/denoiser", "denoiser",
    )  # fmt: skip
    assert given["dir"] == str(folder)
    assert given["config"]["examples"] == 64


def test_what_is_missing_is_said(tmp_path, library, monkeypatch):
    monkeypatch.setattr(library, "init", lambda **_: {}["no key"])
    with pytest.raises(UserError, match="cannot log: 'no key'; see to it, or set mode to offline"):
        train(CONFIG, Net.init, OBJECTIVE, data(), tmp_path, seed=0)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'diorama\[wandb\]'"):
        train(CONFIG, Net.init, OBJECTIVE, data(), tmp_path, seed=0)


def test_it_is_named_in_a_configuration():
    config = override(Train(64), ["wandb=WandB", "guard=Guard", "guard.times=5", "validate=Validate"])
    assert (config.wandb, config.guard.times, config.validate.strata) == (WandB(), 5, 4)
    assert parse(to_text(config), Train) == config


def test_the_library_itself_writes_offline(tmp_path):
    pytest.importorskip("wandb")
    train(CONFIG, Net.init, OBJECTIVE, data(), tmp_path, seed=0)
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))

"""`diorama plan`: what it says of a plan. What it finds is tested in `tests/run/plan`."""

import json
from dataclasses import replace

import pytest
import typer

import diorama.run.plan as planning
from diorama.cli.plan import plan
from diorama.core.chips import chip
from diorama.core.errors import UserError
from diorama.run.plan.plan import Plan, Step, Tried
from diorama.run.plan.roofline import seconds
from tests.cli.tiny import recipe
from tests.run.plan.test_plan import ONE

H100 = chip("h100")
TOOK = seconds(ONE, H100, 8, "float32")
BEST = Tried({"data": 2, "fsdp": 4}, ONE, TOOK)


@pytest.fixture
def found(monkeypatch):
    """Takes the place of compiling: says what of a plan is changed, and what was asked for."""
    asked = {}

    def answer(**changes):
        run = recipe()
        steps = (Step("denoiser", run.denoiser.buckets[0], ONE, TOOK, "float32"),)
        made = replace(Plan(run, H100, 8, (BEST, Tried({"data": 8}, None, None, "too large")), steps), **changes)
        monkeypatch.setattr(planning, "lint", lambda run: ["lower it"])
        monkeypatch.setattr(planning, "plan", lambda *given: asked.update(given=given) or made)
        return asked

    return answer


def test_all_is_told(found, capsys, tmp_path):
    asked = found()
    plan("digits", devices=8, kind="h100", layout="data=2,fsdp=4", price=2.0, out=tmp_path / "plan.json")
    out, err = capsys.readouterr()
    assert asked["given"][1:] == (8, H100, {"data": 2, "fsdp": 4})
    assert "note: lower it" in err
    for said in ("data=2 fsdp=4", "too large", "denoiser 9x32x32, batch 4", "all-reduce", "across nodes", "at 2 each",
                 "best layout of 2 tried: --set layout.data=2 --set layout.fsdp=4",
                 "compiled for CPU devices"):  # fmt: skip
        assert said in out
    told = json.loads((tmp_path / "plan.json").read_text())
    assert told["layout"] == BEST.layout
    assert told["cost"] == 2 * told["device_hours"] > 0
    assert told["steps"][0]["total"] == ONE.memory.total


def test_one_layout_is_not_called_the_best(found, capsys):
    found(tried=(BEST,))
    plan("digits", devices=8, layout="data=2,fsdp=4")
    out = capsys.readouterr().out
    assert "the one layout tried: --set layout.data=2 --set layout.fsdp=4" in out
    assert "best" not in out


def test_the_recipes_own_layout_may_be_the_best(found, capsys):
    found(tried=(Tried({"data": 1}, ONE, TOOK), BEST))
    plan("digits", devices=8)
    assert "best layout of 2 tried: as the recipe has it" in capsys.readouterr().out


def test_that_nothing_goes_is_told(found, capsys):
    found(tried=(Tried({"data": 8}, None, None, "the state alone takes 90 GB"),), steps=())
    with pytest.raises(typer.Exit) as ended:
        plan("digits", devices=8)
    assert ended.value.exit_code == 1
    out = capsys.readouterr().out
    assert "no layout of 8 h100 takes this recipe" in out
    assert "the state alone takes 90 GB" in out


def test_size_is_that_of_the_transformer(found):
    asked = found()
    plan("digits", kind="h100", settings=["denoiser.denoiser.net=TransformerConfig"], transformer="S")
    assert asked["given"][0].denoiser.denoiser.net.width == 384


def test_chips_that_are_not_known_are_refused():
    with pytest.raises(UserError, match="--chip abacus is not known: use one of h100, h200"):
        plan("digits", kind="abacus")

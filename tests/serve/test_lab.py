"""The laboratory's page."""

import pytest

from diorama.cli.lab import lab
from diorama.cli.main import main
from diorama.core.errors import UserError
from diorama.evaluate.lab import lab as module
from diorama.serve.lab import errors_plot, figure, ranking, short, write_lab_page
from tests.serve.page import Page

STEPS = [5, 10, 20]


def row(name, **values):
    return {"name": name, "own": name == "Mine()", **values}


def errors(name, karras, cosine, evaluations=STEPS, adaptive=False):
    told = {"Karras": karras, "Cosine": cosine}
    return row(name, steps=STEPS, evaluations=evaluations, errors=told, adaptive=adaptive)


RESULTS = {
    "about": {"quick": True, "process": "EDM()", "solvers": 3, "rows": 9, "measured": 9, "seconds": 1.0,
              "machine": {"cpu": "a <processor>", "cores": 2, "devices": {}, "processes": 1}},
    "errors": [errors("Euler()", [0.3, 0.2, 0.1], [0.2, 0.1, 0.05]),
               errors("Heun()", [1.0, 0.1, 0.01], [1.0, 0.3, 0.02], [9, 19, 39]),
               errors("Mine()", [0.4, 0.2, 0.1], [0.4, 0.2, 0.1]),
               errors("Adaptive()", [1e-3] * 3, [1e-3] * 3, adaptive=True)],  # best, and nobody knows at what cost
    "orders": [row("Euler()", nominal=1, steps=STEPS, errors=[[0.4, 0.2, 0.1]] * 2, slopes=[1.0, None]),
               row("Heun()", nominal=2, steps=STEPS, errors=[[0.4, 0.3, 0.1]] * 2, slopes=[1.0, 1.2])],
    "bias": [row("DDIM(eta=1.0)", steps=[8, 32], n=100, **{
        key: [[0.1, 0.05], [0.01, 0.05]] for key in ("mean", "variance", "likelihood")})],
    "guided": [row("APG(scale=3.0)", truth="ode", scales=[2.0, 3.0], variance=[0.5, 0.3], width=[0.0, 0.01],
                   truths={"ode": [0.5, 0.25], "sde": [0.58, 0.39], "tilted": [0.67, 0.5]})],
    "spectra": [row("pictures, Heun(), 20 steps", n=64, octaves=["1–2", "2–4"], width=[0.01, 0.01], distance=0.1,
                    floor=0.1, floors=[0.1], law=[4.0, 1.0, 0.5], spectrum=[4.1, 1.0, 0.5],
                    **{"against law": [1.1, 1.0], "against map": [1.0, 1.0]}),
                row("videos, Heun(), 20 steps", n=64, octaves=["1–2", "2–4"], width=[0.01, 0.01], distance=0.1,
                    floor=0.1, floors=[0.1], law=[4.0, 1.0, 0.5], spectrum=[4.1, 1.0, 0.5],
                    **{"against law": [1.1, 1.0], "against map": [1.0, 1.0]})],
    "inversions": [row("Naive(solver=Euler())", steps=STEPS, errors=[0.1, 0.01, 1e-12])],
    "conversions": [row("EDM()", worst={"x0 → v": 1e-7, "v → x0": 2e-7})],
    "cost": [row("Euler()", steps=20, shape=[8, 1, 4, 4, 1], compile=0.5, step=0.1)],
}  # fmt: skip


def test_the_page_says_all_and_needs_nothing(tmp_path):
    page = Page(write_lab_page(RESULTS, tmp_path).read_text())
    for said in (
        "Mine (yours)",
        "1 of 2",
        "k-diffusion Heun",
        "+20.0%",
        "DDIM(eta=1.0)",
        "1.0e-12",
        "v → x0",
        "tilted law",
    ):
        assert said in page.text, said
    assert page.tags.count("svg") == 4
    assert all(address.startswith(("#", "data:")) for address in page.addresses)


def test_solvers_are_ranked_by_their_best_grid_within_the_budget():
    ten = [(row["name"], grid, count, error) for row, grid, count, error, _ in ranking(RESULTS["errors"], 10)]
    assert ten == [("Euler()", "Cosine", 10, 0.1), ("Mine()", "Karras", 10, 0.2), ("Heun()", "Karras", 9, 1.0)]


def test_of_two_equal_curves_one_is_dashed():
    one, other = errors("Euler()", [0.3, 0.2, 0.1], [0.2, 0.1, 0.05]), errors("Heun()", [0.31, 0.2, 0.1], [1, 1, 1])
    assert errors_plot([one, other]).count("stroke-dasharray") == 2  # on one grid, and in the names
    assert errors_plot([one, errors("Heun()", [0.4, 0.3, 0.2], [1, 1, 1])]).count("stroke-dasharray") == 0


def test_names_and_figures_are_short():
    assert short("DPMSolver(order=2, eta=0.0)") == "DPMSolver(order=2)"
    assert short("ClassifierFree(scale=3.0, when=Constant())") == "ClassifierFree"
    assert short("Several(scale=3.0, when=Constant(), weights=())") == "Several(weights=())"
    assert short("Churn(inner=Heun(), gamma=0.1)") == "Churn(inner=Heun, gamma=0.1)"
    assert [figure(x) for x in (0.12345, 1.2e-7, 0.0, None)] == ["0.123", "1.2e-07", "0", "–"]


def test_the_command_names_what_there_is(tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match="--process VP: choose one of RectifiedFlow, CosineVP"):
        lab(process="VP")
    seen = []
    monkeypatch.setattr(module, "run", lambda lab, out: seen.append(lab) or RESULTS)
    lab(quick=True, out=tmp_path, process="RectifiedFlow")
    assert seen[0].quick
    assert (tmp_path / "lab.html").exists()
    assert "rows: 9 measured, 0 read back" in capsys.readouterr().out


def test_a_stopped_laboratory_says_how_it_goes_on(tmp_path, monkeypatch, capsys):
    def stopped(lab, out):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run", stopped)
    with pytest.raises(SystemExit) as left:
        main(["lab", "--quick", "--out", str(tmp_path)])
    assert left.value.code == 130
    assert "the rows measured so far are kept: run the same command again to go on" in capsys.readouterr().err

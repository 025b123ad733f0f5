"""A score learned from judgements: exact where the truth is linear, and refused where there is too little to learn."""

import csv
import json

import numpy as np
import pyarrow as pa
import pytest

from diorama.core.errors import UserError
from diorama.data import Curation, Drop, Where, curate, judge
from diorama.data.embed import Score
from diorama.data.embed.score import export, fit, read_values
from diorama.data.ledger import JUDGEMENT, append
from diorama.media import write_png
from tests.data.toy import Bright, Relative

N = 200


@pytest.fixture
def clips() -> pa.Table:
    vectors = np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return pa.table({
        "id": [f"{k:03d}" for k in range(N)], "location": [f"/data/{k % 2}/{k:03d}.png" for k in range(N)],
        "embedding.vector": pa.array(vectors.tolist(), pa.list_(pa.float32())),
    })  # fmt: skip


def said(path, rows, key="id") -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([(key, "value"), *rows])
    return str(path)


def first(clips: pa.Table) -> np.ndarray:
    return np.array(clips["embedding.vector"].to_pylist())[:, 0]


def test_probabilities_follow_what_was_judged(clips, tmp_path):
    truth = first(clips) > 0
    stage = Score(said(tmp_path / "j.csv", [(f"{k:03d}", int(truth[k])) for k in range(80)]))
    value = np.array(stage.prepare(tmp_path / "m", lambda n: clips)(clips)["value"])
    assert ((value > 0) & (value < 1)).all()
    assert ((value > 0.5) == truth)[80:].mean() > 0.9  # of clips that were not judged
    report = json.loads((tmp_path / "m" / "report.json").read_text())
    assert (report["n"], report["ones"], report["kind"]) == (80, int(truth[:80].sum()), "probability")
    assert report["auc"] > 0.9


def test_values_that_are_linear_are_foretold_exactly(clips, tmp_path):
    truth = 5 + 2 * first(clips)
    stage = Score(said(tmp_path / "j.csv", [(f"{k:03d}", truth[k]) for k in range(60)]))
    value = stage.prepare(tmp_path / "m", lambda n: clips)(clips)["value"]
    np.testing.assert_allclose(value, truth, atol=1e-3)
    assert json.loads((tmp_path / "m" / "report.json").read_text())["r2"] > 0.999


def test_faint_directions_do_not_drown_strong_ones():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 300)) * np.r_[np.full(3, 0.5), np.full(297, 0.01)]
    y = (x[:, 0] > 0).astype(float)
    known = np.concatenate([np.flatnonzero(y == kind)[:20] for kind in (0, 1)])
    weight, bias, _ = fit(x[known], y[known], 0, "faint")
    assert (((x @ weight + bias) > 0) == y).mean() > 0.9


def test_judgements_by_chance_have_no_auc():
    rng = np.random.default_rng(1)
    *_, report = fit(rng.standard_normal((200, 20)), rng.permutation(np.repeat([0.0, 1.0], 100)), 0, "chance")
    assert abs(report["auc"] - 0.5) < 0.12


def test_files_may_be_named_by_any_end_of_their_path(clips, tmp_path):
    truth = first(clips)
    by_id = Score(said(tmp_path / "id.csv", [(f"{k:03d}", truth[k]) for k in range(60)]))
    by_file = Score(said(tmp_path / "file.csv", [(f"{k % 2}/{k:03d}.png", truth[k]) for k in range(60)], "file"))
    values = [stage.prepare(tmp_path / f"{k}", lambda n: clips)(clips) for k, stage in enumerate((by_id, by_file))]
    assert values[0] == values[1]


def test_a_name_of_several_clips_is_refused(clips, tmp_path):
    twice = pa.concat_tables([clips, clips.set_column(0, "id", pa.array([f"x{k}" for k in range(N)]))])
    stage = Score(said(tmp_path / "j.csv", [(f"{k:03d}.png", k) for k in range(60)], "file"))
    with pytest.raises(UserError, match="is the name of 2 clips"):
        stage.prepare(tmp_path / "m", lambda n: twice)


def test_it_is_learned_once_and_says_what_it_did_not_find(clips, tmp_path, capsys):
    stage = Score(said(tmp_path / "j.csv", [("gone", 1), *((f"{k:03d}", k) for k in range(30))]))
    before = stage.prepare(tmp_path / "m", lambda n: clips)(clips)
    assert "1 of 31 judgements are of no clip" in capsys.readouterr().err
    assert stage.prepare(tmp_path / "m", pytest.fail)(clips) == before


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(f"{k:03d}", int(k < 5)) for k in range(60)], "5 judgements of 1 and 55 of 0"),
        ([(f"{k:03d}", k) for k in range(19)], "has 19 judgements"),
        ([("000", "nice")], "line 2: 'nice' is no number"),
        ([("000", "nan")], "no finite number"),
        ([], "needs a first line"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(clips, tmp_path, rows, message):
    stage = Score(said(tmp_path / "j.csv", rows))
    with pytest.raises(UserError, match=message):
        stage.prepare(tmp_path / "m", lambda n: clips)


def test_the_file_must_be_there_and_have_its_columns(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_values(tmp_path / "none.csv")
    with pytest.raises(UserError, match="needs a first line"):
        read_values(tmp_path / said(tmp_path / "j.csv", [("a", 1)], "picture"))


def test_the_last_word_of_people_is_exported(tmp_path):
    def row(clip: str, verdict: str, nth: int) -> dict:
        return {"id": clip, "verdict": verdict, "reason": None, "person": "p", "time": "t", "nth": nth}

    rows = [row("a", "keep", 1), row("b", "keep", 2), row("a", "drop", 3), row("c", "drop", 4), row("c", "undo", 5)]
    rows.append(row("b", "caption", 6))  # is no judgement of the clip
    append(tmp_path / "judgements", "1", pa.Table.from_pylist(rows[:3], JUDGEMENT))
    append(tmp_path / "judgements", "2", pa.Table.from_pylist(rows[3:], JUDGEMENT))
    assert export(tmp_path, tmp_path / "j.csv") == 2
    assert read_values(tmp_path / "j.csv") == {"a": 0.0, "b": 1.0}
    assert export(tmp_path / "empty", tmp_path / "none.csv") == 0


def test_a_rule_uses_the_score_and_other_judgements_learn_anew(tmp_path):
    folder, out, path = tmp_path / "greys", tmp_path / "c", tmp_path / "j.csv"
    folder.mkdir()
    for level in range(0, 100, 2):
        write_png(folder / f"grey{level}.png", np.full((8, 8, 3), level, np.uint8))
    plain = Curation(stages=(Bright(),), derived=(Relative(),))
    curate([folder], out, plain)
    from diorama.data import Catalogue

    rows = Catalogue(out).ask("select id, mean from bright join observations using (id)").to_pylist()
    judge(out, [(row["id"], "keep" if row["mean"] > 50 else "drop", None) for row in rows], "someone")
    export(out, path)
    judge(out, [(row["id"], "undo", None) for row in rows], "someone")
    stage = Score(str(path), vectors="relative.vector")
    rule = Drop("dull", (Where("score.value", below=0.5),))
    summary = curate([folder], out, Curation(stages=(Bright(),), derived=(Relative(), stage), rules=(rule,)))
    assert summary.clips == 24  # 52, 54, ... 98
    folders = len(list((out / "observations" / "score").iterdir()))
    said(path, [(row["id"], int(row["mean"] < 50)) for row in rows])
    curate([folder], out, Curation(stages=(Bright(),), derived=(Relative(), stage)))
    assert len(list((out / "observations" / "score").iterdir())) == folders + 1

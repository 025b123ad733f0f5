"""A learned score: what one's own judgements of some clips say of all others."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_predict

from diorama.core.errors import UserError
from diorama.core.files import write_aside, write_text
from diorama.data.embed.vectors import over_known, stacked
from diorama.data.ledger import JUDGEMENT, connect
from diorama.data.stages.stage import Batch

LEAST = 20  # judgements of each kind; values in all
FOLDS = 5
STRENGTHS = np.logspace(-4, 2, 7)  # of regularisation, from which cross-validation chooses; for vectors of length 1
EVERY = 1 << 62  # clips of a sample: all there are


@dataclass(frozen=True)
class Score:
    """What people would say of a clip, learned from what they said of some: a linear head on an embedding.

    `judgements` is a CSV file with a column `id` or `file` (a path, or its end) and a column `value`. Where all values
    are 0 and 1, the score is the probability of 1, by logistic regression; otherwise it is a value, by ridge
    regression. `export` writes such a file of the catalogue's own judgements. The score is learned anew when the
    content of the file changes, and at no other time.

    `report.json` beside the head says what it was learned from, and how well it foretells judgements that it has not
    seen: by area under the curve (AUC: 0.5 is chance, 1 is perfect) or the share of variance explained (R²).

    vectors: the embedding, as `stage.column`.
    """

    judgements: str
    vectors: str = "embedding.vector"
    seed: int = 0
    name: ClassVar[str] = "score"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"value": float}

    @property
    def reads(self) -> tuple[str, ...]:
        """What it asks for."""
        return (self.vectors, "location")

    @property
    def weights(self) -> tuple[Path, ...]:
        """The judgements."""
        return (Path(self.judgements),)

    def prepare(self, models: Path, sample: Callable[[int], pa.Table]) -> Batch:
        """As `Derived.prepare`. Raises `UserError` where the judgements are too few or cannot be read."""
        path = models / "head.safetensors"
        if not path.exists():
            x, y = self._judged(sample(EVERY))
            weight, bias, report = fit(x, y, self.seed, self.judgements)
            write_text(models / "report.json", json.dumps(report, indent=1) + "\n")
            with write_aside(path) as aside:
                save_file({"weight": weight, "bias": bias}, aside)
        head = load_file(path)
        binary = json.loads((models / "report.json").read_text())["kind"] == "probability"

        def score(vectors: np.ndarray) -> dict[str, list[float]]:
            value = vectors.astype(np.float64) @ head["weight"] + head["bias"]
            return {"value": (1 / (1 + np.exp(-value)) if binary else value).tolist()}

        return lambda table: over_known(table[self.vectors], score, self.columns)

    def _judged(self, clips: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (n, d) and values (n,) of the clips that were judged."""
        said = read_values(Path(self.judgements))
        vectors, rows = stacked(clips[self.vectors])
        ids, places = clips["id"].take(rows).to_pylist(), clips["location"].take(rows).to_pylist()
        named = {k: name for k in range(len(rows)) if (name := _name(said, ids[k], places[k]))}
        [(most, times)] = Counter(named.values()).most_common(1) or [("", 0)]
        if times > 1:
            raise UserError(
                f"{self.judgements}: '{most}' is the name of {times} clips: give more of its path, or its id"
            )
        if len(said) > len(named):
            print(f"diorama: {self.judgements}: {len(said) - len(named):,} of {len(said):,} judgements are of no clip "
                  f"that has {self.vectors}", file=sys.stderr, flush=True)  # fmt: skip
        return vectors[list(named)], np.array([said[name] for name in named.values()], float)


def _name(said: dict[str, float], identifier: str, location: str) -> str | None:
    """By which of its names a clip was judged: its id, or its path from any folder on."""
    parts = location.split("/")
    names = (identifier, *("/".join(parts[k:]) for k in range(len(parts))))
    return next((name for name in names if name in said), None)


def export(catalogue: Path | str, path: Path | str) -> int:
    """Write what people judged in a catalogue as a file for `Score`: 1 for keep, 0 for drop, their last word on each.

    Returns how many clips were judged.
    """
    con = connect({"judgements": (Path(catalogue) / "judgements", JUDGEMENT)})
    rows = con.sql(
        "select id, (last(verdict order by nth) = 'keep')::int from judgements "
        "where verdict in ('keep', 'drop', 'undo') group by id "
        "having last(verdict order by nth) <> 'undo' order by id"
    ).fetchall()
    with write_aside(path) as aside, aside.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "value"), *rows])
    return len(rows)


def read_values(path: Path) -> dict[str, float]:
    """Values by id or file name, as a CSV file gives them; the last one of each counts.

    Raises `UserError` for a file without those columns, or with a value that is no number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from None
    key = next((name for name in ("id", "file") if rows and name in rows[0]), None)
    if key is None or "value" not in rows[0]:
        raise UserError(f"{path} needs a first line with the columns id (or file) and value, and judgements below")
    values: dict[str, float] = {}
    for line, row in enumerate(rows, start=2):
        try:
            values[row[key]] = float(row["value"])
        except (TypeError, ValueError):
            raise UserError(f"{path}, line {line}: '{row['value']}' is no number") from None
        if not np.isfinite(values[row[key]]):
            raise UserError(f"{path}, line {line}: '{row['value']}' is no finite number")
    return values


def fit(x: np.ndarray, y: np.ndarray, seed: int, source: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """The weight (d,) and bias (1,) of a head on vectors x (n, d) that foretells values y (n,), and a report of it.

    The numbers of a vector are not standardised: an embedding's faint directions tell little, and with few judgements
    to be fitted by they would drown the others. The strength of regularisation is chosen by cross-validation, and the
    figures are those of a second one around it, so they are not flattered by the choice. Raises `UserError` where there
    are too few judgements; `source` is their name in it.
    """
    binary = set(np.unique(y)) <= {0.0, 1.0}
    report: dict[str, Any] = {"judgements": source, "n": len(y)}
    if binary:
        ones, zeros = int(y.sum()), int((1 - y).sum())
        if min(ones, zeros) < LEAST:
            raise UserError(f"{source} has {ones} judgements of 1 and {zeros} of 0: a score needs {LEAST} of each")
        inner, outer = (StratifiedKFold(FOLDS, shuffle=True, random_state=seed + k) for k in (0, 1))
        logistic = LogisticRegression(max_iter=1000)
        search = GridSearchCV(logistic, {"C": 1 / STRENGTHS}, scoring="neg_log_loss", cv=inner)
        guess = cross_val_predict(search, x, y, cv=outer, method="predict_proba")[:, 1]
        report |= {"kind": "probability", "ones": ones, "zeros": zeros, "auc": float(roc_auc_score(y, guess))}
    else:
        if len(y) < LEAST:
            raise UserError(f"{source} has {len(y)} judgements: a score needs {LEAST}")
        inner, outer = (KFold(FOLDS, shuffle=True, random_state=seed + k) for k in (0, 1))
        search = GridSearchCV(Ridge(), {"alpha": STRENGTHS}, scoring="neg_mean_squared_error", cv=inner)
        report |= {"kind": "value", "r2": float(r2_score(y, cross_val_predict(search, x, y, cv=outer)))}
    head = search.fit(x, y).best_estimator_
    report |= {"strength": float(1 / head.C if binary else head.alpha), "seed": seed}
    return np.ravel(head.coef_).astype(np.float64), np.ravel(head.intercept_).astype(np.float64), report

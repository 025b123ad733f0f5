"""The scores of a generator: are its samples real-looking, varied, its own, and what was asked for?

Every function takes uint8 clips (b, t, h, w, c) of one shape and returns `Score`s. Beside each figure stands what
held-back real clips get when they take the samples' place: as many as there are samples where n matters (distances,
precision, recall), all of them where it does not (accuracies, memorisation).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from diorama.evaluate import motion
from diorama.evaluate.classifier import Judge, right
from diorama.evaluate.coverage import precision_recall
from diorama.evaluate.features import Features
from diorama.evaluate.frechet import Moments, frechet_distance
from diorama.evaluate.kernel import kernel_distance
from diorama.evaluate.memorisation import Memorised, memorisation
from diorama.evaluate.score import Better, Score

FEWEST = 8


def generation_scores(
    samples: UInt8[np.ndarray, "n t h w c"],
    real_train: UInt8[np.ndarray, "k t h w c"],
    real_test: UInt8[np.ndarray, "m t h w c"],
    features: Features,
    seed: int,
) -> list[Score]:
    """Fréchet distance, kernel distance, precision and recall of samples against the training clips.

    The floor is the held-back clips against the same training clips. n = min(samples, held-back clips) of each side
    take part, drawn by `seed`; for precision and recall, whose balls depend on it, n training clips too. Fewer than 8 a
    side say nothing about a distribution: the list is then empty.
    """
    rng = np.random.default_rng(seed)
    n = min(len(samples), len(real_test))
    if min(n, len(real_train)) < FEWEST:
        return []

    def draw(features: np.ndarray, n: int) -> np.ndarray:
        return features[np.sort(rng.permutation(len(features))[:n])]

    ours, held_back = draw(features(samples), n), draw(features(real_test), n)
    train = features(real_train)
    fewer = draw(train, n)
    whole = Moments.of(train)
    against = f"against {len(train)} training clips"

    def score(name: str, value: float, floor: float, better: Better, note: str) -> Score:
        return Score(name, value, n, seed, features.name, better, floor, note=note)

    def distance(x: np.ndarray) -> float:
        return frechet_distance(Moments.of(x), whole)

    precision, recall = precision_recall(ours, fewer)
    floor_precision, floor_recall = precision_recall(held_back, fewer)
    return [
        score("Fréchet distance", distance(ours), distance(held_back), "lower", against),
        score(
            "kernel distance",
            kernel_distance(ours, train),
            kernel_distance(held_back, train),
            "lower",
            f"{against}; unbiased: about 0 for equal laws",
        ),
        score("precision", precision, floor_precision, "higher", f"against {len(fewer)} training clips, k = 3"),
        score("recall", recall, floor_recall, "higher", f"of {len(fewer)} training clips, k = 3"),
    ]


def memorisation_score(
    samples: UInt8[np.ndarray, "n t h w c"],
    real_train: UInt8[np.ndarray, "k t h w c"],
    real_test: UInt8[np.ndarray, "m t h w c"],
    seed: int,
) -> tuple[Score, Memorised]:
    """The share of memorised samples, and the neighbours behind it. `seed` is that of the samples; nothing is drawn."""
    found = memorisation(samples, real_train, real_test)
    note = f"closer to one of {len(real_train)} training clips than 99 % of {len(real_test)} held-back clips are"
    floor = float((found.held_back <= found.threshold).mean())  # 1 %, but for what few clips allow
    return Score("memorised", found.fraction, len(samples), seed, "pixels", "lower", floor, note=note), found


def label_score(
    samples: UInt8[np.ndarray, "n t h w c"],
    wanted: Bool[np.ndarray, "n l"],
    real_test: UInt8[np.ndarray, "m t h w c"],
    real_labels: Bool[np.ndarray, "m l"],
    judge: Judge,
    seed: int,
    name: str = "label accuracy",
) -> Score:
    """The share of samples in which `judge` sees exactly the labels of their prompts (multi-hot rows).

    Beside it: its own accuracy on held-back real clips, and the samples' figure when the prompts are dealt out anew.
    """
    logits = judge.logits(samples)
    mixed = np.random.default_rng(seed).permutation(len(wanted))
    return Score(
        name,
        float(right(logits, wanted).mean()),
        len(samples),
        seed,
        judge.title,
        "higher",
        float(right(judge.logits(real_test), real_labels).mean()),
        float(right(logits, wanted[mixed]).mean()),
        f"judge's own accuracy on {len(real_test)} held-back clips under 'real'",
    )


def direction_score(
    samples: UInt8[np.ndarray, "n t h w c"],
    wanted: Sequence[str],
    real_test: UInt8[np.ndarray, "m t h w c"],
    real_directions: Sequence[str],
    seed: int,
    name: str = "direction of motion",
) -> Score:
    """The share of one-object videos that move as their prompt says (names in `motion.DIRECTIONS`), by tracking.

    Beside it: the tracker's own accuracy on held-back real clips, and the samples' figure for shuffled prompts.
    """
    seen, asked = np.array(motion.directions(samples)), np.array(wanted)
    mixed = np.random.default_rng(seed).permutation(len(asked))
    real = np.array(motion.directions(real_test)) == np.array(real_directions)
    return Score(
        name,
        float((seen == asked).mean()),
        len(samples),
        seed,
        "tracking of the centre of light",
        "higher",
        float(real.mean()),
        float((seen == asked[mixed]).mean()),
        f"tracker's own accuracy on {len(real_test)} held-back clips under 'real'",
    )

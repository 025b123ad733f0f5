import numpy as np
import pytest
from scipy.spatial.distance import cdist

from diorama.evaluate import memorisation, precision_recall
from diorama.evaluate.neighbours import nearest


def test_blocks_agree_with_every_distance_computed() -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.integers(0, 256, (n, 3, 5)).astype(np.uint8) for n in (37, 53))
    every = cdist(x.reshape(37, -1).astype(float), y.reshape(53, -1).astype(float))
    index, distance = nearest(x, y, 4, block=10)
    np.testing.assert_allclose(distance, np.sort(every, 1)[:, :4], rtol=1e-12)
    np.testing.assert_allclose(np.take_along_axis(every, index, 1), distance, rtol=1e-12)


def test_a_copy_is_at_zero_and_no_row_is_its_own_neighbour() -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 8)).astype(np.uint8)
    assert (nearest(x, x)[1] == 0).all()
    index, distance = nearest(x, x, exclude_self=True, block=7)
    assert (index[:, 0] != np.arange(30)).all()
    assert (distance > 0).all()


def test_more_neighbours_than_references_is_an_error() -> None:
    with pytest.raises(ValueError, match="4 neighbours asked of 3"):
        nearest(np.zeros((2, 4)), np.zeros((3, 4)), 4)


def test_precision_and_recall_at_their_extremes() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(300, 4))
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real + 100, real) == (0.0, 0.0)
    one_mode = np.concatenate([rng.normal(size=(150, 4)), rng.normal(50, 1, (150, 4))])
    precision, recall = precision_recall(rng.normal(size=(300, 4)), one_mode)
    assert precision > 0.8  # all plausible
    assert 0.4 < recall < 0.5  # of half of what there is
    collapsed = np.repeat(real[:1], 300, 0) + rng.normal(0, 1e-3, (300, 4))
    precision, recall = precision_recall(collapsed, real)
    assert precision == 1.0
    assert recall < 0.05


def noise(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 2, 8, 8, 3)).astype(np.uint8)


def test_memorisation_flags_planted_copies_and_nothing_fresh() -> None:
    train, held_back, samples = noise(400, 0), noise(300, 1), noise(200, 2)
    copies = np.arange(0, 200, 10)
    blurred = train[copies].astype(float) + np.random.default_rng(3).normal(0, 3, train[copies].shape)
    samples[copies] = np.clip(blurred, 0, 255).astype(np.uint8)
    found = memorisation(samples, train, held_back, block=64)
    assert found.flagged[copies].all()
    assert (found.neighbour[copies] == copies).all()
    assert found.flagged.sum() <= len(copies) + 8
    assert found.fraction == found.flagged.mean()
    assert set(np.argsort(found.distance)[:20]) == set(copies)
    np.testing.assert_allclose(found.distance[copies], 3, rtol=0.15)  # root-mean-square grey levels


def test_fresh_clips_score_about_one_percent() -> None:
    assert memorisation(noise(1000, 5), noise(300, 0), noise(1000, 1)).fraction < 0.03


def test_memorisation_of_clips_of_different_shapes_is_an_error() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        memorisation(noise(4, 0)[:, :1], noise(4, 0), noise(4, 1))

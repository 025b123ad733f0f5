import jax
import numpy as np
import pytest

from diorama.evaluate import Judge, multi_hot, right, train_judge
from tests.evaluate.toys import digit_clips


def test_accuracy_on_digits_never_seen(judge: Judge) -> None:
    for frames in (1, 9):
        clips, labels, _ = digit_clips(360, frames, "test")
        assert right(judge.logits(clips), multi_hot(labels, 10)).mean() > 0.95


def test_two_at_once_are_both_seen(judge: Judge) -> None:
    """Never shown two, the judge still ranks both above the other eight far more often than chance (1 in 45)."""
    clips, labels, _ = digit_clips(200, 1, "test")
    both = np.concatenate([clips[:100], clips[100:]], 3)  # side by side
    wanted = [sorted({*a, *b}) for a, b in zip(labels[:100], labels[100:], strict=True)]
    assert right(judge.logits(both), multi_hot(wanted, 10)).mean() > 0.4


def test_features_are_64_wide_of_unit_size_and_do_not_depend_on_the_batch(judge: Judge) -> None:
    clips, _, _ = digit_clips(70, 9, "train")
    together = judge.features(clips)
    assert together.shape == (70, 64)
    assert 0.5 < np.square(together).mean() < 1.5
    np.testing.assert_array_equal(together[5:6], judge.features(clips[5:6]))
    np.testing.assert_array_equal(together[66:], judge.features(clips[66:]))


def test_one_seed_gives_one_network() -> None:
    clips, labels, _ = digit_clips(40, 1, "train")
    hot = multi_hot(labels, 10)
    first, again, other = (
        train_judge([clips], [hot], list("0123456789"), seed=seed, steps=5).network for seed in (1, 1, 2)
    )
    same = jax.tree.map(lambda a, b: bool((a == b).all()), first, again)
    assert all(jax.tree.leaves(same))
    assert not (first.readout == other.readout).all()


def test_right_asks_for_exactly_the_labels() -> None:
    logits = np.array([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]])
    wanted = multi_hot([[0], [0, 1], [0, 2]], 3)
    assert right(logits, wanted).tolist() == [True, True, False]


def test_labels_that_do_not_fit_are_an_error() -> None:
    clips, labels, _ = digit_clips(4, 1, "train")
    with pytest.raises(ValueError, match="do not fit"):
        train_judge([clips], [multi_hot(labels, 10)], ["only", "two"], seed=0)


def test_odd_sizes_and_one_channel(judge: Judge) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (6, 1, 27, 19, 1)).astype(np.uint8)
    small = train_judge([clips], [multi_hot([[0]] * 6, 1)], ["thing"], seed=0, steps=2)
    assert small.logits(clips).shape == (6, 1)

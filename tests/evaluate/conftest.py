import pytest

from diorama.evaluate import Judge, multi_hot, train_judge
from tests.evaluate.toys import digit_clips


@pytest.fixture(scope="session")
def judge() -> Judge:
    """Trained once on stills and videos of digits."""
    stills, still_labels, _ = digit_clips(1000, 1, "train")
    videos, video_labels, _ = digit_clips(600, 9, "train")
    labels = [multi_hot(still_labels, 10), multi_hot(video_labels, 10)]
    return train_judge([stills, videos], labels, [str(i) for i in range(10)], seed=0, steps=1200)

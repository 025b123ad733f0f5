import math
from pathlib import Path

import numpy as np

from diorama.evaluate import (
    Judge,
    Score,
    direction_score,
    from_json,
    generation_scores,
    label_score,
    memorisation_score,
    multi_hot,
    pixels,
    quantise,
    read_scores,
    table,
    to_json,
)
from tests.evaluate.toys import digit_clips


def test_real_clips_score_at_the_floor_and_noise_far_from_it(judge: Judge) -> None:
    train, test = digit_clips(500, 1, "train")[0], digit_clips(150, 1, "test")[0]
    fresh = digit_clips(150, 1, "test", seed=1)[0]
    noise = np.random.default_rng(0).integers(0, 256, fresh.shape).astype(np.uint8)
    for features in (judge.features, pixels(8)):
        good = {s.name: s for s in generation_scores(fresh, train, test, features, seed=0)}
        bad = {s.name: s for s in generation_scores(noise, train, test, features, seed=0)}
        assert 0.5 < (good["Fréchet distance"].ratio or 0) < 2
        assert (bad["Fréchet distance"].ratio or 0) > 4
        assert bad["kernel distance"].value > 10 * abs(good["kernel distance"].value)
        assert good["precision"].value > 0.7 > 0.1 > bad["precision"].value
        assert all(s.n == 150 and s.features == features.name and s.floor is not None for s in good.values())


def test_equal_numbers_take_part_and_the_seed_draws_them() -> None:
    train, test, many = (digit_clips(n, 1, s)[0] for n, s in ((80, "train"), (30, "test"), (60, "test")))
    first, again, other = (generation_scores(many, train, test, pixels(8), seed) for seed in (0, 0, 1))
    assert {s.n for s in first} == {30}
    assert first == again
    assert first[0].value != other[0].value


def test_too_few_clips_give_no_distribution_scores() -> None:
    clips = digit_clips(20, 1, "train")[0]
    assert generation_scores(clips, clips, clips[:7], pixels(8), 0) == []


def test_pixels_are_box_means_at_any_size() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (3, 2, 16, 24, 3)).astype(np.uint8)
    want = clips.reshape(3, 2, 8, 2, 8, 3, 3).mean((3, 5, 6)).reshape(3, -1) / 255
    np.testing.assert_allclose(pixels(8)(clips), want, rtol=1e-5)
    flat = np.full((1, 1, 21, 5, 3), 51, np.uint8)
    np.testing.assert_allclose(pixels(8)(flat), np.full((1, 40), 0.2), rtol=1e-5)


def test_prompts_followed_and_prompts_shuffled(judge: Judge) -> None:
    samples, labels, ways = digit_clips(200, 9, "train", seed=4)
    real, real_labels, real_ways = digit_clips(200, 9, "test")
    wanted, real_wanted = multi_hot(labels, 10), multi_hot(real_labels, 10)
    what = label_score(samples, wanted, real, real_wanted, judge, 0)
    where = direction_score(samples, ways, real, real_ways, 0)
    assert what.value > 0.95
    assert where.value == where.floor == 1
    assert (what.shuffled or 1) < 0.2
    assert (where.shuffled or 1) < 0.35


def test_memorised_samples_are_counted() -> None:
    train, test = digit_clips(200, 1, "train")[0], digit_clips(200, 1, "test")[0]
    score, found = memorisation_score(np.concatenate([train[:10], test[:90]]), train, test, seed=0)
    assert 0.10 <= score.value <= 0.13
    assert found.neighbour[:10].tolist() == list(range(10))


def test_scores_survive_json_and_print(tmp_path: Path) -> None:
    scores = [
        Score("distance", 1.0, 10, 0, "pixels", "lower", floor=0.5, note="a note"),
        Score("accuracy", 0.9, 10, 0, "judge", "higher", shuffled=0.1),
        Score("broken", math.nan, 10, 0, "pixels", "lower"),
    ]
    back = from_json(to_json(scores))
    assert back[:2] == scores[:2]
    assert math.isnan(back[2].value)
    (tmp_path / "scores.json").write_text(to_json(scores))
    assert read_scores(tmp_path / "scores.json")[:2] == scores[:2]
    text = table(scores)
    assert len(text.splitlines()) == 4
    assert "distance ↓" in text
    assert scores[0].ratio == 2
    assert scores[1].ratio is None


def test_quantise_is_what_a_file_would_hold() -> None:
    assert quantise(np.array([-1, -0.999, 0, 1, 3])).tolist() == [0, 0, 128, 255, 255]

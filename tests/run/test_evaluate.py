"""Measuring a run: what is read, what is kept, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diorama.codec import decode, encode
from diorama.core import UserError
from diorama.core.files import write_text
from diorama.evaluate import Score, psnr, quantise
from diorama.run import Evaluation, Folder
from diorama.run.evaluate import BITS, REACH, _listed, evaluate_run, kept_scores, samples_path
from diorama.run.examples import clips, some
from diorama.sample import ClassifierFree
from tests.run.conftest import RUN, STILL, VIDEO

MEASURED = replace(RUN, evaluation=Evaluation(samples=4, labels="digits", motion="directions", classifier_steps=20))


def copy_of(folder: Folder, path: Path, run=MEASURED) -> Folder:
    shutil.copytree(folder.path, path)
    write_text(path / "config.txt", run.text())
    return Folder.open(path)


@pytest.fixture(scope="module")
def measured(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, dict[str, Score]]:
    copy = copy_of(folder, tmp_path_factory.mktemp("measured") / "run")
    return copy, {score.name: score for score in evaluate_run(copy)}


def test_every_bucket_is_measured(measured):
    folder, scores = measured
    for bucket in (VIDEO, STILL):
        held = len(clips(folder.catalogue(), bucket, "test"))
        assert scores[f"memorised, {bucket}"].n == min(4, held)
        assert np.load(samples_path(folder, bucket))["media"].shape == (min(4, held), bucket.frames, 32, 32, 3)
    assert f"direction of motion, {VIDEO}" in scores
    assert f"direction of motion, {STILL}" not in scores
    assert all(np.isfinite(score.value) for score in scores.values())


def test_the_codec_is_paid_for_the_bits_it_is_charged(measured):
    folder, scores = measured
    source = clips(folder.catalogue(), STILL, "test")
    media = np.stack([source[i]["media"] for i in range(len(source))])
    latents = np.asarray(encode(folder.codec(), media / np.float32(127.5) - 1))
    levels = np.round((np.clip(latents, -REACH, REACH) + REACH) / (2 * REACH) * (2**BITS - 1))
    rounded = levels / (2**BITS - 1) * 2 * REACH - REACH
    again = quantise(decode(folder.codec(), rounded.astype(np.float32)))
    value = scores[f"codec PSNR (dB), still, {STILL}"].value
    assert value == pytest.approx(float(psnr(media, again).mean()), abs=0.05)


def test_scores_are_kept_until_something_changes(measured, tmp_path):
    folder, scores = measured
    assert {score.name for score in kept_scores(folder)} == set(scores)
    stamp = folder.scores.stat().st_mtime_ns
    assert len(evaluate_run(folder)) == len(scores)
    assert folder.scores.stat().st_mtime_ns == stamp
    changed = tmp_path / "changed"
    shutil.copytree(folder.path, changed)
    other = replace(RUN.sampling, guidance=ClassifierFree(1.0))
    write_text(changed / "config.txt", replace(MEASURED, sampling=other).text())
    assert kept_scores(Folder.open(changed)) is None


def test_another_catalogue_is_refused(folder, tmp_path):
    copy = copy_of(folder, tmp_path / "run")
    write_text(copy.manifest, f"{folder.catalogue().path}\n{'0' * 32}\n")
    with pytest.raises(UserError, match="changed since"):
        evaluate_run(copy)


def test_labels_beyond_the_names_are_named(folder, tmp_path):
    few = replace(MEASURED, evaluation=replace(MEASURED.evaluation, names=("zero", "one")))
    with pytest.raises(UserError, match="names 2"):
        evaluate_run(copy_of(folder, tmp_path / "run", few))


def test_labels_as_lists():
    assert [_listed(v, RUN) for v in (None, -1, 3, [1, 2], [])] == [[], [], [3], [1, 2], []]
    with pytest.raises(UserError, match="no numbers"):
        _listed("seven", RUN)


def test_rows_are_drawn_from_everywhere():
    assert some(5, 10, seed=0).tolist() == [0, 1, 2, 3, 4]
    rows = some(1000, 100, seed=0)
    assert len(set(rows.tolist())) == 100
    assert rows.tolist() == sorted(rows.tolist())
    assert rows.max() > 900, "not the first ones alone"


def test_buckets_that_differ_in_stride_keep_apart(folder, tmp_path):
    twice = (VIDEO, replace(VIDEO, stride=2))
    copy = copy_of(folder, tmp_path / "run", replace(RUN, denoiser=replace(RUN.denoiser, buckets=twice)))
    assert len({samples_path(copy, bucket) for bucket in twice}) == 2

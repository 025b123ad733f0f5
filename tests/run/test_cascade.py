"""A cascade: stages that fit, folders, and draws through all of them."""

from dataclasses import replace

import numpy as np
import pytest

from diorama.codec import PixelCodecConfig
from diorama.core import UserError, override, parse, release
from diorama.diffusion import DenoiserConfig
from diorama.net import LabelConfig, LowResolutionConfig, TextConfig, UNetConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Evaluation, Folder, Generator, Run, Sampling
from diorama.run.cascade import APART, Cascade, Cascaded, CascadeFolder
from diorama.run.evaluate import evaluate_run, fingerprint
from diorama.run.train import learn_tokenizer
from diorama.sample import ClassifierFree, Euler
from diorama.train import Train
from tests.net.tiny import made

NET, LABEL = UNetConfig(widths=(4,), heads=1, width=8), LabelConfig(classes=10)


def stage(name: str, bucket: Bucket, conditions, **sampling) -> Run:
    return Run(
        name=name,
        codec=CodecStage(PixelCodecConfig()),
        denoiser=DenoiserStage(DenoiserConfig(NET, conditions), (bucket,), Train(examples=8)),
        sampling=Sampling(Euler(), steps=2, guidance=ClassifierFree(2.0), batch=4, **sampling),
        evaluation=Evaluation(samples=3, labels=None),
    )


FEW, MORE, LARGE = Bucket(2, 8, 8, 4, stride=4), Bucket(5, 8, 8, 4, stride=2), Bucket(5, 16, 16, 4, stride=2)
BASE = stage("base", replace(FEW, frames=3), {"text": TextConfig(300, 8, heads=1), "label": LABEL})
FRAMES = stage("frames", MORE, {"label": LABEL, "low": LowResolutionConfig(time=2)})
PIXELS = stage("pixels", LARGE, {"low": LowResolutionConfig(space=2)})
CASCADE = Cascade("tiny", (BASE, FRAMES, PIXELS))
IDS = np.array([3, 1, 2**32 - 1, 5, 9], np.uint32)
PROMPTS, LABELS = ["a seven moving left", "", "a six", "a one", "a two"], np.array([7, -1, 6, 1, 2], np.int32)


@pytest.fixture(scope="module")
def trained(catalogue, tmp_path_factory):
    """A cascade's folder as after training, with parameters that are random but not at their start."""
    folder = CascadeFolder.put(tmp_path_factory.mktemp("cascade") / "tiny", CASCADE)
    for i, run in enumerate(CASCADE.stages):
        each = Folder.claim(folder.path / run.name, run, catalogue)
        learn_tokenizer(run, catalogue, each)
        model = made(lambda key, run=run: run.denoiser.denoiser.init(key, 3), seed=i)
        release.save(model, each.path / "denoiser.safetensors")
    return folder


@pytest.fixture(scope="module")
def drawer(trained):
    return Cascaded.load(trained.path)


@pytest.fixture(scope="module")
def media(drawer):
    return drawer.draw(PROMPTS, LABELS, ids=IDS, bucket=LARGE)  # five clips in batches of four


def test_text_and_settings_of_all_stages():
    assert parse(CASCADE.text(), Cascade) == CASCADE
    changed = override(CASCADE, ["stages.1.sampling.augmentation=0.25", "stages.0.seed=3"])
    assert (changed.stages[1].sampling.augmentation, changed.stages[0].seed) == (0.25, 3)


def test_the_way_to_a_shape_leads_through_all_stages():
    assert CASCADE.way(LARGE) == [replace(FEW, frames=3), MORE, LARGE]


@pytest.mark.parametrize(
    ("stages", "match"),
    [
        ((BASE,), "two stages or more"),
        ((BASE, replace(FRAMES, name="base")), "a name of its own"),
        ((BASE, replace(BASE, name="again")), "'again' of 'x' comes after another, so its conditions want a Low"),
        ((FRAMES, PIXELS), "'frames' of 'x' is the base, and takes no Low"),
        ((BASE, PIXELS), r"'pixels' makes 5x16x16 of 5x8x8, every 2. frame, and 'base' draws none such"),
    ],
)
def test_stages_that_do_not_fit_are_refused(stages, match):
    with pytest.raises(UserError, match=match):
        Cascade("x", stages)


def test_an_ids_clip_is_the_same_alone_and_in_any_order(drawer, media):
    assert media.shape == (5, 5, 16, 16, 3)
    assert len({clip.tobytes() for clip in media}) == 5
    order = np.array([4, 0, 2])
    again = drawer.draw([PROMPTS[i] for i in order], LABELS[order], ids=IDS[order], bucket=LARGE)
    np.testing.assert_array_equal(again, media[order])


def test_it_is_what_its_stages_draw_from_one_another(drawer, media, trained):
    clips, more = None, {}
    for i, (run, bucket) in enumerate(zip(CASCADE.stages, CASCADE.way(LARGE), strict=True)):
        alone = Generator.load(trained.path / run.name)
        clips = alone.draw(PROMPTS, LABELS, ids=IDS, bucket=bucket, seed=i * APART % 2**32, **more)
        more = {"low": clips}
    np.testing.assert_array_equal(clips, media)
    first, *rest = (run.sampling for run in CASCADE.stages)
    changed = drawer.draw(PROMPTS, LABELS, ids=IDS, bucket=LARGE, sampling=[replace(first, steps=3), *rest])
    assert (changed != media).any()


def test_augmentation_hides_the_stage_before_at_1_and_not_at_0(trained, rng):
    """At noise level 1 nothing of the low resolution is left; in training it goes up to 1 here."""
    config = LowResolutionConfig(space=2, augmentation=1.0)
    run = replace(PIXELS, denoiser=replace(PIXELS.denoiser, denoiser=DenoiserConfig(NET, {"low": config})))
    folder = Folder(trained.path / "pixels")
    last = Generator(run, folder, folder.codec(), made(lambda key: run.denoiser.denoiser.init(key, 3), seed=2))
    low = rng.integers(0, 256, (2, 5, 8, 8, 3), np.uint8)

    def drawn(low, level):
        how = replace(run.sampling, augmentation=level)
        return last.draw(["", ""], ids=IDS[:2], bucket=LARGE, sampling=how, low=low)

    np.testing.assert_array_equal(drawn(low, 1.0), drawn(255 - low, 1.0))
    assert (drawn(low, 0.0) != drawn(255 - low, 0.0)).any()
    assert (drawn(low, 0.0) != drawn(None, 0.0)).any()
    with pytest.raises(UserError, match="starts from no lower resolution"):
        Generator.load(trained.path / "base").draw([""], ids=IDS[:1], bucket=BASE.denoiser.buckets[0], low=low[:1])


def test_a_folder_holds_one_cascade(trained, tmp_path):
    assert CascadeFolder.at(trained.path).cascade() == CASCADE
    with pytest.raises(UserError, match="holds the stages base, frames, pixels and not base, frames"):
        CascadeFolder.put(trained.path, replace(CASCADE, stages=(BASE, FRAMES)))
    with pytest.raises(UserError, match="holds a run"):
        CascadeFolder.put(trained.path / "base", CASCADE)
    with pytest.raises(UserError, match="is no cascade"):
        CascadeFolder.at(tmp_path)


def test_bars_name_the_stage(drawer, trained, capsys):
    drawer.draw(PROMPTS[:1], LABELS[:1], ids=IDS[:1], bucket=LARGE, quiet=False)
    bars = [line.split()[:2] for line in capsys.readouterr().err.splitlines()]
    assert bars == [[name, "sampling"] for name in ("base", "frames", "pixels")]
    assert trained.stages()[0].called("denoiser") == "base denoiser"
    assert trained.called("denoiser") == Folder(trained.path.parent / "run").called("denoiser") == "denoiser"


def test_it_is_judged_as_a_run_is(trained):
    before = fingerprint(trained)
    scores = evaluate_run(trained)
    assert scores
    assert trained.scores == trained.path / "evaluation" / "scores.json"
    assert evaluate_run(trained) == scores
    names = [s.name for s in evaluate_run(Folder(trained.path / "pixels"))]
    assert {"enlarged PSNR (dB)", "bicubic, blended PSNR (dB)", "nearest, held PSNR (dB)"} <= set(names)
    assert not any("enlarged" in s.name for s in scores)
    settings = override(CASCADE, ["stages.2.evaluation.samples=2"])
    assert fingerprint(trained.changed(settings)) != before

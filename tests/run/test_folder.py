"""A run's folder: claimed by one run and one catalogue."""

from dataclasses import replace

import pytest

from diorama.core import UserError, override, to_text
from diorama.core.config import parse
from diorama.data import Catalogue, Curation, Drop, Where, curate
from diorama.media import write_png
from diorama.net import LabelConfig, TextConfig
from diorama.run import Bucket, CodecStage, Folder, Run
from diorama.run.evaluate import fingerprint
from recipes import digits
from tests.data.make import media_folder, picture
from tests.run.conftest import RUN


class Other:
    """A catalogue of other clips."""

    def __init__(self, path, number="1"):
        self.path, self.number, self.version = path, number, 1

    def hash(self):
        return self.number


@pytest.mark.parametrize("run", [RUN, digits.recipe()], ids=lambda run: run.name)
def test_a_run_is_its_text(run):
    assert parse(run.text(), Run) == run
    assert run.text() == to_text(run)


def test_claimed_again_by_the_same_run(tmp_path, catalogue):
    folder = Folder.claim(tmp_path / "a", RUN, catalogue)
    assert folder.run() == RUN
    assert folder.catalogue().path == catalogue.path
    assert Folder.claim(tmp_path / "a", RUN, catalogue) == folder == Folder.open(str(tmp_path / "a"))


def test_how_it_is_sampled_and_judged_may_change(tmp_path, catalogue):
    Folder.claim(tmp_path, RUN, catalogue)
    later = override(RUN, ["sampling.steps=7", "evaluation.samples=3", "layout.data=2"])
    assert Folder.claim(tmp_path, later, catalogue).run() == later


def test_how_training_is_watched_and_kept_may_change(tmp_path, catalogue):
    Folder.claim(tmp_path, RUN, catalogue)
    for changes in (
        ["denoiser.train.guard=Guard", "denoiser.train.keep_every=5000", "codec.train.validate=Validate"],
        ["denoiser.train.guard.times=9", "denoiser.train.wandb=WandB", "codec.train.validate.every=7"],
    ):
        later = override(Folder.open(tmp_path).run(), changes)
        assert Folder.claim(tmp_path, later, catalogue).run() == later
    Folder.claim(tmp_path, RUN, catalogue)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("seed=3", "seed is 0 there and 3 now"),
        ("denoiser.train.learning_rate=1", r"denoiser\.train\.learning_rate is 0.001 there and 1.0 now"),
        ("denoiser.denoiser.net=TransformerConfig", r"denoiser\.denoiser\.net is UNetConfig there"),
    ],
)
def test_another_run_is_refused(tmp_path, catalogue, setting, says):
    folder = Folder.claim(tmp_path, RUN, catalogue)
    with pytest.raises(UserError, match=f"holds another run: {says}"):
        Folder.claim(tmp_path, override(RUN, [setting]), catalogue)
    assert folder.run() == RUN


def test_a_run_with_another_denoiser_is_told_how_to_keep_its_codec(folder, catalogue):
    with pytest.raises(UserError, match=r"examples is 8 there and 9 now: .*codec\.path=.*tiny takes its codec along"):
        Folder.claim(folder.path, override(RUN, ["denoiser.train.examples=9"]), catalogue)
    with pytest.raises(UserError, match=r"use another folder$"):
        Folder.claim(folder.path, override(RUN, ["codec.train.examples=9"]), catalogue)


def test_other_data_are_refused_and_moved_data_are_not(tmp_path):
    Folder.claim(tmp_path, RUN, Other(tmp_path / "c"))
    with pytest.raises(UserError, match="was trained on other data"):
        Folder.claim(tmp_path, RUN, Other(tmp_path / "c", "2"))
    assert (
        Folder.claim(tmp_path, RUN, Other(tmp_path / "moved")).manifest.read_text().startswith(str(tmp_path / "moved"))
    )


def test_what_was_curated_later_changes_nothing_for_a_run(tmp_path):
    """It finds the clips, decisions and counts of the catalogue that it was trained on."""
    media, out = media_folder(tmp_path / "a", stills=3, videos=1), tmp_path / "c"
    before = curate([media], out)
    folder = Folder.claim(tmp_path / "run", RUN, Catalogue(out))
    clips, decisions = (Catalogue(out).ask(f"select * from {name} order by all") for name in ("clips", "decisions"))
    write_png(media / "new.png", picture(99, 8, 8))
    (media / "broken.png").write_bytes(b"no picture")
    assert curate([media], out, Curation(rules=(Drop("all but videos", (Where("clip.t", below=2),)),))).clips == 1
    found = folder.catalogue()
    assert folder.begun_on(Catalogue(out)).hash() == before.hash != Catalogue(out).hash()
    assert Folder(tmp_path / "other").begun_on(Catalogue(out)).hash() == Catalogue(out).hash()
    assert (found.hash(), found.summary()) == (before.hash, replace(before, new=0))
    assert found.ask("select * from clips order by all").equals(clips)
    assert found.ask("select * from decisions order by all").equals(decisions)
    assert len(found.ask("select * from observations")) == len(decisions)
    found.frames(found.clips().to_pylist()[0], 8, 8)
    with pytest.raises(UserError, match="no version 1000"):
        Catalogue(out, release=1000)


def test_whole_numbers_in_a_recipe_are_no_other_run(tmp_path, catalogue):
    """`weight=1` is written as 1 and read as 1.0."""
    run = replace(RUN, denoiser=replace(RUN.denoiser, buckets=(Bucket(weight=1), Bucket(frames=9, weight=2))))
    Folder.claim(tmp_path, run, catalogue)
    Folder.claim(tmp_path, run, catalogue)


def test_a_run_of_an_earlier_version_is_read_and_gone_on_with(tmp_path, catalogue):
    folder = Folder.claim(tmp_path / "a", RUN, catalogue)
    new = ("sampling.restart", "sampling.against", "denoiser.denoiser.process.noise")
    lines = folder.config.read_text().splitlines(keepends=True)
    folder.config.write_text("".join(line for line in lines if not line.startswith(new)))
    assert folder.run() == RUN
    Folder.claim(tmp_path / "a", RUN, catalogue)
    assert folder.config.read_text() == RUN.text()
    folder.config.write_text(RUN.text() + "sampling.shift: 3.0\n")
    with pytest.raises(UserError, match=r"unknown configuration key 'sampling\.shift'"):
        folder.run()


def test_what_samples_are_led_away_from_decides_them_too(tmp_path, catalogue):
    other = Folder.claim(tmp_path / "b", RUN, catalogue)
    run = override(RUN, ["sampling.against=Weaker", f"sampling.against.path={other.path}"])
    folder = Folder.claim(tmp_path / "a", run, catalogue)
    before = fingerprint(folder)
    (other.path / "denoiser.safetensors").write_bytes(b"trained further")
    assert fingerprint(folder) != before


def test_what_is_not_a_run_or_not_trained_is_said(tmp_path, catalogue):
    with pytest.raises(UserError, match="is not a run"):
        Folder.open(tmp_path)
    folder = Folder.claim(tmp_path, RUN, catalogue)
    for load in (folder.codec, folder.denoiser):
        with pytest.raises(UserError, match="train the run first"):
            load()


def test_the_text_condition_has_any_name(tmp_path, catalogue):
    def claimed(name, conditions):
        denoiser = replace(RUN.denoiser.denoiser, conditions=conditions)
        return Folder.claim(tmp_path / name, replace(RUN, denoiser=replace(RUN.denoiser, denoiser=denoiser)), catalogue)

    text = TextConfig(length=3)
    assert claimed("a", {"label": LabelConfig(), "caption": text}).text_config() == text
    assert claimed("b", {"label": LabelConfig()}).text_config() is None


def test_what_trained_comes_back(folder):
    assert folder.codec().config == RUN.codec.codec
    assert float(folder.codec().mean[0]) == pytest.approx(0.1)
    assert folder.denoiser().process == RUN.denoiser.denoiser.process
    assert folder.tokenizer().get_vocab_size() <= 300


def test_a_run_without_its_parts_is_refused():
    with pytest.raises(UserError, match=r"give codec\.train"):
        replace(RUN, codec=CodecStage(RUN.codec.codec))
    with pytest.raises(UserError, match="nothing to train on"):
        replace(RUN, denoiser=replace(RUN.denoiser, buckets=()))
    with pytest.raises(UserError, match="it takes one of 'image', 'video', 'any' or None"):
        override(RUN, ["denoiser.buckets.0.kind=vidoe"])

"""Looking at a run: the same pictures as drawing gives, the same loss as training has, and looked at once."""

import os
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.codec import PixelCodecConfig, encode
from diorama.core import release
from diorama.core.random import normal, stream
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.diffusion.uncertainty import Uncertainty
from diorama.net import LabelConfig, UNetConfig
from diorama.process import EDM
from diorama.process.density import LogNormal
from diorama.process.weighting import EDM as EDMWeighting
from diorama.run import Bucket, CodecStage, DenoiserStage, Folder, Generator, Sampling, look
from diorama.run.examples import clips, conditions
from diorama.sample import ClassifierFree, Euler
from tests.net.tiny import stirred
from tests.run.conftest import RUN, VIDEO


@pytest.fixture(scope="module")
def seen(folder, tmp_path_factory) -> tuple[Folder, look.Look]:
    """The tiny run, copied, and a look at it."""
    path = tmp_path_factory.mktemp("look") / "tiny"
    shutil.copytree(folder.path, path, ignore=shutil.ignore_patterns("evaluation"))
    return Folder(path), look.look(Folder(path))


def test_what_is_there(seen):
    about, a = seen[1].about, seen[1].arrays
    assert about["bucket"] == "9x32x32"
    assert about["data"]["clips"] == 36
    assert list(about["data"]["captions"]) == ["9x32x32", "1x32x32"]
    assert len(about["data"]["captions"]["9x32x32"]) == len(a["train0"])
    assert a["held"].shape == a["again"].shape
    assert a["colours"].shape == (len(a["held"]), 3, 8, 8, 3)
    assert a["grid"].shape == (look.PROMPTS, 3, 9, 32, 32, 3)
    assert about["samples"]["scales"] == [1.0, 2.0, 4.0]
    assert a["spectrum_data"].shape == a["spectrum_drawn"].shape == (16,)
    assert all(np.isfinite(value).all() for value in a.values())


def test_the_effective_weight_is_that_of_what_is_trained_and_learned(seen):
    folder, found = seen
    logsnr, weight = found.arrays["logsnr"], found.arrays["effective"]
    assert (np.diff(logsnr) > 0).all()
    wanted = np.exp(-logsnr / 2 - logsnr**2 / 8) / np.exp(-logsnr / 2 - logsnr**2 / 8).max()  # SD3's, but for a factor
    inside = np.abs(logsnr) < 8
    tau = 1 / (1 + np.exp(logsnr / 2))
    wanted = wanted / (tau * (1 - tau))
    np.testing.assert_allclose((weight / wanted)[inside], (weight / wanted)[48], rtol=1e-3)
    u = Uncertainty(jnp.asarray([np.log(4.0)]))
    process, objective = folder.run().denoiser.denoiser.process, folder.run().denoiser.objective
    learned = look._effective(replace(folder.denoiser(), uncertainty=u), process, objective)
    np.testing.assert_allclose(learned["effective"], weight / 4, rtol=1e-5)


def test_samples_are_those_of_the_generator(seen):
    folder, found = seen
    held = clips(folder.catalogue(), VIDEO, "test")
    rows = look._distinct(RUN, held, look.DRAWN)[: look.PROMPTS]
    prompts, labels = [held.captions[i] for i in rows], held.labels[rows]
    assert found.about["samples"]["prompts"][: look.PROMPTS] == prompts
    how, column = replace(RUN.sampling, guidance=ClassifierFree(4.0)), found.about["samples"]["scales"].index(4.0)
    ids = np.arange(look.PROMPTS)
    drawn = Generator.load(folder.path).draw(prompts, labels, ids=ids, bucket=VIDEO, sampling=how)
    assert np.abs(drawn.astype(int) - found.arrays["grid"][:, column]).max() <= 1


def test_loss_is_that_of_training(seen):
    folder, found = seen
    held, codec, denoiser = clips(folder.catalogue(), VIDEO, "test"), folder.codec(), folder.denoiser()
    media = np.stack([held[i]["media"] for i in range(len(held))]) / np.float32(127.5) - 1
    x0 = encode(codec, media)
    batch = {k: jnp.asarray(v) for k, v in conditions(RUN, folder, held.captions, held.labels).items()}
    tau = jnp.full(x0.shape[:2], found.arrays["taus"][5])
    noise = normal(stream(0, "look/noise"), held.ids, x0.shape[1:])
    loss = jax.jit(RUN.denoiser.objective.at)(denoiser, x0, noise, tau, denoiser.conditions.signals(batch))
    np.testing.assert_allclose(found.arrays["loss_held"][5], loss.mean(), rtol=1e-4)


def test_looked_at_once(seen):
    folder, found = seen
    path = folder.path / "evaluation" / "look.npz"
    os.utime(path, (0, 0))
    again = look.look(folder)
    assert path.stat().st_mtime == 0
    assert again.about == found.about
    assert again.arrays.keys() == found.arrays.keys()
    np.testing.assert_array_equal(again.arrays["grid"], found.arrays["grid"])


def test_looked_at_again_when_the_run_changed(seen, tmp_path):
    folder = Folder(tmp_path / "run")
    shutil.copytree(seen[0].path, folder.path)
    before = look._inputs(folder)
    assert before == seen[1].about["inputs"]
    folder.config.write_text(replace(RUN, sampling=replace(RUN.sampling, guidance=ClassifierFree(1.0))).text())
    assert look._inputs(folder) != before
    shutil.copy(seen[0].config, folder.config)
    assert look._inputs(folder) == before
    with (folder.path / "denoiser.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    assert look._inputs(folder) != before


PIXELS = replace(
    RUN,
    name="pixels",
    codec=CodecStage(PixelCodecConfig()),
    sampling=Sampling(solver=Euler(), steps=2, batch=34),
    denoiser=DenoiserStage(
        DenoiserConfig(UNetConfig(widths=(8,), heads=2, width=8), {}, process=EDM(), prediction="F"),
        buckets=(Bucket(frames=1, height=16, width=24, batch=4, kind="any"),),
        train=RUN.denoiser.train,
        objective=Denoising(density=LogNormal(), weighting=EDMWeighting()),
    ),
)
LABELS = replace(
    PIXELS,
    name="labels",
    denoiser=replace(
        PIXELS.denoiser, denoiser=replace(PIXELS.denoiser.denoiser, conditions={"label": LabelConfig(classes=10)})
    ),
)


@pytest.mark.parametrize("run", [PIXELS, pytest.param(LABELS, marks=pytest.mark.slow)], ids=lambda run: run.name)
def test_images_without_codec_or_text(run, catalogue, tmp_path):
    from diorama.serve.report import write_report

    folder = Folder.claim(tmp_path / run.name, run, catalogue)
    model = jax.jit(lambda key: run.denoiser.denoiser.init(key, 3))(jax.random.key(1))
    release.save(stirred(model), folder.path / "denoiser.safetensors")
    found = look.look(folder)
    steered = run is LABELS
    assert found.about["samples"]["scales"] == ([1.0, 2.0, 4.0] if steered else [2.0])
    assert found.arrays["grid"].shape == (look.PROMPTS, 3 if steered else 1, 1, 16, 24, 3)
    np.testing.assert_array_equal(found.arrays["held"], found.arrays["again"])
    page = write_report(folder).read_text()
    assert "no codec" in page
    assert ("takes no prompt" in page) != steered


def test_prompts_are_new_ones_first(catalogue):
    source = clips(catalogue, VIDEO, "train")
    rows = look._distinct(LABELS, source, len(source) + 2)
    kinds = len(set(source.labels))
    assert len(set(source.labels[rows[:kinds]])) == kinds  # every class once, before any comes again
    assert sorted(rows[: len(source)]) == list(range(len(source)))
    np.testing.assert_array_equal(rows[len(source) :], rows[:2])  # and then over again
    assert look._names(source, [0]) == [source.captions[0]]


def test_parts_make_the_whole(rng):
    x, y = rng.normal(size=(7, 3)), {"a": rng.normal(size=7)}

    def double(x, y):
        assert len(x) == 4  # always one shape
        return {"x": 2 * x, "a": y["a"] + 1}

    out = look.in_parts(double, 4, x, y)
    np.testing.assert_array_equal(out["x"], 2 * x)
    np.testing.assert_array_equal(out["a"], y["a"] + 1)


def test_colours_are_principal_components(rng):
    strong, weak = rng.normal(size=(2, 4, 1, 5, 5))
    latents = np.stack([0.1 * weak, 3 * strong], -1) + 7
    colours = look.colours(latents)
    assert colours.shape == (4, 1, 5, 5, 3)
    assert abs(np.corrcoef(colours[..., 0].ravel(), strong.ravel())[0, 1]) > 0.9  # red is the strongest
    assert (colours[..., 2] == 128).all()  # two channels leave blue grey

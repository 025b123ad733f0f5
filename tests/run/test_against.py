"""What guidance leads away from, and what is drawn under each."""

import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.codec import PixelCodec, PixelCodecConfig
from diorama.core import UserError, release
from diorama.core.files import write_text
from diorama.diffusion import DenoiserConfig
from diorama.net import UNetConfig
from diorama.process import ShiftedBySize
from diorama.run import Folder, Generator
from diorama.run.against import Null, PerturbedAttention, Weaker, guided
from diorama.run.generate import Known
from diorama.sample import ClassifierFree, Euler
from tests.net.tiny import LABEL, latents, made
from tests.run.conftest import RUN, STILL

TAU = jnp.full((2, 1), 0.6)
X = latents(t=1)
CONFIG = DenoiserConfig(UNetConfig(widths=(8,), heads=2, width=8), {"label": LABEL})
STRONG, WEAK = (made(lambda key: CONFIG.init(key, X.shape[-1]), seed) for seed in (0, 1))
SIGNALS = STRONG.conditions.signals({"label": jnp.asarray([3, -1])})


@pytest.fixture(scope="module")
def weaker(folder, tmp_path_factory) -> Folder:
    """The tiny run with other parameters."""
    path = tmp_path_factory.mktemp("weak") / "tiny"
    shutil.copytree(folder.path, path, ignore=shutil.ignore_patterns("evaluation"))
    model = made(lambda key: RUN.denoiser.denoiser.init(key, 4), seed=2)
    release.save(model, path / "denoiser.safetensors")
    return Folder(path)


def led(how, weak, reference):
    """The guided x0, and twice the strong one less that of `reference` (denoiser, conditions)."""

    def all_three(x):
        denoise, conditions = guided(how, STRONG, weak, SIGNALS, 2)
        strong, (worse, also) = denoise(x, TAU, conditions).x0, reference(conditions)
        return strong, 2 * STRONG(x, TAU, conditions).x0 - worse(x, TAU, also).x0

    return jax.jit(all_three)(X)


def test_away_from_a_worse_model():
    found, expected = led(replace(RUN.sampling, against=Weaker("x")), WEAK, lambda conditions: (WEAK, conditions))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_worse_model_of_another_process_is_asked_in_its_own():
    """Autoguidance goes by the clip's size; one of the same process is asked as it is."""
    sized = replace(WEAK, process=ShiftedBySize(base=1))
    _, reference = Weaker("x")(STRONG, SIGNALS, sized, 2)
    assert np.isfinite(jax.jit(lambda x: reference(x, TAU, SIGNALS).x0)(X)).all()
    assert Weaker("x")(STRONG, SIGNALS, WEAK, 2)[1] is WEAK


def test_away_from_perturbed_attention_in_one_batch():
    how = replace(RUN.sampling, against=PerturbedAttention())
    alone = jnp.ones((2, 1), bool)
    found, expected = led(how, None, lambda conditions: (STRONG, replace(conditions, alone=alone)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match=r"layers=\(1,\)"):
        guided(replace(how, against=PerturbedAttention((1,))), STRONG, None, SIGNALS, 2)


def test_a_model_without_conditions_is_not_guided():
    assert guided(RUN.sampling, STRONG, None, {}, 2) == (STRONG, {})


def test_the_worse_model_is_the_one_that_is_named(folder, weaker):
    found = Weaker(str(weaker.path)).load(folder)
    assert all(map(np.array_equal, jax.tree.leaves(found), jax.tree.leaves(weaker.denoiser())))
    assert not all(map(np.array_equal, jax.tree.leaves(found), jax.tree.leaves(folder.denoiser())))


def test_worse_models_that_do_not_fit(folder, weaker, tmp_path):
    with pytest.raises(UserError, match="names no worse model"):
        Weaker().load(folder)
    with pytest.raises(UserError, match="no snapshots"):
        Weaker(examples=4).load(folder)
    other = tmp_path / "other"
    shutil.copytree(weaker.path, other)
    with (other / "codec.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(UserError, match="another codec"):
        Weaker(str(other)).load(folder)
    stage = replace(RUN.denoiser, denoiser=replace(RUN.denoiser.denoiser, conditions={}))
    write_text(other / "config.txt", replace(RUN, denoiser=stage).text())
    with pytest.raises(UserError, match="other conditions"):
        Weaker(str(other)).load(folder)


PROMPTS, IDS = ["a seven", "a six"], np.array([0, 1], np.uint32)


HOW = replace(RUN.sampling, solver=Euler())


def test_scales_of_one_program_are_those_of_several(folder):
    generator = Generator.load(folder.path)
    both = generator.draw(PROMPTS, ids=IDS, bucket=STILL, sampling=HOW, scales=np.array([5.0, 1.0]))
    alone = generator.draw(PROMPTS, ids=IDS, bucket=STILL, sampling=replace(HOW, guidance=ClassifierFree(5.0)))
    assert np.abs(alone[0].astype(int) - both[0]).max() <= 1
    assert (alone[1] != both[1]).any()


def test_what_is_known_is_kept(folder):
    generator, rng = Generator.load(folder.path), np.random.default_rng(0)
    how = replace(HOW, guidance=ClassifierFree(1.0))
    kept = np.zeros((1, 32, 32), bool)
    kept[:, :, :17] = True
    one, other = (Known(rng.integers(0, 256, (1, 32, 32, 3), np.uint8), kept) for _ in range(2))
    media = generator.draw(PROMPTS, ids=IDS, bucket=STILL, sampling=how, known=one)
    for clip in media:
        np.testing.assert_array_equal(clip[:, :, :17], one.media[:, :, :17])
    assert (media[0, :, :, 17:] != media[1, :, :, 17:]).any()
    again = generator.draw(PROMPTS, ids=IDS, bucket=STILL, sampling=how, known=other)
    assert (media[:, :, :, 17:] != again[:, :, :, 17:]).any()  # the rest saw it


def test_latents_of_nothing_but_kept_pixels_are_known(folder):
    """Four pixels a cell, four frames a cell after the first."""
    kept = np.ones((9, 30, 32), bool)
    kept[6, 5, 9] = False
    codec = folder.codec()
    shape = codec.latent_shape(9, 30, 32)
    _, where = Known(np.zeros((9, 30, 32, 3), np.uint8), kept).encoded(codec, shape, 2)
    unknown = [tuple(int(i) for i in place) for place in np.argwhere(~np.asarray(where))]
    assert unknown == [(b, 2, 1, 2, 0) for b in range(2)]


def test_pixels_are_known_one_by_one():
    codec, kept = PixelCodec(PixelCodecConfig()), np.eye(4, dtype=bool)[None]
    latents, where = Known(np.full((1, 4, 4, 3), 255, np.uint8), kept).encoded(codec, (1, 4, 4, 3), 1)
    np.testing.assert_array_equal(where[0, ..., 0], kept)
    np.testing.assert_array_equal(latents, 1.0)


def test_every_way_is_a_setting():
    from diorama.core import override

    for setting, against in (
        ("Null", Null()), ("PerturbedAttention", PerturbedAttention()), ("Weaker", Weaker())
    ):  # fmt: skip
        assert override(RUN, [f"sampling.against={setting}"]).sampling.against == against
    assert override(RUN, ["sampling.guidance=APG", "sampling.guidance.scale=5"]).sampling.guidance.scale == 5.0

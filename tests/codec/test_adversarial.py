"""What a critic does to real photos: the fine detail that a mean square leaves out comes back."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from diorama.codec import KL, ConvCodecConfig, Patch, Reconstruction, autoencoder_of
from diorama.codec.loss import Adversary, CriticConfig
from diorama.core import Layout
from diorama.process.spectrum import rapsd
from diorama.train import Role, Train
from diorama.train.state import State, Tally, fault_names
from diorama.train.step import make_step, metric_names
from tests.net.tiny import made
from tests.shared import shared_data

SIDE, BATCH, STEPS, START = 32, 16, 400, 200


def photos():
    """Squares out of photographs at half size, uint8 (n, 1, 32, 32, 3)."""
    cut = []
    for path in sorted(shared_data("photos").joinpath("bsds").glob("*.jpg")):
        image = Image.open(path).convert("RGB")
        pixels = np.asarray(image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX))
        h, w = (side // SIDE * SIDE for side in pixels.shape[:2])
        tiles = pixels[:h, :w].reshape(h // SIDE, SIDE, w // SIDE, SIDE, 3).swapaxes(1, 2)
        cut.append(tiles.reshape(-1, 1, SIDE, SIDE, 3))
    return np.random.default_rng(0).permutation(np.concatenate(cut))


@pytest.mark.slow
def test_with_a_critic_reconstructions_have_more_of_the_fine_detail():
    """Power of held-back reconstructions over that of the photos, in decibels: the median over the upper half of rings,
    for a young critic also leaves a grid of the patch's period, which lies in single rings."""
    media = np.float32(photos()) / 127.5 - 1
    train, test = media[64:], media[:64]
    codec = ConvCodecConfig(8, 1, 4, front=Patch(4), widths=(32, 64), bottleneck=KL(1e-6))
    how = Train(examples=BATCH * STEPS, learning_rate=3e-3, warmup=320, ema_std=())
    found = {}
    for name, adversary in (("alone", None), ("critic", Adversary(CriticConfig((32, 64)), start=BATCH * START))):
        objective = Reconstruction(codec, adversary=adversary)
        config = replace(how, roles=(Role("critic", learning_rate=2e-3),)) if adversary else how
        state = jax.jit(lambda model, c=config: State.init(model, c))(made(objective.init))
        batch = {"media": train[:BATCH], "id": np.arange(BATCH, dtype=np.uint32)}
        names = metric_names(objective, state.model, batch, config.roles)
        tally = Tally.blank(names, len(fault_names(state.model)))
        step = make_step(config, objective, Layout().shardings(state), 0, Layout())
        for i in range(STEPS):
            rows = np.random.default_rng(i).integers(0, len(train), BATCH)
            state, tally = step(state, tally, Layout().put({"media": train[rows], "id": np.uint32(rows)}))
        assert int(tally.fault_step) < 0
        again = jax.jit(lambda m, x: m.decode(m.settle(x)))(autoencoder_of(state.model), test)
        power = [rapsd(x).mean((0, 1, 3)) for x in (again, test)]
        ratio = 10 * jnp.log10(power[0] / power[1])
        psnr = float(10 * jnp.log10(4 / jnp.mean(jnp.square(again - test))))
        found[name] = float(jnp.median(ratio[SIDE // 4 :]))
        print(f"{name}: median {found[name]:.2f} dB, PSNR {psnr:.2f} dB; by ring", np.round(ratio, 1))
    assert found["alone"] < -3
    assert abs(found["critic"]) < abs(found["alone"]) - 0.5

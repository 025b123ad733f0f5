"""A codec trained with a critic and with a perceptual network of the run's own."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from diorama.codec import CodecLoss
from diorama.codec.loss import L2, Adversary, CriticConfig, NetworkConfig, OwnPerceptual
from diorama.core import UserError
from diorama.core.config import override
from diorama.run import Folder
from diorama.run.train import train_codec
from diorama.train import Role, Train, read_log
from tests.run.conftest import RUN, VIDEO

TERMS = (L2(), OwnPerceptual(network=NetworkConfig((4,)), weight=0.1))
STAGE = replace(
    RUN.codec,
    buckets=(replace(VIDEO, frames=5),),
    loss=CodecLoss(TERMS, Adversary(CriticConfig((4,)), start=4)),
    train=Train(examples=8, roles=(Role("critic", learning_rate=1e-3),), log_every=4),
    perceptual=Train(examples=8),
)


def test_only_the_autoencoder_is_released(tmp_path, catalogue):
    run = replace(RUN, codec=STAGE, denoiser=replace(RUN.denoiser, buckets=STAGE.buckets))
    folder = Folder.claim(tmp_path / "run", run, catalogue)
    assert folder.run().text() == run.text()
    train_codec(run, catalogue, folder)
    names = {name.partition(".")[0] for name in load_file(folder.path / "codec.safetensors")}
    assert names == {"autoencoder", "mean", "deviation"}
    assert {name.partition(".")[0] for name in load_file(folder.path / "perceptual.safetensors")} == {
        "enter", "inner", "norms",
    }  # fmt: skip
    assert folder.codec().encode(np.zeros((1, 5, 8, 8, 3), np.float32)).shape == (1, 2, 2, 2, 4)
    first, last = read_log(folder.path / "codec")
    assert (first["critic"], first["adversarial"]) == (None, None)  # before its start
    assert last["critic"] > 0
    assert {"mse", "psnr", "kl", "perceptual", "adversarial_weight", "critic.gradient_norm"} <= set(last)


def test_what_nothing_asks_for_is_refused():
    with pytest.raises(UserError, match=r"no term of codec\.loss asks"):
        replace(STAGE, loss=CodecLoss())
    plain = override(replace(RUN, codec=STAGE), ["codec.loss.adversary=None", "codec.loss.terms.1.weight=0.5"])
    assert plain.codec.loss.adversary is None
    assert plain.codec.loss.terms[1].weight == 0.5

"""One small catalogue of digits, and one tiny run on it."""

import numpy as np
import pytest

from diorama.codec import Codec, ConvCodecConfig, Patch
from diorama.core import release
from diorama.data import Catalogue, curate
from diorama.data.digits import write_digits
from diorama.diffusion import DenoiserConfig
from diorama.net import LabelConfig, TextConfig, UNetConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Folder, Run, Sampling
from diorama.run.train import learn_tokenizer
from diorama.sample import ClassifierFree, Heun
from diorama.train import Train
from tests.net.tiny import made

VIDEO, STILL = Bucket(frames=9, batch=4), Bucket(frames=1, batch=4)
RUN = Run(
    name="tiny",
    codec=CodecStage(
        ConvCodecConfig(spatial=4, temporal=4, channels=4, front=Patch(4), widths=(8,)),
        buckets=(VIDEO,),
        train=Train(examples=8),
    ),
    denoiser=DenoiserStage(
        DenoiserConfig(
            UNetConfig(widths=(8, 16), heads=2, width=16),
            {"text": TextConfig(vocabulary=300, length=8, heads=2), "label": LabelConfig(classes=10)},
        ),
        buckets=(VIDEO, STILL),
        train=Train(examples=8),
    ),
    sampling=Sampling(solver=Heun(), steps=2, guidance=ClassifierFree(2.0), batch=5),
)


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory) -> Catalogue:
    root = tmp_path_factory.mktemp("digits")
    curate([write_digits(root / "media", clips=24, stills=12)], root / "catalogue", workers=1)
    return Catalogue(root / "catalogue")


@pytest.fixture(scope="session")
def folder(catalogue, tmp_path_factory) -> Folder:
    """A run's folder as after training, with parameters that are random but not at their start."""
    folder = Folder.claim(tmp_path_factory.mktemp("run") / "tiny", RUN, catalogue)
    learn_tokenizer(RUN, catalogue, folder)
    config = RUN.codec.codec
    autoencoder = made(config.init)
    blank = Codec.blank(autoencoder, config)
    release.save(Codec(autoencoder, blank.mean + 0.1, blank.deviation * 2, config), folder.path / "codec.safetensors")
    model = made(lambda key: RUN.denoiser.denoiser.init(key, config.channels), seed=1)
    release.save(model, folder.path / "denoiser.safetensors")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)

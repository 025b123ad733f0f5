"""A run whose latents are a line of tokens: trained, drawn from, and reported on without what takes a grid."""

from dataclasses import replace

import numpy as np
import pytest

from diorama.codec import KL, TokenCodecConfig
from diorama.diffusion import DenoiserConfig
from diorama.net import TransformerConfig
from diorama.run import CodecStage, DenoiserStage, Generator
from diorama.run.diagnose import diagnose
from diorama.run.train import train_run
from diorama.serve.codec import write_codec_report
from diorama.serve.report import write_report
from diorama.train import Train
from tests.run.test_foreign import CLIP, SMALLEST

TOKENS = TokenCodecConfig((16, 16), spatial=8, temporal=4, channels=2, tokens=3, width=32, depth=1, bottleneck=KL(1e-3))


@pytest.mark.slow
def test_the_whole_way(catalogue, tmp_path):
    net = TransformerConfig(width=8, depth=1, heads=2, patch=(1, 1, 1), mixing=False, previous=False)
    run = replace(
        SMALLEST,
        codec=CodecStage(TOKENS, (CLIP,), Train(examples=8)),
        denoiser=DenoiserStage(DenoiserConfig(net, {}), buckets=(CLIP,), train=Train(examples=4)),
    )
    folder = train_run(run, catalogue, tmp_path / "run")
    drawn = Generator.load(folder.path).draw([""] * 2, ids=np.arange(2), bucket=CLIP)
    assert drawn.shape == (2, 5, 16, 16, 3)
    assert write_report(folder).stat().st_size > 0
    [seen] = diagnose(folder)
    assert seen.about["latents"] == [2, 1, 3, 2]
    assert seen.about["equivariance"] is None
    assert "When the picture changes" not in write_codec_report(folder).read_text()

"""Every lint, by a run that deserves it and by one that does not."""

from dataclasses import replace

import pytest

from diorama.codec import ConvCodecConfig
from diorama.codec.loss.critic import Adversary
from diorama.codec.objective import CodecLoss
from diorama.core import Layout, override
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.diffusion.align import SelfAlignment
from diorama.net import LabelConfig, TransformerConfig, UNetConfig
from diorama.net.places import Reach
from diorama.process.density import FromSpectrum
from diorama.run import Bucket, CodecStage, DenoiserStage, Run, Sampling
from diorama.run.packing import Packing
from diorama.run.plan import lints as rules
from diorama.run.plan.lints import lint
from diorama.sample.rollout import Cached
from diorama.train import Role, Train
from diorama.train.rate import InverseSquareRoot

CLIP = Bucket(frames=5, height=16, width=16, batch=8)
TRAIN = Train(examples=1000, warmup=100, checkpoint_every=100, log_every=100)
SOUND = Run(
    name="sound",
    codec=CodecStage(ConvCodecConfig(spatial=2, temporal=4, widths=(8,)), buckets=(CLIP,), train=TRAIN),
    denoiser=DenoiserStage(
        DenoiserConfig(UNetConfig(widths=(8, 8), heads=2, width=8), {"label": LabelConfig(classes=3)}),
        buckets=(CLIP,), train=TRAIN,
    ),
)  # fmt: skip


def changed(*settings: str, **parts):
    """`SOUND` with settings changed, and parts of its denoiser's stage."""
    run = override(SOUND, settings)
    return replace(run, denoiser=replace(run.denoiser, **parts))


def net(of, **more):
    """`SOUND` with another network."""
    return changed(denoiser=replace(SOUND.denoiser.denoiser, net=of), **more)


SMALL = Bucket(height=8, width=8, batch=8)
TINY = Bucket(height=4, width=4, batch=8)
STILL, CAUSAL = (TransformerConfig(width=8, depth=1, heads=2, reach=(Reach(future=n),)) for n in (None, 0))
PAIRS = TransformerConfig(width=8, depth=1, heads=2, reach=(Reach(future=0, block=2),))
PACKS = TransformerConfig(width=8, depth=1, heads=2, patch=(1, 1, 1), mixing=False, previous=False)
LATE = replace(SOUND.codec, loss=CodecLoss(adversary=Adversary(start=1000)))
CASES = [
    (rules.undivided, changed("layout.data=3", "codec.buckets.0.batch=9"), "a batch of 8 does not divide"),
    (rules.shapes, net(UNetConfig((8, 8, 8), heads=2, width=8), buckets=(TINY,)), "cannot be halved 2 times"),
    (rules.shapes, changed(align=(SelfAlignment(0, 9),)), "layer=9: the network has layers 0 to 1"),
    (rules.warmup, changed("codec.train.warmup=1000"), "codec.train.warmup is 1,000 of 1,000"),
    (rules.warmup, changed(train=replace(TRAIN, roles=(Role("net", warmup=2000),))), "roles net.warmup is 2,000"),
    (rules.decay, changed(train=replace(TRAIN, decay=InverseSquareRoot(2000))), "decay begins after 2,000"),
    (rules.intervals, changed("codec.train.checkpoint_every=5000"), "is 5,000 of 1,000 examples: a run that is killed"),
    (rules.intervals, changed("denoiser.train.checkpoint_every=0"), "checkpoint_every is 0"),
    (rules.intervals, changed("denoiser.train.log_every=1000"), "log_every is 1,000"),
    (rules.intervals, changed("denoiser.train.snapshot_every=4000"), "snapshot_every is 4,000"),
    (rules.intervals, changed("denoiser.train.preview_every=4000"), "preview_every is 4,000"),
    (rules.averages, changed("denoiser.train.ema_std=(0.05, 0.1)"), "keeps 2 averages and only the first"),
    (rules.still, net(STILL, buckets=(SMALL,)), "net.previous has no effect"),
    (rules.still, changed("denoiser.denoiser.net.causal=True", buckets=(SMALL,)), "net.causal has no effect"),
    (rules.still, changed(objective=Denoising(independent=0.5), buckets=(SMALL,)), "independent has no effect"),
    (rules.rollout, net(CAUSAL), "gives frames noise times of their own"),
    (rules.blocks, changed("denoiser.objective.block=2"), "block is 2 and has no effect"),
    (rules.remembering, changed("sampling.rollout=Cached"), "sampling.rollout: only a transformer that is causal"),
    (rules.remembering, replace(net(PAIRS), sampling=Sampling(rollout=Cached(3))), "goes on by 2 frames"),
    (rules.windows, changed(buckets=(replace(CLIP, kind="image"),)), "no still has 5 frames"),
    (rules.windows, changed(buckets=(replace(SMALL, stride=2),)), "stride=2 has no effect"),
    (rules.motion, replace(SOUND, codec=replace(SOUND.codec, buckets=(SMALL,))), "codec.buckets hold stills only"),
    (rules.guidance, changed(denoiser=replace(SOUND.denoiser.denoiser, conditions={})), "guidance has no effect"),
    (rules.guidance, changed("denoiser.denoiser.conditions.label.dropout=0"), "label with dropout 0"),
    (rules.spectrum, changed(objective=Denoising(density=FromSpectrum()), buckets=(TINY,)), "are 2x2, and a spectrum"),
    (rules.critic, replace(SOUND, codec=LATE), "adversary starts after 1,000"),
    (rules.names, changed('evaluation.names=("a", "b")'), "names has 2 names and the label 3"),
    (rules.compilations, changed(buckets=tuple(replace(CLIP, batch=n) for n in range(8, 48))), "have 40 shapes"),
    (rules.empty, net(PACKS, packing=Packing(200, 2)), "is 200, of which clips fill 128 at the most"),
    (rules.heads, replace(SOUND, layout=Layout(tensor=4)), "layout.tensor = 4 does not divide"),
]


@pytest.mark.parametrize(("rule", "run", "said"), CASES, ids=[said for *_, said in CASES])
def test_what_is_found(rule, run, said):
    found = list(rule(run))
    assert len(found) == 1
    assert said in found[0]


def test_a_sound_run_is_left_alone():
    assert lint(SOUND) == []


def test_packs_are_looked_at_as_packs():
    sound = net(PACKS, packing=Packing(256, 2))
    assert lint(sound) == []
    assert list(rules.compilations(replace(sound, denoiser=replace(sound.denoiser, buckets=(CLIP,) * 40)))) == []
    assert "a batch of 2 does not divide" in lint(replace(sound, layout=Layout(data=4)))[0]
    assert "make rows as long" in lint(net(PACKS, packing=Packing(64, 2)))[0]


def test_every_lint_is_demonstrated():
    assert {rule for rule, *_ in CASES} == set(rules.LINTS)


def test_all_that_is_found_is_told():
    assert len(lint(changed("denoiser.train.log_every=1000", 'evaluation.names=("a", "b")'))) == 2

"""Clips of many shapes in one run: by buckets, a compilation for each shape; by packs, one for all."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import diorama.train.loop as loop
from diorama.codec import PixelCodecConfig
from diorama.core import UserError
from diorama.core.config import parse, to_text
from diorama.data import ArraySource, Catalogue, curate
from diorama.data.feed import collate
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.diffusion.align import SelfAlignment
from diorama.media import write_mp4, write_png
from diorama.net import LabelConfig, LowResolutionConfig, TransformerConfig
from diorama.process import RectifiedFlow, ShiftedBySize
from diorama.run import Bucket, CodecStage, DenoiserStage, Generator, Run, Sampling, Variants, aspect_buckets, train_run
from diorama.run.packing import Packing, turns
from diorama.run.plan.compiled import batches, parts
from diorama.sample import Euler
from diorama.train import Train, Validate, read_log
from tests.net.tiny import UNET

SHAPES = {"tall": (16, 8), "square": (12, 10), "wide": (8, 16)}
BUCKETS = aspect_buckets(24, (1, 3), (0.5, 2.0), multiple=2, batch=6)[:3]  # of videos, those that are tall
NET = TransformerConfig(width=16, depth=1, heads=2, patch=(1, 1, 1), mixing=False, previous=False)
RUN = Run(
    name="shapes",
    codec=CodecStage(PixelCodecConfig()),
    denoiser=DenoiserStage(
        DenoiserConfig(NET, {"label": LabelConfig(classes=3)}),
        BUCKETS,
        Train(examples=40, checkpoint_every=8, log_every=4),
        Denoising(independent=0.5),
    ),
    sampling=Sampling(solver=Euler(), steps=1, batch=2),
)
PACKED = replace(RUN, denoiser=replace(
    RUN.denoiser, packing=Packing(tokens=192, rows=2), train=replace(RUN.denoiser.train, examples=16)
))  # fmt: skip
VALIDATE = Validate(every=16, clips=2, strata=1)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory) -> Catalogue:
    """12 stills and 12 videos of 3 frames in each of three shapes; a quarter is held back."""
    root, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    media, rows = root / "media", []
    media.mkdir()
    for label, (name, (h, w)) in enumerate(SHAPES.items()):
        for i in range(12):
            pixels = rng.integers(0, 256, (3, h, w, 3), np.uint8)
            write_png(media / f"{name}{i}.png", pixels[0])
            write_mp4(media / f"{name}{i}.mp4", pixels[::-1], 8.0, lossless=True)
            rows += [{"file_name": f"{name}{i}.{kind}", "text": name, "label": label,
                      "split": "test" if i % 4 == 3 else "train"} for kind in ("png", "mp4")]  # fmt: skip
    (media / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curate([media], root / "catalogue", workers=1)
    return Catalogue(root / "catalogue")


@pytest.fixture
def compilations(monkeypatch, caplog):
    """How often the training step was compiled: by what JAX logs of it, and by the programs that the step holds."""
    steps = []
    monkeypatch.setattr(loop, "make_step", lambda *a, make=loop.make_step: steps.append(make(*a)) or steps[-1])
    jax.config.update("jax_log_compiles", True)
    caplog.set_level(logging.WARNING, "jax")

    def count() -> tuple[int, int]:
        logged = sum("Compiling jit(step)" in record.getMessage() for record in caplog.records)
        return logged, sum(step.func._cache_size() for step in steps)

    yield count
    jax.config.update("jax_log_compiles", False)


def test_by_buckets_each_shape_is_compiled_once(catalogue, compilations, tmp_path, capfd):
    assert len(BUCKETS) == 3
    train_run(RUN, catalogue, tmp_path / "run")
    assert compilations() == (3, 3)
    assert "batches of 3 shapes, each compiled once" in capfd.readouterr().err


@pytest.fixture(scope="module")
def packed(catalogue, tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("packed") / "run"


def test_by_packs_one_compilation_serves_all(catalogue, packed, compilations, capfd):
    run = replace(PACKED, denoiser=replace(PACKED.denoiser, train=replace(PACKED.denoiser.train, validate=VALIDATE)))
    train_run(run, catalogue, packed)
    assert compilations() == (1, 1)
    said = capfd.readouterr().err
    assert "clips of 3 shapes in rows of 192 tokens, 9" in said
    assert "one shape of batches, compiled once" in said
    lines = read_log(packed / "denoiser")
    assert 0.8 < np.mean([line["filled"] for line in lines if "filled" in line]) <= 1
    assert {"loss_1x4x6", "loss_3x6x4", "validation", "loss_tau0"} <= {name for line in lines for name in line}
    assert parse((packed / "config.txt").read_text(), Run) == run
    last = BUCKETS[-1]  # the model knows nothing of packs
    media = Generator.load(packed).draw([""], np.array([2]), ids=np.arange(1), bucket=last)
    assert media.shape[1:4] == (last.frames, last.height, last.width)


def test_it_ends_alike_straight_and_killed(catalogue, packed, tmp_path, monkeypatch):
    """And so do two runs of one seed; validation changes nothing."""
    save = loop.Checkpoints.save

    def killed(self, state, examples, *args, **more):
        save(self, state, examples, *args, **more)
        if examples == 8:
            self.wait()
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train_run(PACKED, catalogue, tmp_path / "run")
    monkeypatch.setattr(loop.Checkpoints, "save", save)
    train_run(PACKED, catalogue, tmp_path / "run")
    straight, again = (path / "denoiser.safetensors" for path in (packed, tmp_path / "run"))
    assert straight.read_bytes() == again.read_bytes()


def test_rows_that_are_too_short_are_refused_before_anything_is_made(catalogue, tmp_path):
    short = replace(PACKED, denoiser=replace(PACKED.denoiser, packing=Packing(64, 2)))
    with pytest.raises(UserError, match=r"packing\.tokens is 64, and latents of 3x6x4 are 72: make rows as long"):
        train_run(short, catalogue, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_plans_are_made_for_rows_as_they_come():
    rng, given = np.random.default_rng(0), []
    for bucket in BUCKETS:
        media = rng.normal(size=(32, bucket.frames, bucket.height, bucket.width, 3)).astype(np.float32)
        columns = {"media": media, "id": np.arange(32, dtype=np.uint32), "label": np.zeros(32, np.int32)}
        given.append((bucket, ArraySource(columns)))
    [(rows, size, _)], objective = turns(PACKED.denoiser, given, RUN.denoiser.objective, 0, "denoiser")
    [bucket] = batches(PACKED, "denoiser")
    _, planned, _, batch = parts(PACKED, "denoiser", bucket)
    real = collate([rows[i] for i in range(size)])
    assert (bucket.batch, planned) == (size, objective)
    assert {name: (x.shape, x.dtype) for name, x in batch.items()} == {n: (x.shape, x.dtype) for n, x in real.items()}
    assert all(rows[i]["label"][s] == (-1 if s >= len(rows.rows[i]) else 0) for i in range(9) for s in range(rows.most))


DENOISER = PACKED.denoiser.denoiser
LOW = {"low": LowResolutionConfig(space=2)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"denoiser": replace(DENOISER, net=UNET)}, "the network is a UNetConfig: take a TransformerConfig"),
        ({"denoiser": replace(DENOISER, net=replace(NET, patch=(1, 2, 2)))}, r"set its patch to \(1, 1, 1\)"),
        ({"denoiser": replace(DENOISER, net=replace(NET, mixing=True))}, "sees each latent cell by itself"),
        ({"denoiser": replace(DENOISER, net=replace(NET, registers=2))}, "registers to 0"),
        ({"denoiser": replace(DENOISER, process=ShiftedBySize(RectifiedFlow()))}, "one process with white noise"),
        ({"denoiser": replace(DENOISER, conditions=LOW)}, "no place for a lower resolution"),
        ({"denoiser": replace(DENOISER, conditions={"clip": LabelConfig(classes=2)})}, "'clip' is said of packed"),
        ({"latents": Variants(flips=True)}, "one view of each clip"),
        ({"align": (SelfAlignment(),)}, "no terms on features"),
        ({"objective": Denoising(stratified=True)}, "stratified to False"),
        ({"buckets": (Bucket(), Bucket(frames=3, weight=2.0))}, "leave the buckets' weights alone"),
        ({"packing": None}, ""),
    ],
)
def test_what_packs_cannot_have_is_refused(change, said):
    if not said:
        assert parse(to_text(replace(PACKED.denoiser, **change)), DenoiserStage).packing is None
        return
    with pytest.raises(UserError, match=said):
        replace(PACKED.denoiser, **change)


def test_there_is_a_row_of_a_token():
    with pytest.raises(UserError, match="at least one row of at least one token"):
        Packing(0, 1)

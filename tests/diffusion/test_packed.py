"""A packed clip's loss is its loss alone."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.data import ArraySource
from diorama.data.feed import collate
from diorama.data.pack import PackedSource
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.diffusion.objective import BANDS
from diorama.diffusion.packed import PackedDenoising
from diorama.process import Coloured, RectifiedFlow, ShiftedBySize
from tests.net.tiny import CHANNELS, LABEL, TEXT, TRANSFORMER, made

CONFIG = DenoiserConfig(
    replace(TRANSFORMER, patch=(1, 1, 1), mixing=False, previous=False), {"text": TEXT, "label": LABEL}
)
MODEL = made(lambda key: CONFIG.init(key, CHANNELS))
KEY = jax.random.key(3)
SHAPES = [(1, 2, 3), (3, 2, 2)]


def source(number: int, n: int) -> ArraySource:
    rng = np.random.default_rng(number)
    text = rng.integers(1, 200, (n, 5)).astype(np.int32)
    text[0] = 0
    columns = {
        "media": rng.normal(size=(n, *SHAPES[number], CHANNELS)).astype(np.float32),
        "id": np.arange(100 * number, 100 * number + n, dtype=np.uint32),
        "label": rng.integers(-1, 4, n).astype(np.int32),
        "text": text,
    }
    return ArraySource(columns)


SOURCES = [source(0, 5), source(1, 4)]


def test_each_clip_meets_what_it_meets_alone():
    objective = Denoising(independent=0.5)
    packed = PackedSource(SOURCES, 24, plans=1, fill={"label": -1})
    batch = collate([packed[i] for i in range(len(packed))])
    loss = jax.jit(PackedDenoising(objective, packed.longest, packed.frames))(MODEL, batch, KEY)
    total, each, bands = 0.0, {}, {}
    for part in SOURCES:
        alone = collate([part[i] for i in range(len(part))])
        cells = np.prod(alone["media"].shape[1:4])
        own = jax.jit(objective)(MODEL, alone, KEY)
        total += float(own.value) * len(part) * cells
        each |= dict(zip(alone["id"], np.asarray(own.each), strict=True))
        tau = objective.noised(MODEL, alone, KEY).tau.mean(1)
        bands |= dict(zip(alone["id"], np.minimum(np.asarray(tau * BANDS).astype(int), BANDS - 1), strict=True))
    assert float(loss.value) == pytest.approx(total / batch["segment"].size, rel=1e-5)
    assert float(loss.metrics["filled"]) == pytest.approx(packed.filled)
    found = np.asarray(loss.each)
    there = ~np.isnan(found)
    assert sorted(batch["clip"][there]) == sorted(each)
    np.testing.assert_allclose(found[there], [each[i] for i in batch["clip"][there]], rtol=1e-4)
    for band in range(BANDS):
        held = [each[i] for i in each if bands[i] == band]
        if held:
            assert float(loss.metrics[f"loss_tau{band}"]) == pytest.approx(np.mean(held), rel=1e-4)
        else:
            assert np.isnan(loss.metrics[f"loss_tau{band}"])


def test_modulation_is_computed_once_a_frame():
    packed = PackedSource(SOURCES, 24, plans=1, fill={"label": -1})
    batch = collate([packed[0]])
    assert batch["first"].shape == (1, 6) < batch["frame"].shape  # frames have four cells and more
    objective = PackedDenoising(Denoising(), packed.longest, packed.frames)
    program = str(jax.make_jaxpr(objective)(MODEL, batch, KEY))
    made = re.findall(rf"f32\[(\d+),{6 * TRANSFORMER.width}\] = dot_general", program)
    assert made == ["6"]  # in the scan over blocks


def test_gradient_by_parts_is_that_of_the_whole():
    packed = PackedSource(SOURCES, 12, plans=1, fill={"label": -1})
    batch = collate([packed[i] for i in range(len(packed) // 2 * 2)])
    objective = PackedDenoising(Denoising(), packed.longest, packed.frames)
    value = jax.jit(lambda batch: objective(MODEL, batch, KEY).value)
    parts = [value({k: v[i::2] for k, v in batch.items()}) for i in range(2)]
    assert float(value(batch)) == pytest.approx(float(jnp.mean(jnp.stack(parts))), rel=1e-6)


@pytest.mark.parametrize("process", [ShiftedBySize(RectifiedFlow()), RectifiedFlow(noise=Coloured())])
def test_processes_that_go_by_shape_are_refused(process):
    packed = PackedSource(SOURCES, 24, plans=1, fill={"label": -1})
    model = replace(MODEL, process=process)
    with pytest.raises(UserError, match="one process with white noise"):
        PackedDenoising(Denoising(), packed.longest, packed.frames)(model, collate([packed[0]]), KEY)
    with pytest.raises(UserError, match=r"objective\.stratified"):
        PackedDenoising(Denoising(stratified=True), 1, 1)

from types import SimpleNamespace

import jax
import pytest

from diorama.core.chips import CHIPS, chip, cpu, of_device


def test_names_are_unique_and_found():
    assert [chip(known.name) for known in CHIPS] == list(CHIPS)
    assert chip("abacus") is None
    assert chip("cpu") is cpu()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA H200", "h200"), ("TPU v5 lite", "v5e"), ("TPU v5", "v5p"),
     ("TPU v6 lite", "v6e")],
)  # fmt: skip
def test_devices_are_known_by_their_kind(kind, name):
    assert of_device(SimpleNamespace(platform="gpu", device_kind=kind)).name == name


@pytest.mark.parametrize("kind", ["NVIDIA H200 NVL", "NVIDIA H100 PCIe", "TPU v2"])
def test_what_is_not_known_has_no_figures(kind):
    assert of_device(SimpleNamespace(platform="gpu", device_kind=kind)) is None


def test_this_machine_is_measured():
    one, whole = of_device(jax.devices("cpu")[0]), cpu()
    n = jax.local_device_count("cpu")
    assert one.float32 * n == pytest.approx(whole.float32)
    assert 1e8 < whole.float32 < 1e15
    assert 1e8 < whole.bandwidth < 1e13
    assert whole.memory > 1 << 28


@pytest.mark.parametrize("known", CHIPS, ids=lambda known: known.name)
def test_figures_are_in_order(known):
    """What is nearer is faster, and a bit of precision costs no less than none."""
    assert known.peak("bfloat16") >= known.peak("float32") == known.float32
    assert known.bandwidth > known.link > known.network
    assert known.bfloat16 / known.bandwidth > 100

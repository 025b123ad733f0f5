import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.config import override, parse, to_text
from diorama.core.errors import UserError
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import UNetConfig
from diorama.process import EDM, LinearVP, Process, RectifiedFlow, Shifted, ShiftedBySize
from diorama.process.shift import shifted

TAU = jnp.linspace(0.05, 0.95, 7)


def test_times_move_towards_noise_and_back():
    np.testing.assert_allclose(shifted(np.asarray([0.0, 0.5, 1.0]), 3.0), [0, 0.75, 1])
    np.testing.assert_allclose(shifted(shifted(np.asarray([0.2, 0.6]), 3.0), 1 / 3.0), [0.2, 0.6])


def test_it_scales_the_noise_to_signal_ratio_of_rectified_flow(x64):
    """S multiplies sigma/alpha, as S^2 times the pixels would."""
    process = RectifiedFlow()
    np.testing.assert_allclose(Shifted(process, 3.0).logsnr(TAU), process.logsnr(TAU) - 2 * np.log(3.0), rtol=1e-9)


@pytest.mark.parametrize("process", [RectifiedFlow(), LinearVP(), EDM()], ids=lambda p: type(p).__name__)
def test_it_is_the_same_process_at_other_times(process, x64):
    moved = Shifted(process, 2.5)
    np.testing.assert_allclose(moved.alpha(TAU), process.alpha(shifted(TAU, 2.5)))
    np.testing.assert_allclose(moved.tau_of_logsnr(moved.logsnr(TAU)), TAU, rtol=1e-7)
    for found, expected in zip(moved.rates(TAU), Process.rates(moved, TAU), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_shift_follows_from_the_number_of_values():
    process = ShiftedBySize(RectifiedFlow())
    assert process.of((1, 16, 16, 768)).shift == pytest.approx(6.93, abs=0.005)  # RAE's figure
    assert process.of((4, 16, 16, 16)).shift == 2.0
    with pytest.raises(UserError, match="one for each shape"):
        process.alpha(TAU)


def test_training_and_denoiser_walk_the_same_one():
    """A denoiser of the unshifted process at the shifted time says the same, and its loss there is the same."""
    config = DenoiserConfig(UNetConfig(widths=(8,), heads=2, width=8), conditions={})
    x, tau = jax.random.normal(jax.random.key(0), (2, 2, 4, 4, 3)), jnp.full((2, 2), 0.4)
    plain = config.init(jax.random.key(1), 3)
    sized = DenoiserConfig(config.net, {}, ShiftedBySize(base=24)).init(jax.random.key(1), 3)  # sqrt(96 / 24) = 2
    np.testing.assert_allclose(sized(x, tau, {}).x0, plain(x, shifted(tau, 2.0), {}).x0, rtol=1e-5, atol=1e-6)
    ids = jnp.arange(2, dtype=jnp.uint32)
    loss, _ = Denoising()(sized, {"media": x, "id": ids}, jax.random.key(2))
    assert np.isfinite(loss)


def test_it_can_be_configured():
    config = DenoiserConfig(UNetConfig(), {})
    config = override(
        config, ["process=Shifted", "process.shift=2.0", "process.process=LinearVP", "process.noise=Coloured"]
    )
    assert config.process.shift == 2.0
    assert parse(to_text(config), DenoiserConfig) == config

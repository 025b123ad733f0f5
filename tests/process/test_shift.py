import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.config import override, parse, to_text
from diorama.core.errors import UserError
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import UNetConfig
from diorama.process import (
    EDM,
    PROCESSES,
    Coloured,
    LinearVP,
    Process,
    RectifiedFlow,
    Shifted,
    ShiftedBySize,
    ZeroTerminal,
    density,
)
from diorama.process.shift import shifted

TAU = np.linspace(0.05, 0.95, 7)  # of numpy: double wherever JAX is


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


def test_beyond_the_process_s_end_is_its_end():
    """Shifted times have a pole there, and were negative beyond it."""
    process = Shifted(EDM(), 4.0)
    np.testing.assert_array_equal(process.tau_of_logsnr(jnp.asarray([-10.0, -14.0, -20.0])), 1.0)
    for law in (density.UniformLogSNR(-20.0, 10.0), density.Spectral((5.0, -7.0), tail=0.3)):
        taus = law.quantile(process, jnp.linspace(1e-4, 1 - 1e-4, 500))
        assert (jnp.diff(taus) >= 0).all()
        assert 0 <= taus[0] < taus[-1] == 1


@pytest.mark.parametrize("remade", [Shifted, ShiftedBySize])
def test_data_and_noise_are_those_of_the_process_within(remade):
    process = remade(EDM(noise=Coloured()))
    for each in (process, process.of((1, 4, 4, 2)), ZeroTerminal(LinearVP(noise=Coloured(), sigma_data=0.5))):
        assert (each.sigma_data, each.noise) == (0.5, Coloured())
    assert process.of((1, 4, 4, 2)).at(0.5, 5).sigma_data == 0.5
    with pytest.raises(TypeError):
        remade(EDM(), noise=Coloured())


def test_every_other_process_can_be_shifted():
    for kind in PROCESSES:
        if kind not in (Shifted, ShiftedBySize):
            settings = ["process=Shifted", f"process.process={kind.__name__}"]
            assert override(DenoiserConfig(UNetConfig(), {}), settings).process.process == kind()


def test_training_and_denoiser_walk_the_same_one():
    """A denoiser of the unshifted process at the shifted time says the same, and its loss there is the same."""
    config = DenoiserConfig(UNetConfig(widths=(8,), heads=2, width=8), conditions={})
    x, tau = jax.random.normal(jax.random.key(0), (2, 2, 4, 4, 3)), jnp.full((2, 2), 0.4)
    plain = config.init(jax.random.key(1), 3)
    sized = DenoiserConfig(config.net, {}, ShiftedBySize(base=24)).init(jax.random.key(1), 3)  # sqrt(96 / 24) = 2
    np.testing.assert_allclose(sized(x, tau, {}).x0, plain(x, shifted(tau, 2.0), {}).x0, rtol=1e-5, atol=1e-6)
    ids = jnp.arange(2, dtype=jnp.uint32)
    assert np.isfinite(Denoising()(sized, {"media": x, "id": ids}, jax.random.key(2)).value)


def test_it_can_be_configured():
    config = DenoiserConfig(UNetConfig(), {})
    settings = ["process=Shifted", "process.shift=2.0", "process.process=LinearVP", "process.process.noise=Coloured"]
    config = override(config, settings)
    assert config.process == Shifted(LinearVP(noise=Coloured()), 2.0)
    assert config.process.noise == Coloured()
    assert parse(to_text(config), DenoiserConfig) == config
    for setting in ("process.noise=White", "process.sigma_data=0.5"):
        with pytest.raises(UserError, match="there is no setting"):
            override(config, [setting])

"""What latents are like."""

import numpy as np
import pytest

from diorama.evaluate import frechet_distance, pixels
from diorama.evaluate.latents import between, equivariance, importance
from diorama.evaluate.modelability import modelability
from diorama.net import UNetConfig

RNG = np.random.default_rng(0)


def smooth(n, h=16, w=16, c=3):
    """Random fields in which neighbours are alike, of unit variance."""
    noise = RNG.normal(size=(n, 1, h, w, c))
    k = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None])[:, :, None]
    field = np.fft.ifft2(np.fft.fft2(noise, axes=(2, 3)) / (k + 1 / h) ** 1.5, axes=(2, 3)).real
    return (field / field.std()).astype(np.float32)


CLIPS = np.clip(128 + 50 * smooth(24), 0, 255).astype(np.uint8)


def pool(x):
    n, t, h, w, c = x.shape
    return x.reshape(n, t, h // 2, 2, w // 2, 2, c).mean((3, 5), dtype=np.float32)


def spread(z):
    return np.rint(z.repeat(2, 2).repeat(2, 3)).astype(np.uint8)


def fold(x):
    n, t, h, w, c = x.shape
    return x.reshape(n, t, h // 2, 2, w // 2, 2, c).swapaxes(3, 4).reshape(n, t, h // 2, w // 2, 4 * c).astype(float)


def unfold(z):
    n, t, h, w, c = z.shape
    out = z.reshape(n, t, h, w, 2, 2, c // 4).swapaxes(3, 4).reshape(n, t, 2 * h, 2 * w, c // 4)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def test_averages_turn_with_the_picture_and_folded_pixels_do_not():
    for name, (error, _) in equivariance(CLIPS, pool(CLIPS), pool, spread).items():
        assert error < 1e-3, name
    folded = equivariance(CLIPS, fold(CLIPS), fold, unfold)
    assert folded["turned by 90 degrees"][0] > 1e-2
    assert folded["turned by 90 degrees"][1] < 40  # its pixels are in another order
    white = RNG.integers(0, 256, CLIPS.shape).astype(np.uint8)

    def scatter(x):
        return np.random.default_rng(list(x[0, 0, 0].tobytes())).normal(size=x.shape)

    scattered = equivariance(white, scatter(white), scatter, lambda z: np.clip(z, 0, 255).astype(np.uint8))
    assert scattered["mirrored"][0] == pytest.approx(2, rel=0.05)  # nothing in common


def test_a_dead_channel_is_worth_nothing():
    latents = np.concatenate([pool(CLIPS), RNG.normal(size=(24, 1, 8, 8, 1))], -1)
    worth = importance(CLIPS, spread(latents[..., :3]), latents, lambda z: spread(z[..., :3]))
    assert worth.shape == (4,)
    assert (worth[:3] > 1).all()
    assert worth[3] == 0


def test_between_is_half_way_to_the_nearest():
    latents = np.array([0, 1, 10, 14], float).reshape(4, 1, 1, 1, 1)
    np.testing.assert_array_equal(between(latents).ravel(), [0.5, 0.5, 12, 12])


def test_interpolated_distance_sees_what_reconstruction_does_not():
    """A codec whose latents lie in no order decodes them well and what is between them badly."""
    features = pixels(4)
    key = RNG.integers(0, 256, CLIPS.shape[1:])

    def unmix(z):
        return ((np.rint(z).astype(int) * 133 - key) % 256).astype(np.uint8)  # 77 * 133 = 1 modulo 256

    mixed = ((CLIPS + key) * 77 % 256).astype(float)
    np.testing.assert_array_equal(unmix(mixed), CLIPS)
    plain = np.rint(between(CLIPS.astype(float))).astype(np.uint8)
    data, one, other = (features.moments(x) for x in (CLIPS, plain, unmix(between(mixed))))
    assert frechet_distance(data, other) > 5 * frechet_distance(data, one)


def test_what_has_structure_is_easier_to_model():
    white = RNG.normal(size=(96, 1, 8, 8, 4)).astype(np.float32)
    flat = np.broadcast_to(RNG.normal(size=(96, 1, 1, 1, 4)), white.shape).astype(np.float32)
    net = UNetConfig(widths=(8,), heads=2, width=16)
    noise, structure = (modelability(z[:64], z[64:], seed=0, steps=150, rate=1e-2, net=net) for z in (white, flat))
    assert 0.95 < noise.ratio < 1.2
    assert structure.ratio < 0.85 * noise.ratio
    assert (structure.n, structure.steps) == (32, 150)

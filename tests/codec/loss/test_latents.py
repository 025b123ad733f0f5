"""Terms on latents, on codecs and fields for which their values are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.codec.loss import L1, L2, Alignment, Coded, Equivariance, LatentNoise, LatentSpectrum
from diorama.codec.loss.alignment import at_latents
from diorama.core import UserError
from diorama.core.array import Array
from diorama.core.module import Module
from diorama.core.random import normal, uniform
from diorama.net.layers import Linear, depth_to_space, space_to_depth

IDS = jnp.arange(2, dtype=jnp.uint32)
KEYS = [jax.random.key(i) for i in range(12)]


class Same(Module):
    """Latents are the media."""

    gain: Array

    def decode(self, latents):
        return self.gain * latents


class Folded(Same):
    """Latents are 2 x 2 pixels folded into channels: turning a cell does not turn what is in it."""

    def decode(self, latents):
        return depth_to_space(latents, 2)


class Tiles(Same):
    """A cell is one colour of 2 x 2 pixels."""

    def decode(self, latents):
        return latents.repeat(2, 2).repeat(2, 3)


def coded(model, media, latents, projection=None):
    return Coded(media, latents, media, IDS, model, projection)


def media_of(h, w, t=1, c=3):
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, t, h, w, c)), jnp.float32)


def values(term, seen):
    run = jax.jit(lambda key: term(seen, key))
    return [float(run(key)) for key in KEYS]


@pytest.mark.parametrize(("h", "w"), [(8, 8), (4, 12)])
def test_a_codec_that_follows_scale_and_turns_costs_nothing(h, w):
    x = media_of(h, w, t=2)
    assert max(values(Equivariance(of=L1()), coded(Same(jnp.ones(())), x, x))) < 1e-6
    double = values(Equivariance(of=L1(), scales=(0.5, 1.0)), coded(Same(2 * jnp.ones(())), x, x))
    assert min(double) > 0.1  # what it decodes is compared, not only where it lies
    assert len({round(v, 5) for v in double}) == 2  # both scales were drawn; turns do not matter to it


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_turns_are_those_of_media(turn):
    cells = media_of(4, 6)
    tiles = cells.repeat(2, 2).repeat(2, 3)
    term = Equivariance(of=L1(), scales=(1.0,), turns=(turn,))
    assert float(term(coded(Tiles(jnp.ones(())), tiles, cells), KEYS[0])) == 0
    x = media_of(8, 12)
    folded = float(term(coded(Folded(jnp.ones(())), x, space_to_depth(x, 2)), KEYS[0]))
    assert folded == 0 if turn == 0 else folded > 0.1
    pixels = np.asarray(x)  # by hand: cells are turned, what is in them is not
    by_hand = depth_to_space(jnp.asarray(np.rot90(space_to_depth(x, 2), turn, (2, 3))), 2)
    assert folded == pytest.approx(float(np.abs(by_hand - np.rot90(pixels, turn, (2, 3))).mean()), rel=1e-5)


def test_what_is_drawn_does_not_depend_on_the_company():
    x = media_of(8, 8)
    model, term = Folded(jnp.ones(())), Equivariance(of=L1())
    both = coded(model, x, space_to_depth(x, 2))
    alone = [jax.tree.map(lambda a, i=i: a[i : i + 1] if a.ndim else a, both) for i in range(2)]
    for key in KEYS[:3]:
        assert float(term(both, key)) == pytest.approx(np.mean([float(term(one, key)) for one in alone]), rel=1e-5)


def test_noise_on_latents_is_relative_to_them():
    x = media_of(4, 4)
    one, ten = (LatentNoise(of=L2(), most=0.5)(coded(Same(jnp.ones(())), s * x, s * x), KEYS[0]) for s in (1.0, 10.0))
    assert float(ten) == pytest.approx(100 * float(one), rel=1e-4)
    k1, k2 = jax.random.split(KEYS[0])
    sigma = 0.5 * np.asarray(uniform(k1, IDS))
    squares = np.square(np.asarray(normal(k2, IDS, x.shape[1:]))).mean((1, 2, 3, 4))
    wanted = np.mean(sigma**2 * np.square(np.asarray(x)).mean((1, 2, 3, 4)) * squares)
    assert float(one) == pytest.approx(wanted, rel=1e-5)


def field(exponent, n=16, random=False, seed=0):
    """Latents (2, 1, n, n, 3) with the spectrum k^-exponent, exactly or as the mean of a Gaussian field."""
    rng = np.random.default_rng(seed)
    white = np.fft.fft2(rng.standard_normal((2, 1, n, n, 3)), axes=(2, 3))
    white = white if random else white / np.abs(white)
    k = np.rint(np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None]) * n)
    amplitude = np.where(k > 0, np.maximum(k, 1) ** (-exponent / 2), 0)[..., None]
    return jnp.asarray(np.fft.ifft2(white * amplitude, axes=(2, 3)).real, jnp.float32)


def spectrum(term, z):
    return float(term(coded(Same(jnp.ones(())), z, z), KEYS[0]))


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0])
def test_a_power_law_costs_nothing(exponent):
    term = LatentSpectrum(exponent=exponent)
    assert spectrum(term, field(exponent)) < 1e-8
    assert spectrum(term, 7 * field(exponent)) < 1e-8  # its level is free
    assert spectrum(term, field(exponent, random=True)) < 0.1  # sampling: 1 / (2 x ring) for each ring
    off = np.var(np.log(np.arange(1, 9)))  # of another slope: the square of the difference times this
    assert spectrum(term, field(exponent + 1)) == pytest.approx(off, rel=1e-3)
    assert spectrum(term, field(exponent - 0.5)) == pytest.approx(off / 4, rel=1e-3)


def test_following_the_gradient_makes_the_spectrum_a_power_law():
    z, term = field(0.0, random=True), LatentSpectrum()
    step = jax.jit(lambda z: z - 20.0 * jax.grad(lambda z: term(coded(Same(jnp.ones(())), z, z), KEYS[0]))(z))
    before = spectrum(term, z)
    for _ in range(100):
        z = step(z)
    assert spectrum(term, z) < 0.1 * before
    with pytest.raises(UserError, match="2 x 8 have no spectrum"):
        spectrum(term, jnp.zeros((2, 1, 2, 8, 3)))


class Given(Module):
    """Features that are handed over."""

    features: Array
    width: int = 4

    def __call__(self, media):
        return self.features


def alignment(z, features, matrix, **margins):
    term = Alignment(features=Given(features), **margins)
    return float(term(coded(Same(jnp.ones(())), media_of(8, 8), z, Linear(matrix, jnp.zeros(4))), KEYS[0]))


def test_alignment_is_the_papers_equation():
    rng = np.random.default_rng(0)
    z, f, w = rng.standard_normal((2, 1, 3, 2, 4)), rng.standard_normal((2, 1, 3, 2, 4)), rng.standard_normal((4, 4))
    total = []
    for i in range(2):
        a, b = (z[i] @ w).reshape(6, 4), f[i].reshape(6, 4)
        a, b = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b))
        near = np.maximum(0, 1 - 0.5 - (a * b).sum(1)).mean()
        total.append(near + np.maximum(0, np.abs(a @ a.T - b @ b.T) - 0.25).mean())
    z, f, w = (jnp.asarray(x, jnp.float32) for x in (z, f, w))
    assert alignment(z, f, w) == pytest.approx(np.mean(total), rel=1e-5)
    assert alignment(z, 3 * z @ w, w) < 1e-6  # lengths do not matter
    turned = z @ jnp.linalg.qr(w)[0]
    assert alignment(z, turned, jnp.eye(4), near=2.0, apart=0.0) < 1e-5  # angles between places are kept


def test_features_are_brought_to_the_latents_places():
    media = media_of(8, 8, t=5)
    f = jnp.arange(5.0)[None, :, None, None, None] * jnp.ones((2, 5, 4, 4, 3))
    np.testing.assert_allclose(at_latents(f, (2, 3, 2, 2, 3))[0, :, 0, 0, 0], [0, 1.5, 3.5], atol=1e-5)
    assert at_latents(media, (2, 5, 3, 5, 3)).shape == (2, 5, 3, 5, 3)
    np.testing.assert_array_equal(at_latents(media[:, :1], (2, 1, 8, 8, 3)), media[:, :1])


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="scales"):
        Equivariance(scales=(0.0,))
    with pytest.raises(UserError, match="quarter turns"):
        Equivariance(turns=(4,))

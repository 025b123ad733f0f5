"""LPIPS: what the lpips package gives at the same weights, and what a distance must be."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from diorama.codec.loss import LPIPS, Alignment, Perceptual, TrunkFeatures
from diorama.codec.loss.perceptual import TRUNKS, heads_of, trunk_of
from diorama.codec.loss.term import rgb
from diorama.core import UserError

# lpips 0.1.4 on torch 2.13.0, float32: LPIPS(net=..., pretrained=False, lpips=True) with the weights of `arrays`.
# Distances of two pairs each, and the norm of the gradient of their sum at the second pictures.
RECORDED = {
    ("alexnet", 64, 64): ([0.2466709017753601, 0.24604448676109314], 0.06420284509658813),
    ("alexnet", 47, 80): ([0.24668583273887634, 0.26818251609802246], 0.07293158769607544),
    ("vgg16", 64, 64): ([0.2393689602613449, 0.23972462117671967], 0.025632783770561218),
    ("vgg16", 47, 80): ([0.24364539980888367, 0.24764536321163177], 0.02934027029335022),
}


@cache
def arrays(name):
    """Random weights under the names that files have."""
    rng, out = np.random.default_rng(0), {}
    for x in TRUNKS[name]:
        shape = (x.outputs, x.inputs, x.size, x.size)
        kernel = rng.standard_normal(shape) * np.sqrt(2 / (x.inputs * x.size**2))
        out[f"features.{x.index}.weight"] = kernel.astype(np.float32)
        out[f"features.{x.index}.bias"] = (0.1 * rng.standard_normal(x.outputs)).astype(np.float32)
    for i, width in enumerate(x.outputs for x in TRUNKS[name] if x.read):
        out[f"lin{i}.model.1.weight"] = np.abs(rng.standard_normal((1, width, 1, 1))).astype(np.float32)
    return out


@cache
def lpips(name):
    layers = TRUNKS[name]
    return LPIPS(trunk_of(arrays(name), layers, "here"), heads_of(arrays(name), layers, "here"))


def pairs(h, w, before=()):
    rng = np.random.default_rng(7)
    for size in (*before, (h, w)):
        a = rng.uniform(-1, 1, (2, *size, 3)).astype(np.float32)
        b = np.clip(a + 0.3 * rng.standard_normal(a.shape), -1, 1).astype(np.float32)
    return a[:, None], b[:, None]


@pytest.mark.parametrize(("name", "h", "w"), list(RECORDED))
def test_it_is_what_the_lpips_package_computes(name, h, w):
    a, b = pairs(h, w, before=() if h == w else ((64, 64),))
    distances, norm = RECORDED[name, h, w]

    @jax.jit
    def run(term, a, b):
        gradient = jax.grad(lambda y: term.distance(a, y).sum())(b)
        return term.distance(a, b), jnp.linalg.norm(gradient)

    found, slope = run(lpips(name), a, b)
    np.testing.assert_allclose(found[:, 0], distances, rtol=2e-5)
    assert float(slope) == pytest.approx(norm, rel=1e-3)


def test_it_is_a_distance_of_frames():
    a, b = pairs(35, 35)
    term = lpips("alexnet")
    run = jax.jit(lambda a, b: term.distance(a, b))
    assert float(run(a, a).max()) < 1e-12
    ab, ba = run(a, b), run(b, a)
    np.testing.assert_allclose(ab, ba, rtol=1e-5)
    video = run(a.swapaxes(0, 1), b.swapaxes(0, 1))  # two examples of a frame, one example of two frames
    np.testing.assert_allclose(video, ab.T, rtol=1e-5)
    assert float(term.compare(a, b)) == pytest.approx(float(ab.mean()), rel=1e-5)
    flat = jnp.zeros_like(a)
    assert np.isfinite(jax.grad(lambda x: term.compare(x, flat))(flat)).all()  # not a root of zero


def test_grey_and_alpha_become_colour():
    grey = np.linspace(-1, 1, 5)[:, None].astype(np.float32)
    np.testing.assert_array_equal(rgb(grey), np.repeat(grey, 3, 1))
    colour = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)
    np.testing.assert_allclose(rgb(np.concatenate([colour, np.ones((5, 1))], 1)), colour, atol=1e-6)
    np.testing.assert_allclose(rgb(np.concatenate([colour, -np.ones((5, 1))], 1)), 1)  # hidden: white
    np.testing.assert_allclose(rgb(np.concatenate([grey, np.zeros((5, 1))], 1)), (np.repeat(grey, 3, 1) + 1) / 2)
    with pytest.raises(UserError, match="5 channels"):
        rgb(np.zeros((1, 5)))


def test_weights_are_read_from_files(tmp_path):
    data = arrays("alexnet")
    whole, trunk, heads, other = (str(tmp_path / f"{name}.safetensors") for name in ("whole", "trunk", "heads", "lp"))
    save_file(data, whole)
    save_file({k: v for k, v in data.items() if k.startswith("features")}, trunk)
    save_file({k: v for k, v in data.items() if k.startswith("lin")}, heads)
    slices = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}
    own = {f"net.slice{slices[int(k.split('.')[1])]}.{k[9:]}": v for k, v in data.items() if k.startswith("features")}
    save_file(own | {k.replace("lin", "lins."): v for k, v in data.items() if k.startswith("lin")}, other)
    a, b = pairs(35, 35)
    wanted = float(lpips("alexnet").compare(a, b))
    for term in (
        Perceptual(weights=whole, trunk="alexnet", weight=0.5),
        Perceptual(weights=trunk, heads=heads, trunk="alexnet", weight=0.5),
        Perceptual(weights=other, trunk="alexnet", weight=0.5),
    ):
        ready = term.init()
        assert (ready.name, ready.weight, term.name) == ("lpips", 0.5, "lpips")
        assert float(ready.compare(a, b)) == pytest.approx(wanted, rel=1e-6)
    features = Alignment(features=TrunkFeatures(weights=trunk, trunk="alexnet")).init().features
    assert features(a).shape == (2, 1, 1, 1, 256)
    assert features.width == 256
    with pytest.raises(UserError, match=r"lacks lin0\.model\.1\.weight \(1, 64, 1, 1\) \(there: missing\)"):
        Perceptual(weights=trunk, trunk="alexnet").init()
    with pytest.raises(UserError, match=r"features\.0\.weight \(64, 3, 3, 3\) \(there: \(64, 3, 11, 11\)\).* more"):
        Perceptual(weights=whole).init()
    (tmp_path / "no.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        Perceptual(weights=str(tmp_path / "no.safetensors")).init()
    with pytest.raises(UserError, match="cannot be read"):
        Perceptual(weights=str(tmp_path / "none")).init()


def test_pictures_too_small_for_the_network_are_refused():
    with pytest.raises(UserError, match="15 x 15 are too small"):
        jax.eval_shape(lpips("vgg16").compare, *(jnp.zeros((1, 1, 15, 15, 3)),) * 2)
    jax.eval_shape(lpips("vgg16").compare, *(jnp.zeros((1, 1, 16, 16, 3)),) * 2)
    with pytest.raises(UserError, match="too small"):
        jax.eval_shape(lpips("alexnet").compare, *(jnp.zeros((1, 1, 12, 12, 3)),) * 2)

"""Terms on a denoiser's features: what is 0 when, whom gradients reach, and what the denoiser is without them."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import random, release
from diorama.core.errors import UserError
from diorama.core.module import Module, paths
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.diffusion.align import IREPA, REPA, Aided, Aligned, Dispersive, SelfAlignment, denoiser_of, grids
from diorama.diffusion.align.irepa import normalised
from diorama.diffusion.align.seen import Seen
from diorama.net import TransformerConfig
from diorama.net.layers import SpatialConv
from diorama.train.optimizer import Widened
from tests.net.tiny import LABEL, NETS, latents, stirred

KEY, WIDTH = jax.random.key(3), 5
SHAPE = (3, 4, 4, 2)
BATCH = {
    "media": latents(4),
    "id": jnp.array([3, 9, 2**32 - 1, 7], jnp.uint32),
    "label": jnp.array([1, -1, 3, 0]),
    "features": jax.random.normal(jax.random.key(1), (4, 3, 3, 3, WIDTH)),  # on a grid of its own
}
TERMS = (REPA(0, hidden=8), IREPA(1), SelfAlignment(0, 1), Dispersive(1))
CONFIG = {name: DenoiserConfig(net, {"label": LABEL}) for name, net in NETS.items()}


class Same(Module):
    """A head that passes on what it gets."""

    def __call__(self, x):
        return x


def objective(*terms):
    return Aligned(Denoising(independent=0.5), terms)


def born(name, *terms):
    """A stirred model of that network, with the terms' heads."""
    init = partial(objective(*terms).init, config=CONFIG[name], shape=SHAPE, features=WIDTH)
    return stirred(jax.eval_shape(init, jax.random.key(0)))


@pytest.fixture(scope="module")
def slopes():
    """For each network and term: the term's value, and the gradient of it alone. One program for all terms."""

    def value(model, features, share):
        found = objective(*TERMS)(model, BATCH | {"features": features}, KEY).metrics
        return sum(x * found[term.name] for x, term in zip(share, TERMS, strict=True))

    out, each = {}, jax.jit(jax.value_and_grad(value, (0, 1)))
    for name in NETS:
        model = born(name, *TERMS)
        shares = np.eye(len(TERMS), dtype=np.float32)
        out[name] = {t.name: each(model, BATCH["features"], x) for t, x in zip(TERMS, shares, strict=True)}
    return out


def reached(gradient):
    return {path for path, g in paths(gradient).items() if np.any(g)}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_gradients_reach_the_head_and_what_lies_before_the_layer(slopes, net, term):
    value, (slope, features) = slopes[net][term.name]
    assert np.isfinite(value)
    assert not np.any(features)  # the encoder's
    found = reached(slope)
    assert all(np.isfinite(g).all() for g in paths(slope).values())
    heads = {path for path in paths(slope) if path.startswith(f"heads.{term.name}.")}
    assert heads == {path for path in found if path.startswith("heads.")}  # its own and no other's
    assert bool(heads) == (term.name != "dispersive")
    beyond = ("up.", "middle.", "leave.", "norm.", "film.")
    assert not any(path.startswith(tuple(f"denoiser.net.{part}" for part in beyond)) for path in found)
    assert any(path.startswith("denoiser.net.enter.") for path in found)
    if net == "unet":
        assert any(path.startswith("denoiser.net.down.1.") for path in found) == (term.layer == 1)
    else:
        for path in (path for path in found if path.startswith("denoiser.net.blocks.")):
            assert np.any(paths(slope)[path][term.layer]), path
            assert not np.any(paths(slope)[path][term.layer + 1 :]), path


def seen(features, z):
    return Seen(None, None, [z], BATCH["id"], features)


def test_alignment_is_0_where_features_are_the_targets():
    y = BATCH["features"]
    assert float(REPA(0)(Same(), seen(y, 3 * y), KEY)) == pytest.approx(0, abs=1e-5)  # directions count, not lengths
    assert float(REPA(0)(Same(), seen(y, -y), KEY)) == pytest.approx(2, abs=1e-5)
    assert float(IREPA(0)(Same(), seen(y, normalised(y, 1.0)), KEY)) == pytest.approx(0, abs=1e-5)


def test_irepa_sees_what_differs_between_places():
    y = BATCH["features"]
    z = normalised(y, 1.0)
    np.testing.assert_allclose(z.mean((2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(z.std((2, 3)), 1, atol=1e-4)
    np.testing.assert_allclose(normalised(2 * y + 7, 1.0), z, atol=1e-4)
    common = y.mean((2, 3), keepdims=True) / y.std((2, 3), keepdims=True)
    np.testing.assert_allclose(normalised(y, 0.0) - z, common + 0 * y, atol=1e-4)
    head = IREPA(1).head(KEY, [4, 6], WIDTH)
    assert isinstance(head, SpatialConv)
    assert head.weight.shape == (3, 3, 6, WIDTH)


def test_dispersive_is_0_for_equal_features_and_least_for_distant_ones():
    z = jax.random.normal(KEY, (4, 1, 2, 2, 3))
    loss = Dispersive(0)
    assert float(loss(None, seen(None, 100 + jnp.broadcast_to(z[:1], z.shape)), KEY)) == pytest.approx(0, abs=1e-6)
    assert float(loss(None, seen(None, 1e3 * z), KEY)) == pytest.approx(-np.log(4), abs=1e-5)
    flat = np.asarray(z, np.float64).reshape(4, -1)
    apart = np.square(flat[:, None] - flat).mean(-1)
    assert float(loss(None, seen(None, z), KEY)) == pytest.approx(np.log(np.exp(-apart / 0.5).mean()), abs=1e-5)
    with pytest.raises(UserError, match="there is one"):
        loss(None, seen(None, z[:1]), KEY)


def test_self_alignment_is_0_where_the_earlier_layer_says_what_the_later_says_of_less_noise():
    model = born("transformer")
    given = Denoising().noised(model, BATCH, KEY)
    term = SelfAlignment(0, 1, reach=0.5)
    less = jnp.maximum(given.tau - 0.5 * random.uniform(KEY, BATCH["id"])[:, None], 0)
    x = model.process.add_noise(given.x0, given.epsilon, less)

    @jax.jit
    def found(off):
        later = model.look(x, less, given.signals)[1].intermediates["blocks"][1]
        return term(Same(), Seen(model, given, [later + off], BATCH["id"], None), KEY)

    assert float(found(0.0)) == pytest.approx(0, abs=1e-6)
    assert float(found(0.03)) == pytest.approx(0.03**2 / 0.1, rel=1e-3)  # square near 0
    assert float(found(1.0)) == pytest.approx(0.975, rel=1e-4)  # and linear beyond
    with pytest.raises(UserError, match="earlier"):
        SelfAlignment(2, 2)


@pytest.fixture(scope="module")
def losses():
    """Compiled: the objective with terms that count each example alone, without terms, and a model."""
    each = (REPA(0, hidden=8), SelfAlignment(0, 1))
    model = born("transformer", *each)
    plain = Denoising(independent=0.5)
    return model, jax.jit(lambda m, b: objective(*each)(m, b, KEY)), jax.jit(lambda m, b: plain(m, b, KEY))


def test_an_example_counts_the_same_in_any_company(losses):
    model, run, _ = losses
    whole = float(run(model, BATCH).value)

    def of(rows):
        return float(run(model, {name: value[jnp.array(rows)] for name, value in BATCH.items()}).value)

    assert of([2, 0, 3, 1]) == pytest.approx(whole, rel=1e-5)
    assert np.mean([of([i] * 4) for i in range(4)]) == pytest.approx(whole, rel=1e-5)


def test_denoising_is_as_without_terms(losses):
    model, run, plain = losses
    whole, bare = run(model, BATCH), plain(model.denoiser, BATCH)
    terms = 0.5 * float(whole.metrics["repa"]) + 0.2 * float(whole.metrics["self_alignment"])
    assert float(whole.value) - terms == pytest.approx(float(bare.value), rel=1e-5)
    for name, value in bare.metrics.items():
        np.testing.assert_allclose(whole.metrics[name], value, rtol=1e-5)


def test_the_denoiser_is_born_and_released_as_without_terms(tmp_path):
    config = replace(CONFIG["unet"], net=replace(CONFIG["unet"].net, widths=(8, 8)))
    aided = jax.jit(lambda key: objective(*TERMS).init(key, config, SHAPE, WIDTH))(KEY)
    bare = jax.jit(lambda key: config.init(key, 2))(KEY)
    assert isinstance(aided, Aided)
    assert set(aided.heads) == {"repa", "irepa", "self_alignment"}
    release.save(denoiser_of(aided), tmp_path / "d.safetensors")
    jax.tree.map(np.testing.assert_array_equal, release.load(tmp_path / "d.safetensors", bare), bare)
    alone = jax.eval_shape(lambda key: objective(Dispersive(1)).init(key, config, SHAPE), KEY)
    assert jax.tree.structure(alone) == jax.tree.structure(bare)  # nothing to learn: nothing is held


def test_heads_learn_by_the_widths_that_grow_with_the_network():
    """Of each matrix of a head: it is hidden where it has more inputs at twice the width. REPA's own are large."""

    def heads(width):
        net = TransformerConfig(width, 2, 4, patch=(1, 1, 1))
        init = partial(objective(*TERMS[1:], REPA(0, hidden=96)).init, config=DenoiserConfig(net, {}), features=80)
        return jax.eval_shape(partial(init, shape=SHAPE), jax.random.key(0)).heads

    small, large = heads(32), paths(heads(64))
    hidden = paths(Widened(16, 32).hidden(small))
    for path, x in paths(small).items():
        assert hidden[path] == (x.ndim > 1 and large[path].shape[-2] > x.shape[-2]), path
    assert [path for path in hidden if path.startswith("repa") and hidden[path]] == ["repa.enter.weight"]


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="one of each"):
        objective(REPA(0), REPA(1))
    with pytest.raises(UserError, match="layers 0 to 1"):
        born("unet", Dispersive(2))
    with pytest.raises(UserError, match="layers 0 to 1"):
        born("transformer", SelfAlignment(0, 5))


def test_grids_are_those_of_the_features():
    assert [x.shape for x in grids(CONFIG["unet"], SHAPE)] == [(1, 3, 4, 4, 8), (1, 3, 2, 2, 16)]
    assert [x.shape for x in grids(CONFIG["transformer"], SHAPE)] == [(1, 3, 2, 2, 16)] * 2
    still = grids(CONFIG["transformer"], (1, 8, 4, 2))
    assert still[0].shape == (1, 1, 4, 2, 16)

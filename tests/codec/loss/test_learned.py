"""A perceptual network of one's own: what it must be before it has learned, and that it learns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diorama.codec.loss import L1, Learner, NetworkConfig, OwnPerceptual, Views
from diorama.codec.loss.learned import Distance
from diorama.core import UserError, release
from tests.net.tiny import made

CONFIG = NetworkConfig((8, 16))
RNG = np.random.default_rng(0)


def pictures(n, side=16, channels=3):
    """Gratings, each of a direction, a width and a colour of its own."""
    y, x = np.indices((side, side)) / side
    made = []
    for i in range(n):
        rng = np.random.default_rng(i)
        angle, width = rng.uniform(0, np.pi), rng.uniform(1, 4)
        wave = np.sin(2 * np.pi * width * (np.cos(angle) * x + np.sin(angle) * y))
        made.append(wave[..., None] * rng.uniform(0.2, 1, channels))
    return np.float32(made)[:, None]


@pytest.mark.parametrize(("channels", "side"), [(1, 7), (4, 9)])
def test_it_is_a_distance_of_frames(channels, side):
    network = made(NetworkConfig((8, 16), channels).init)
    term = Distance(network)
    a, b = (RNG.uniform(-1, 1, (2, 3, side, side, channels)).astype(np.float32) for _ in range(2))
    run = jax.jit(lambda a, b: term.distance(a, b))
    assert float(run(a, a).max()) < 1e-12
    np.testing.assert_allclose(run(a, b), run(b, a), rtol=1e-5)
    np.testing.assert_allclose(run(a, b)[:, 1:2], term.distance(a[:, 1:2], b[:, 1:2]), rtol=1e-5)
    assert float(term.compare(a, b)) == pytest.approx(float(run(a, b).mean()), rel=1e-5)
    assert np.isfinite(jax.grad(lambda x: term.compare(x, a))(a)).all()


def test_it_learns_what_is_one_picture():
    """After sixty steps the two views of a picture are nearer to each other than to other pictures' views."""
    media, ids = jnp.asarray(pictures(32)), jnp.arange(32, dtype=jnp.uint32)
    objective, optimiser = Views(), optax.adam(3e-3)

    @jax.jit
    def run(model):
        def step(carry, i):
            model, state = carry

            def value(m):
                loss = objective(m, {"media": media, "id": ids}, jax.random.fold_in(jax.random.key(1), i))
                return loss.value, loss.metrics

            (_, metrics), gradient = jax.value_and_grad(value, has_aux=True)(model)
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(model, updates), state), metrics

        return jax.lax.scan(step, (model, optimiser.init(model)), jnp.arange(60))

    model = made(partial(Learner.init, config=CONFIG, vector=16))
    (model, _), metrics = run(model)
    assert metrics["spread"][-5:].mean() < 0.5 * metrics["spread"][0]

    def vectors(key):
        views = jax.vmap(objective._view)(jax.random.split(jax.random.key(key), 32), media)
        z = np.asarray(model(views))
        return (z - z.mean(0)) / np.linalg.norm(z - z.mean(0), axis=1, keepdims=True)

    likeness = vectors(5) @ vectors(6).T
    others = likeness[~np.eye(32, dtype=bool)]
    assert np.diag(likeness).mean() > 0.9
    assert others.mean() < 0.2


def test_an_example_is_seen_in_the_same_way_in_any_company():
    """With a model of no weight the value is that of the vectors' spread alone, so look at the views themselves."""
    media = jnp.asarray(pictures(3))
    keys = jax.random.split(jax.random.key(0), 3)
    view = jax.jit(jax.vmap(Views(crop=0.5)._view))
    np.testing.assert_array_equal(view(keys, media)[1], view(keys[1:2], media[1:2])[0])
    assert view(keys, media).shape == (3, 1, 8, 8, 3)
    plain = Views(crop=1.0, light=0.0, cast=0.0)._view(keys[0], media[0])
    assert np.allclose(plain, media[0], atol=1e-6) or np.allclose(plain, media[0, :, :, ::-1], atol=1e-6)


def test_a_network_is_read_from_its_release_file(tmp_path):
    network = made(CONFIG.init)
    path = tmp_path / "perceptual.safetensors"
    release.save(network, path)
    a, b = (RNG.uniform(-1, 1, (1, 1, 8, 8, 3)).astype(np.float32) for _ in range(2))
    wanted = float(Distance(network).compare(a, b))
    for term in (OwnPerceptual(CONFIG, str(path), weight=2.0).init(), OwnPerceptual(CONFIG, weight=2.0).init(path)):
        assert float(term.compare(a, b)) == pytest.approx(wanted, rel=1e-6)
        assert (term.name, term.weight) == ("perceptual", 2.0)
    with pytest.raises(UserError, match="does not fit"):
        OwnPerceptual(NetworkConfig((8, 4)), str(path)).init()
    with pytest.raises(UserError, match="at least one level"):
        NetworkConfig(())
    assert L1().init(path) == L1()
    assert jax.eval_shape(partial(Learner.init, config=CONFIG), jax.random.key(0)).network.width == 16

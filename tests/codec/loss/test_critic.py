"""The critic: closed forms of its losses, and what it sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.codec.loss import CriticConfig
from diorama.codec.loss.critic import hinge, r1
from diorama.core import UserError
from diorama.core.array import Array
from diorama.core.module import Module
from tests.net.tiny import made

RNG = np.random.default_rng(0)


def critic_of(config, channels=3):
    return made(lambda key: config.init(key, channels))


def test_the_hinge_has_a_gradient_only_within_its_margin():
    real, made = jnp.array([-2.0, 0.5, 3.0]), jnp.array([-3.0, -0.5, 2.0])
    assert float(hinge(real, made)) == pytest.approx((3 + 0.5 + 0) / 3 + (0 + 0.5 + 3) / 3)
    a, b = jax.grad(hinge, argnums=(0, 1))(real, made)
    np.testing.assert_allclose(a, np.array([-1, -1, 0]) / 3, atol=1e-7)
    np.testing.assert_allclose(b, np.array([0, 1, 1]) / 3, atol=1e-7)


class Plane(Module):
    """A logit that is linear in the media: the penalty is the square length of its weights, whatever the step."""

    weight: Array

    def __call__(self, media):
        return jnp.tensordot(media, self.weight, 4)


@pytest.mark.parametrize("step", [0.01, 1.0])
def test_the_penalty_of_a_plane_is_exact_in_the_mean(step):
    weight = jnp.asarray(RNG.standard_normal((1, 2, 2, 3)), jnp.float32)
    n = 20_000
    media = jnp.zeros((n, 1, 2, 2, 3))
    found = r1(Plane(weight), media, jnp.arange(n, dtype=jnp.uint32), jax.random.key(0), step)
    assert float(found) == pytest.approx(float(jnp.sum(weight**2)), rel=4 * np.sqrt(2 / n))  # 4 standard errors


def test_the_penalty_is_the_square_norm_of_the_gradient():
    critic = critic_of(CriticConfig((4,), 0), 1)
    x = jnp.asarray(RNG.uniform(-1, 1, (1, 1, 4, 4, 1)), jnp.float32)
    slopes = jax.jacrev(lambda x: critic(x))(x).reshape(-1, x.size)
    exact = float(jnp.mean(jnp.sum(slopes**2, axis=1)))
    n = 8000
    run = jax.jit(lambda ids: r1(critic, x.repeat(n, 0), ids, jax.random.key(1), 0.01))
    assert float(run(jnp.arange(n, dtype=jnp.uint32))) == pytest.approx(exact, rel=0.08)


def test_examples_stay_apart_and_frames_see_their_neighbours():
    critic = critic_of(CriticConfig((4, 8), 1))
    run = jax.jit(lambda x: critic(x))
    media = RNG.uniform(-1, 1, (2, 5, 9, 12, 3)).astype(np.float32)
    logits = np.asarray(run(media))
    assert logits.shape == (2, 5, 3, 3, 1)
    np.testing.assert_allclose(run(media[::-1])[::-1], logits, atol=1e-5)
    changed = media.copy()
    changed[:, 4] *= -1
    after = np.asarray(run(changed))
    np.testing.assert_allclose(after[:, :3], logits[:, :3], atol=1e-6)
    assert np.abs(after - logits)[:, 3:].max(axis=(0, 2, 3, 4)).min() > 1e-3
    alone = critic_of(CriticConfig((4, 8), 0))
    np.testing.assert_allclose(alone(media)[:, :1], alone(media[:, :1]), atol=1e-6)


def test_a_critic_starts_without_time():
    critic = CriticConfig((4, 8), 2).init(jax.random.key(0), 3)
    media = RNG.uniform(-1, 1, (1, 3, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(critic(media)[:, 1:2], critic(media[:, 1:2]), atol=1e-5)


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="at least one level"):
        CriticConfig(())
    with pytest.raises(UserError, match="no more than it has"):
        CriticConfig((4,), 2)

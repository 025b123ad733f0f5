"""Randomness as a function: the same question, the same number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import random

PINNED = [725799399, 1596801754]
IDS = np.array([7, 3, 2**32 - 1, 0, 2**31], np.uint32)


@pytest.fixture(scope="module")
def noise():
    return np.asarray(random.normal(random.stream(0, "a"), IDS, (4, 3)))


def test_an_example_meets_its_numbers_in_any_company(noise):
    key = random.stream(0, "a")
    np.testing.assert_array_equal(random.normal(key, IDS[::-1], (4, 3))[::-1], noise)
    np.testing.assert_array_equal(random.normal(key, IDS[2:3], (4, 3))[0], noise[2])
    np.testing.assert_array_equal(jax.jit(lambda i: random.normal(key, i, (4, 3)))(IDS[:2]), noise[:2])


def test_examples_steps_names_and_seeds_differ(noise):
    assert len(np.unique(noise)) == noise.size
    keys = [random.stream(seed, name, step) for seed in (0, 1) for name in ("a", "b", "ab") for step in (0, 1, 2**31)]
    assert len({tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in keys}) == len(keys)


def test_a_traced_step_is_the_same_step():
    traced = jax.jit(lambda s: jax.random.key_data(random.stream(3, "a", s)))(jnp.uint32(5))
    np.testing.assert_array_equal(traced, jax.random.key_data(random.stream(3, "a", 5)))


def test_places_are_the_ids_own_in_any_order():
    key = random.stream(0, "a")
    found = random.places(key, IDS)
    np.testing.assert_array_equal(np.sort(found), np.arange(5, dtype=np.float32) / 5)
    np.testing.assert_array_equal(random.places(key, IDS[::-1])[::-1], found)
    assert not np.array_equal(random.places(random.stream(0, "a", 1), IDS), found)


def test_streams_are_pinned():
    """A change here changes every run's numbers."""
    assert np.asarray(jax.random.key_data(random.stream(0, "objective", 1))).tolist() == PINNED


def test_distributions():
    ids = np.arange(4096, dtype=np.uint32)
    z = np.asarray(random.normal(random.stream(1, "z"), ids, (4,)))
    u = np.asarray(random.uniform(random.stream(1, "z"), ids))
    assert z.dtype == u.dtype == np.float32
    assert u.shape == (4096,)
    assert (u >= 0).all()
    assert (u < 1).all()
    assert abs(z.mean()) < 4 / 128  # four standard errors
    assert abs(z.var() - 1) < 4 * 2**0.5 / 128
    assert abs(u.mean() - 0.5) < 4 / 12**0.5 / 64
    assert np.abs(np.corrcoef(z.T) - np.eye(4)).max() < 4 / 64

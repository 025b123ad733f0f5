import numpy as np
import pytest

from diorama.evaluate import Features, Moments, frechet_distance


def gaussian(n: int, mean: np.ndarray, covariance: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal(mean, covariance, n)


def exactly(mean: np.ndarray, covariance: np.ndarray) -> Moments:
    return Moments(2, mean, covariance)  # scatter = covariance * (n - 1)


def test_distance_to_itself_is_zero() -> None:
    a = Moments.of(np.random.default_rng(0).normal(size=(500, 16)))
    assert frechet_distance(a, a) < 1e-9


def test_singular_covariance_is_exact() -> None:
    a = Moments.of(np.random.default_rng(0).normal(size=(8, 64)))
    assert frechet_distance(a, a) < 1e-6


def test_closed_form_of_shifted_and_scaled_gaussians() -> None:
    mean, scale = np.arange(5.0), np.array([1.0, 2.0, 3.0, 0.5, 0.0])
    a, b = exactly(np.zeros(5), np.eye(5)), exactly(mean, np.diag(scale**2))
    assert frechet_distance(a, b) == pytest.approx((mean**2).sum() + ((scale - 1) ** 2).sum(), rel=1e-10)


def test_agrees_with_the_matrix_root_for_covariances_that_do_not_commute() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(1)
    a, b = (x @ x.T for x in rng.normal(size=(2, 6, 6)))
    want = np.trace(a + b - 2 * sqrtm(a @ b).real)
    zero = np.zeros(6)
    assert frechet_distance(exactly(zero, a), exactly(zero, b)) == pytest.approx(want, rel=1e-8)


def test_parts_merge_to_the_whole() -> None:
    x = gaussian(1000, np.full(4, 1e3), np.eye(4), 0)
    merged = Moments.of(x[:1]).merge(Moments.of(x[1:300])).merge(Moments.of(x[300:]))
    whole = Moments.of(x)
    assert merged.n == 1000
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(x.T), rtol=1e-9, atol=1e-9)


def test_features_in_blocks_have_the_moments_of_the_whole() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (50, 1, 2, 2, 3)).astype(np.uint8)
    features = Features("flat", lambda c: c.reshape(len(c), -1).astype(np.float64))
    whole, parts = Moments.of(features(clips)), features.moments(clips, block=7)
    np.testing.assert_allclose(parts.scatter, whole.scatter, rtol=1e-10)


def test_bias_shrinks_with_n() -> None:
    far, near = (
        frechet_distance(*(Moments.of(gaussian(n, np.zeros(8), np.eye(8), seed)) for seed in (1, 2)))
        for n in (100, 10_000)
    )
    assert 0 < near < far / 50

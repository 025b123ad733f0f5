"""The Fréchet distance between two sets of features, from moments that merge.

FD² = |m₁ − m₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½) between the Gaussians of equal mean and covariance (Heusel et al. 2017,
eq. 6, there on Inception features and called FID). It is reported squared, as the field does, and it is biased upwards
by about 1/n: compare only figures at the same n, with the same features.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of features, float64; parts computed apart merge to the moments of the whole."""

    n: int
    mean: Float[np.ndarray, "d"]
    scatter: Float[np.ndarray, "d d"]  # sum of outer products of deviations from the mean

    @staticmethod
    def of(features: Float[np.ndarray, "n d"]) -> "Moments":
        """The moments of a set of features."""
        x = np.asarray(features, np.float64)
        mean = x.mean(0)
        return Moments(len(x), mean, (x - mean).T @ (x - mean))

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets together (Chan, Golub, LeVeque 1979)."""
        n = self.n + other.n
        step = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(step, step) * (self.n * other.n / n)
        return Moments(n, self.mean + step * (other.n / n), scatter)

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The unbiased covariance; needs n >= 2."""
        return self.scatter / (self.n - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """The squared Fréchet distance of two Gaussians; 0 for equal moments, and exact for singular covariances.

    The trace of (A B)^½ is that of the symmetric (A^½ B A^½)^½, so two symmetric eigenproblems do, and no complex
    matrix root is ever met.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ b.covariance @ root), 0, None)).sum()
    squared = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross
    return float(max(squared, 0.0))

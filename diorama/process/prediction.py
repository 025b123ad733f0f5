"""What a network predicts, and how to get from one prediction to any other.

The currency is the pair (x0, epsilon) with alpha x0 + sigma epsilon = x_tau. From the pair every other prediction is a
combination without a pole, and because the pair is linear in each of them, guidance is a linear combination of pairs.
With level = (alpha, sigma, alpha', sigma', d = sigma_data) of the process at tau, and r^2 = alpha^2 d^2 + sigma^2:

    velocity = alpha' x0 + sigma' epsilon               dx/dtau; Lipman et al. 2022 (arXiv 2210.02747)
    v        = alpha epsilon - sigma x0                 Salimans & Ho 2022 (2202.00512)
    score    = -epsilon / sigma                         Song et al. 2021 (2011.13456)
    F        = (sigma x0 / d - alpha d epsilon) / r     Karras et al. 2022 (2206.00364, table 1), for any alpha

F has unit variance at every noise level, as x_tau / r has: the target for processes whose sigma grows large.

The way back solves two linear equations. `velocity`, `v` and `F` have no pole at alpha = 0 for any process here. Where
a value says nothing about one of the pair, that one is zero, the mean of noise and of normalised data: x0 from epsilon
or score at alpha = 0, epsilon from x0 (or from a velocity that has stopped) at tau = 0.
"""

from collections.abc import Callable, Mapping
from typing import Any

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.core.module import Module
from diorama.process.gaussian import Level, divide

Pair = tuple[Array, Array]


class Prediction(Module):
    """The pair of data and noise that a denoiser believes x_tau to be made of; each of the shape of x_tau."""

    x0: Array
    epsilon: Array

    @staticmethod
    def of(kind: str, value: Array, x: Array, level: Level) -> "Prediction":
        """The pair from a network's `value` at x_tau = `x`, both (b, t, h, w, c); `kind` is a key of `PAIR`.

        level = process.at(tau, x.ndim). Raises `UserError` for an unknown kind.
        """
        return Prediction(*_row(PAIR, kind)(value, x, level))

    def to(self, kind: str, level: Level) -> Array:
        """This prediction as `kind` (a key of `VALUE`)."""
        return _row(VALUE, kind)(self, level)


def _from_x0(x0: Array, x: Array, at: Level) -> Pair:
    return x0, divide(x - at.alpha * x0, at.sigma)


def _from_epsilon(epsilon: Array, x: Array, at: Level) -> Pair:
    return divide(x - at.sigma * epsilon, at.alpha), epsilon


def _from_velocity(velocity: Array, x: Array, at: Level) -> Pair:
    turn = at.alpha * at.sigma_dot - at.sigma * at.alpha_dot  # determinant; positive wherever the logsnr falls
    x0 = divide(at.sigma_dot * x - at.sigma * velocity, turn, otherwise=x)
    return x0, divide(at.alpha * velocity - at.alpha_dot * x, turn)


def _from_v(v: Array, x: Array, at: Level) -> Pair:
    square = at.alpha**2 + at.sigma**2
    return (at.alpha * x - at.sigma * v) / square, (at.sigma * x + at.alpha * v) / square


def _from_score(score: Array, x: Array, at: Level) -> Pair:
    return _from_epsilon(-at.sigma * score, x, at)


def _from_f(f: Array, x: Array, at: Level) -> Pair:
    r, d = at.scale, at.sigma_data
    return d * (at.alpha * d * x + at.sigma * r * f) / r**2, (at.sigma * x - at.alpha * d * r * f) / r**2


def _to_f(p: Prediction, at: Level) -> Array:
    return (at.sigma * p.x0 / at.sigma_data - at.alpha * at.sigma_data * p.epsilon) / at.scale


PAIR: dict[str, Callable[[Array, Array, Level], Pair]] = {
    "x0": _from_x0,
    "epsilon": _from_epsilon,
    "velocity": _from_velocity,
    "v": _from_v,
    "score": _from_score,
    "F": _from_f,
}

VALUE: dict[str, Callable[[Prediction, Level], Array]] = {
    "x0": lambda p, at: p.x0,
    "epsilon": lambda p, at: p.epsilon,
    "velocity": lambda p, at: at.alpha_dot * p.x0 + at.sigma_dot * p.epsilon,
    "v": lambda p, at: at.alpha * p.epsilon - at.sigma * p.x0,
    "score": lambda p, at: -divide(p.epsilon, at.sigma),
    "F": _to_f,
}


def _row(table: Mapping[str, Callable[..., Any]], kind: str) -> Callable[..., Any]:
    if kind not in table:
        raise UserError(f"'{kind}' is no prediction; choose one of {', '.join(table)}")
    return table[kind]

"""What multistep solvers remember, and the polynomials that they lay through it.

A node is what the denoiser said (b, t, h, w, c) and where (b, t, 1, 1, 1): the place on an axis of the solver's own,
such as log(alpha / sigma). Every frame has its own nodes. One that is infinitely far away is not known: nothing was
evaluated yet, or alpha was 0 there. Polynomials stop before it, so that first steps are of lower order by themselves.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.gaussian import Process, divide, expand

Node = tuple[Array, Array]
History = tuple[Node, ...]  # the latest first

SMALL = 16  # terms of the moments below for |k| < 1: exact in double precision


def nothing(x: Array, n: int) -> History:
    """`n` nodes that are not known."""
    far = jnp.full((*x.shape[:2], *(1,) * (x.ndim - 2)), jnp.inf, x.dtype)
    return ((jnp.zeros_like(x), far),) * n


def remember(history: History, node: Node, moved: Array) -> History:
    """`history` with `node` before it and the oldest left out, in the frames that `moved` (b, t)."""
    if not history:
        return history
    newest = (node, *history[:-1])
    return jax.tree.map(lambda new, old: jnp.where(expand(moved, new.ndim), new, old), newest, history)


def half_logsnr(process: Process, tau: Array, ndim: int) -> Array:
    """log(alpha / sigma), the axis of DPM-Solver: infinite at alpha = 0 and in data."""
    return expand(process.logsnr(tau) / 2, ndim)


def bend(
    nodes: History, to: Array, moments: Callable[[Array, int], list[Array]], simple: Callable[[Array], Array] | None
) -> Array | float:
    """What the polynomial through `nodes` adds to a step from nodes[0] to the place `to`, beyond the constant nodes[0].

    With r = 0 at nodes[0] and 1 at `to`, a distance h away, the step is the integral of w(r) times the polynomial;
    `moments(h, n)` are those of w with r, r^2 ... r^n. Newton's form: a node that is not known costs its own term and
    those of older ones. `simple(h)` takes the place of the first moment where only two nodes are known, as
    predictor-corrector methods have it. 0 where `to` is infinitely far or no distance away.
    """
    (first, start), *others = nodes
    if not others:
        return 0.0
    known = [jnp.isfinite(to - start) & (to != start)]
    h = jnp.where(known[0], to - start, 1.0)
    r = [jnp.zeros_like(h)]
    for i, (_, at) in enumerate(others, 1):
        known.append(known[-1] & jnp.isfinite(at))
        r.append(jnp.where(known[-1], (at - start) / h, -float(i)))
    moment = moments(h, len(others))
    differences, basis, total = [first, *(value for value, _ in others)], [jnp.ones_like(h)], jnp.zeros_like(first)
    for k in range(1, len(nodes)):
        pairs = range(len(nodes) - k)
        differences = [divide(differences[i + 1] - differences[i], r[i + k] - r[i]) for i in pairs]
        weight = sum((c * m for c, m in zip(basis, moment, strict=False)), jnp.zeros_like(h))
        if k == 1 and simple is not None:
            weight = jnp.where(known[2], weight, simple(h)) if len(nodes) > 2 else simple(h)
        total = total + jnp.where(known[k], weight * differences[0], 0.0)
        basis = [up - r[k] * c for up, c in zip([jnp.zeros_like(h), *basis], [*basis, jnp.zeros_like(h)], strict=True)]
    return total


def plain(h: Array, n: int) -> list[Array]:
    """The integrals of h r^j over [0, 1], j = 1 ... n."""
    return [h / (j + 1) for j in range(1, n + 1)]


def exponential(k: Array, n: int) -> list[Array]:
    """The integrals of k e^(k (r - 1)) r^j over [0, 1], j = 1 ... n, for k of either sign.

    By parts E_j = 1 - j E_(j-1) / k, from E_0 = 1 - e^-k; where |k| < 1 that loses digits, and the same is used
    downwards.
    """
    large = jnp.where(jnp.abs(k) < 1, 1.0, k)
    up = [-jnp.expm1(-large)]
    for j in range(1, n + 1):
        up.append(1 - j / large * up[-1])
    small = jnp.where(jnp.abs(k) < 1, k, 0.0)
    down = [small / (SMALL + 1)]
    for j in range(SMALL, 1, -1):
        down.append(small / j * (1 - down[-1]))
    return [jnp.where(jnp.abs(k) < 1, a, b) for a, b in zip(down[::-1], up[1:], strict=False)]

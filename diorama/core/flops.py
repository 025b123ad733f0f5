"""How many floating-point operations a computation needs, and its gradient: counted in its program, before XLA sees it.

What is counted are products of matrices, convolutions and cuDNN's attention, two operations for a multiplication and
an addition; all else is a few per cent of a network. Loops count as often as they run, which XLA's own analysis of a
compiled program leaves out.

The gradient costs one product of the same size for each factor that depends on what is differentiated: two for a layer
in the middle, one for the first layer, whose input are data, none for a frozen network. That is the reverse pass,
transposed product by product. What `jax.checkpoint` computes once more is not counted: it is work of one's own choice,
and utilisation should not rise by it ("model FLOPs", PaLM, arXiv 2204.02311, appendix B).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.interpreters.partial_eval import dce_jaxpr


def flops(f: Callable[..., Any], *args: Any, gradient: bool = False) -> float:
    """FLOPs of `f(*args)`, and with `gradient` of its gradient by the first argument too.

    Only what its outputs need is counted; `args` may be shapes. A loop of unknown length counts as one turn, of the
    branches of a condition the dearest one counts.
    """
    program = jax.make_jaxpr(f)(*args).jaxpr
    program, used = dce_jaxpr(program, [True] * len(program.outvars))
    first = len(jax.tree.leaves(args[0])) if gradient else 0
    return _count(program, [i < first for i, needed in enumerate(used) if needed])[0]


def _count(program: Jaxpr, active: Sequence[bool]) -> tuple[float, list[bool]]:
    """FLOPs of a program, and which of its outputs depend on inputs that are `active`: those differentiated by."""
    known = dict(zip(program.invars, active, strict=True))

    def of(variable: Any) -> bool:
        return not isinstance(variable, Literal) and known.get(variable, False)

    total = 0.0
    for line in program.eqns:
        cost, out = _line(line, [of(variable) for variable in line.invars])
        total += cost
        kinds = (getattr(variable.aval, "dtype", None) for variable in line.outvars)
        floats = (kind is not None and jnp.issubdtype(kind, jnp.floating) for kind in kinds)
        known.update(zip(line.outvars, (a and b for a, b in zip(out, floats, strict=True)), strict=True))
    return total, [of(variable) for variable in program.outvars]


def _line(line: Any, active: list[bool]) -> tuple[float, list[bool]]:
    """As `_count`, of one line of a program."""
    name, params, n = line.primitive.name, line.params, len(line.outvars)
    if name == "stop_gradient":
        return 0.0, [False] * n
    if name == "scan":
        return _scan(params, active)
    if name == "cond":
        branches = [_count(branch.jaxpr, active[1:]) for branch in params["branches"]]
        return max(cost for cost, _ in branches), [any(b) for b in zip(*(out for _, out in branches), strict=True)]
    if name == "while":
        condition, body = params["cond_nconsts"], params["body_nconsts"]
        cost, out = _count(params["body_jaxpr"].jaxpr, active[condition:])
        return cost, [a or b for a, b in zip(active[condition + body :], out, strict=True)]
    if name in PRODUCTS:
        return PRODUCTS[name](line) * (1 + sum(active)), [any(active)] * n
    if name == "dot_product_attention_fwd_wrapper":
        return _attention(line, active), [any(active)] * n
    for inner in params.values():
        program = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
        if isinstance(program, Jaxpr) and len(program.invars) == len(active) and len(program.outvars) == n:
            cost, out = _count(program, active)
            manual = params["newly_manual_axes"] if name == "shard_map" else ()  # its program is that of one shard
            return cost * math.prod(params["mesh"].shape[axis] for axis in manual), out
    return 0.0, [any(active)] * n


def _scan(params: dict[str, Any], active: list[bool]) -> tuple[float, list[bool]]:
    """A loop: what is carried is active if it is so after any turn."""
    begin, end = params["num_consts"], params["num_consts"] + params["num_carry"]
    while True:
        cost, out = _count(params["jaxpr"].jaxpr, active)
        carried = [a or b for a, b in zip(active[begin:end], out, strict=False)]
        if carried == active[begin:end]:
            return cost * params["length"], out
        active = [*active[:begin], *carried, *active[end:]]


def _product(line: Any) -> float:
    (summed, _), _ = line.params["dimension_numbers"]
    return 2.0 * line.outvars[0].aval.size * math.prod(line.invars[0].aval.shape[axis] for axis in summed)


def _convolution(line: Any) -> float:
    """Every tap counts, also over padding; where the input is spread out by zeros, those do not."""
    kernel, zeros = line.invars[1].aval, math.prod(line.params["lhs_dilation"])
    outputs = kernel.shape[line.params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * line.outvars[0].aval.size * (kernel.size // outputs) / zeros


def _attention(line: Any, active: list[bool]) -> float:
    """cuDNN's kernel, q (b, n, k, e) and k (b, m, k, e): the scores, and the sum of the values by them."""
    (b, n, heads, e), m = line.invars[0].aval.shape, line.invars[1].aval.shape[1]
    q, k, v = active[:3]
    return 2.0 * b * n * heads * e * m * (2 + q + k + (q or k) + v)


PRODUCTS = {"dot_general": _product, "conv_general_dilated": _convolution}

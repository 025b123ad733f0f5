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
from typing import Any, NamedTuple

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
    active = [i < first for i, needed in enumerate(used) if needed]
    return _count(program, active, [True] * len(program.outvars)).cost


class Count(NamedTuple):
    """FLOPs; which outputs depend on active inputs, those differentiated by; which inputs get a gradient from outputs
    that do. Nothing comes through `stop_gradient` either way."""

    cost: float
    active: list[bool]
    reached: list[bool]


def _count(program: Jaxpr, active: Sequence[bool], reached: Sequence[bool]) -> Count:
    """Of a program whose inputs are `active` and whose outputs get a gradient where `reached`."""
    dependent = {variable for variable, a in zip(program.invars, active, strict=True) if a}

    def of(variable: Any, known: set[Any]) -> bool:
        return not isinstance(variable, Literal) and variable in known

    for line in program.eqns:
        found = _line(line, [of(x, dependent) for x in line.invars], [True] * len(line.outvars))
        dependent |= {x for x, a in zip(line.outvars, found.active, strict=True) if a and _float(x)}
    wanted = {x for x, r in zip(program.outvars, reached, strict=True) if r and of(x, dependent)}
    total = 0.0
    for line in reversed(program.eqns):
        found = _line(line, [of(x, dependent) for x in line.invars], [of(x, wanted) for x in line.outvars])
        wanted |= {x for x, r in zip(line.invars, found.reached, strict=True) if r and of(x, dependent)}
        total += found.cost
    return Count(total, [of(x, dependent) for x in program.outvars], [of(x, wanted) for x in program.invars])


def _float(variable: Any) -> bool:
    return jnp.issubdtype(getattr(variable.aval, "dtype", None) or jnp.int32, jnp.floating)


def _line(line: Any, active: list[bool], reached: list[bool]) -> Count:
    """As `_count`, of one line of a program."""
    name, params, n = line.primitive.name, line.params, len(line.outvars)
    back, out = [a and any(reached) for a in active], [any(active)] * n
    if name == "stop_gradient":
        return Count(0.0, [False] * n, [False] * len(active))
    if name in PRODUCTS:
        return Count(PRODUCTS[name](line) * (1 + sum(back)), out, back)
    if name == "dot_product_attention_fwd_wrapper":
        return Count(_attention(line, back), out, back)
    if name == "scan":
        return _scan(params, active, reached)
    if name == "cond":
        found = [_count(branch.jaxpr, active[1:], reached) for branch in params["branches"]]
        outs, backs = ([any(each) for each in zip(*many, strict=True)] for many in list(zip(*found, strict=True))[1:])
        return Count(max(each.cost for each in found), outs, [False, *backs])
    if name == "while":  # there is no reverse pass through it
        body = params["body_jaxpr"].jaxpr
        none = [False] * len(body.invars), [False] * n
        return Count(_count(body, *none).cost, [False] * n, [False] * len(active))
    for inner in params.values():
        program = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
        if isinstance(program, Jaxpr) and len(program.invars) == len(active) and len(program.outvars) == n:
            manual = params["newly_manual_axes"] if name == "shard_map" else ()  # its program is that of one shard
            count = _count(program, active, reached)
            return count._replace(cost=count.cost * math.prod(params["mesh"].shape[axis] for axis in manual))
    return Count(0.0, out, back)


def _scan(params: dict[str, Any], active: list[bool], reached: list[bool]) -> Count:
    """A loop: what is carried is active if it is so after any turn, and gets a gradient if it does before any."""
    begin, end = params["num_consts"], params["num_consts"] + params["num_carry"]
    while True:
        count = _count(params["jaxpr"].jaxpr, active, reached)
        after = [a or b for a, b in zip(active[begin:end], count.active, strict=False)]
        before = [a or b for a, b in zip(reached, count.reached[begin:end], strict=False)]
        if after == active[begin:end] and before == reached[: end - begin]:
            return count._replace(cost=count.cost * params["length"])
        active = [*active[:begin], *after, *active[end:]]
        reached = [*before, *reached[end - begin :]]


def _product(line: Any) -> float:
    (summed, _), _ = line.params["dimension_numbers"]
    return 2.0 * line.outvars[0].aval.size * math.prod(line.invars[0].aval.shape[axis] for axis in summed)


def _convolution(line: Any) -> float:
    """Every tap counts, also over padding; where the input is spread out by zeros, those do not."""
    kernel, zeros = line.invars[1].aval, math.prod(line.params["lhs_dilation"])
    outputs = kernel.shape[line.params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * line.outvars[0].aval.size * (kernel.size // outputs) / zeros


def _attention(line: Any, back: list[bool]) -> float:
    """cuDNN's kernel, q (b, n, k, e) and k (b, m, k, e): the scores, and the sum of the values by them."""
    (b, n, heads, e), m = line.invars[0].aval.shape, line.invars[1].aval.shape[1]
    q, k, v = back[:3]
    return 2.0 * b * n * heads * e * m * (2 + q + k + (q or k) + v)


PRODUCTS = {"dot_general": _product, "conv_general_dilated": _convolution}

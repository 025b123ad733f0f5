"""One optimiser step: loss, gradient, clipping, direction, averages; compiled once for each shape of batch."""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import optax

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.core.layout import Layout
from diorama.core.module import cast
from diorama.core.random import places, stream
from diorama.train import ema, rounding
from diorama.train.constrained import projected
from diorama.train.state import Objective, Role, Scheduled, State, Tally, Train, by_role, join, split

Batch = dict[str, Array]
Step = partial[tuple[State, Tally]]


def make_step(config: Train, objective: Objective, shardings: State, seed: int, layout: Layout) -> Step:
    """The compiled `step(state, tally, batch) -> (state, tally)`; `state` is donated, `tally` and `batch` are not.

    `shardings` is the tree of shardings of the state. The gradient is that of the mean loss over the batch,
    whatever `config.accumulate` is. Nothing is read back: non-finite values are marked in the tally.

    It is a `partial` of what `jax.jit` returned, so that it can be lowered for shapes alone, with its keywords.
    """
    held, rebuild = _arrays_of(objective)
    held = jax.device_put(held, layout.sharding())

    def step(state: State, tally: Tally, batch: Batch, held: list[Array]) -> tuple[State, Tally]:
        n = batch["id"].shape[0]
        trained, rest = split(cast(state.model, jnp.float32))
        key = stream(seed, "objective", state.step)
        if "place" in batch:
            raise UserError("'place' names an example's place in its batch: call the condition by another name")
        batch = batch | {"place": places(stream(seed, "place", state.step), batch["id"])}
        now = rebuild(held)
        if isinstance(now, Scheduled):
            now = now.after(state.examples)

        def loss(trained: Any, part: Batch) -> tuple[Array, dict[str, Array]]:
            out = now(config.policy.enter(join(trained, rest)), part, key)
            return out.value.astype(jnp.float32), out.metrics

        with layout.ambient():
            value, metrics, gradient = _gradient(loss, trained, batch, config.accumulate)
        squares = jax.tree.map(lambda g: jnp.sum(jnp.square(g)), gradient)
        examples = state.examples + n
        middle = state.examples.astype(jnp.float32) + n / 2  # of this batch
        memory = cast(state.optimizer, jnp.float32)
        moved, optimizer, taken = _move(config, memory, trained, gradient, squares, middle)
        model = projected(join(moved, rest))
        share = n / examples.astype(jnp.float32)
        averages = tuple(
            ema.update(average, model, ema.gamma_of(std), share)
            for average, std in zip(state.ema, config.ema_std, strict=True)
        )

        fault = ~jnp.stack([_finite(batch), jnp.isfinite(value).all(), *map(jnp.isfinite, jax.tree.leaves(squares))])
        means = {"loss": value, **metrics, **taken}
        if means.keys() != tally.sums.keys():
            raise UserError(
                f"the objective's metrics differ between batch shapes: {sorted(means.keys() ^ tally.sums.keys())}"
            )
        tally = tally.add(means, n, state.step, fault)
        kept = rounding.keep((model, optimizer), (state.model, state.optimizer), seed, state.step)
        return State(state.step + 1, examples, *kept, averages), tally

    compiled = jax.jit(step, donate_argnums=0, out_shardings=(shardings, layout.sharding()))
    return partial(compiled, held=held)


def metric_names(objective: Objective, model: Any, batch: Batch, roles: tuple[Role, ...] = ()) -> list[str]:
    """The names of everything that a step logs, without computing it."""
    out = jax.eval_shape(lambda m, b: objective(m, b, stream(0, "objective")), model, batch)
    return ["loss", *out.metrics, *(name for role in (None, *roles) for name in _step_names(role))]


def _move(
    config: Train, optimizer: Any, trained: Any, gradient: Any, squares: Any, examples: Array
) -> tuple[Any, Any, dict[str, Array]]:
    """The parameters and the optimiser's state after one step, role by role, and the norms and rates to log.

    `squares` holds the sum of squares of each array of the gradient; `examples` says where the learning rates are read.
    """
    roles = config.roles
    states = optimizer if roles else (optimizer,)
    parts = zip((None, *roles), states, *(by_role(tree, roles) for tree in (trained, gradient, squares)), strict=True)
    moved, after = [], []
    taken: dict[str, Array] = {}
    for role, memory, part, slope, square in parts:
        how = role or config
        norm = jnp.sqrt(sum(jax.tree.leaves(square)))
        if how.clip_norm is not None:
            scale = jnp.minimum(1, how.clip_norm / (norm + 1e-12))
            slope = jax.tree.map(lambda g, s=scale: g * s, slope)
        rate = config.rate(examples, role)
        updates, memory = how.optimizer.transform().update(slope, memory, part)
        moved.append(optax.apply_updates(part, jax.tree.map(lambda u, r=rate: -r * u, updates)))
        after.append(memory)
        taken |= dict(zip(_step_names(role), (norm[None], rate[None]), strict=True))
    return reduce(join, moved), tuple(after) if roles else after[0], taken


def _step_names(role: Role | None) -> tuple[str, str]:
    """What is logged of the step of a role's parameters, or of those that have none."""
    prefix = f"{role.path}." if role else ""
    return f"{prefix}gradient_norm", f"{prefix}learning_rate"


def _gradient(loss: Callable, trained: Any, batch: Batch, parts: int) -> tuple[Array, dict[str, Array], Any]:
    """Loss and metrics as vectors over the parts, and the gradient of the mean."""
    grad = jax.value_and_grad(loss, has_aux=True)
    if parts == 1:
        (value, metrics), gradient = grad(trained, batch)
        return value[None], {k: v[None] for k, v in metrics.items()}, gradient

    # Every parts-th example, not runs of them: each part then lies over the devices just as the batch does.
    micro = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)

    def body(total: Any, part: Batch) -> tuple[Any, tuple[Array, dict[str, Array]]]:
        out, gradient = grad(trained, part)
        return jax.tree.map(jnp.add, total, gradient), out

    total, (value, metrics) = jax.lax.scan(body, jax.tree.map(jnp.zeros_like, trained), micro)
    return value, metrics, jax.tree.map(lambda g: g / parts, total)


def _finite(batch: Batch) -> Array:
    floats = [x for x in batch.values() if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(x).all() for x in floats]).all() if floats else jnp.array(True)


def _arrays_of(objective: Objective) -> tuple[list[Array], Callable[[list[Array]], Objective]]:
    """The arrays an objective holds, and how to put them back: as constants they would be compiled into the step."""
    leaves, structure = jax.tree.flatten(objective)
    where = [i for i, leaf in enumerate(leaves) if hasattr(leaf, "shape")]

    def rebuild(arrays: list[Array]) -> Objective:
        new = list(leaves)
        for i, array in zip(where, arrays, strict=True):
            new[i] = array
        return jax.tree.unflatten(structure, new)

    return [leaves[i] for i in where], rebuild

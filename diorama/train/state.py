"""What a training run is at one moment, and the running means that it has not yet logged."""

from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from diorama.core.array import Array, Float, Int, Key, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module, Policy, paths
from diorama.train import ema
from diorama.train.board import WandB
from diorama.train.guard import SIGNALS, SPIKES, Guard, Watch
from diorama.train.optimizer import AdamW, Optimizer
from diorama.train.rate import Constant, Decay
from diorama.train.rounding import narrow

M = TypeVar("M")


class Loss(Module):
    """What an objective returns.

    value: float32 scalar, the mean over the examples of the batch: this is minimised.
    metrics: float32 scalars to be averaged into the log, each part of a batch weighing by its size. One that is NaN (no
        example of that kind in this part) is left out, so a mean over some of the examples, such as those of a source
        or a band of noise, is logged as a mean of parts' means: few examples weigh there as much as many, and
        `Train.accumulate` changes it a little. All batch shapes of a run give the same names.
    each: (b,) the part of `value` that is of each example, for the log; (b, s) where an example is a row of s clips;
        None where it has none.
    """

    value: Float[Array, ""]
    metrics: dict[str, Float[Array, ""]]
    each: Float[Array, "b *s"] | None = None


class Objective(Protocol):
    """What is minimised.

    `key` differs from step to step; randomness must be drawn per example, from `batch["id"]` (`core.random`), so
    that an example meets the same noise in any batch, microbatch and layout. What is to be spread over the batch goes
    by `batch["place"]` (`core.random.places`): of the whole batch, also where a part of it is given. Arrays that an
    objective holds (a frozen codec, say) reach the compiled step as arguments, not constants, if it is a `Module`;
    they get no gradient.
    """

    def __call__(self, model: Any, batch: dict[str, Array], key: Key[Array, ""]) -> Loss: ...


@runtime_checkable
class Scheduled(Objective, Protocol):
    """An objective that changes on the way, such as one with a term that begins late: each step asks `after` for it."""

    def after(self, examples: UInt32[Array, ""]) -> Objective:
        """What is minimised in the step that follows on so many `examples` (traced: it is compiled once)."""
        ...


@dataclass(frozen=True)
class Role:
    """Parameters that learn at a pace of their own, such as a critic's.

    Each role's loss must stop its gradient at the other roles' parameters; the objective's value is their sum.

    Args:
        path: of the parameters in the model: "critic" means `critic.weight`, `critic.levels.0.bias`, ...
        learning_rate, warmup, decay, optimizer: as of `Train`.
        clip_norm: largest norm of the gradient of these parameters; None for no limit.
    """

    path: str
    learning_rate: float = 1e-3
    warmup: int = 0
    decay: Decay = field(default_factory=Constant)
    optimizer: Optimizer = field(default_factory=AdamW)
    clip_norm: float | None = 1.0


@dataclass(frozen=True)
class Validate:
    """How to validate: `train.validation`.

    Args:
        every: how often, in training examples; and at the end.
        clips: of each kind, held-back and training ones, at most, of each bucket.
        strata: noise times at which each is looked at.
    """

    every: int = 50_000
    clips: int = 64
    strata: int = 4

    def __post_init__(self) -> None:
        if self.every < 1 or self.clips < 1 or self.strata < 1:
            raise UserError("train.validate: every, clips and strata are at least 1")


@dataclass(frozen=True)
class Train:
    """How to train. All lengths and intervals are in training examples; intervals of 0 mean never.

    Args:
        examples: when to end: with the batch that reaches it. Batches are never cut, for a finished run with more
            examples asked for goes on as if it had never ended; so logs may count up to a batch less one beyond.
        learning_rate, warmup, decay: `learning_rate` times a linear rise over `warmup` examples times `decay`.
        optimizer: the direction of each step.
        clip_norm: largest norm of the whole gradient (without roles'); None for no limit.
        ema_std: relative widths of the averages that are kept (`train.ema`).
        accumulate: parts that each batch is computed in, one after the other, to save memory; what is learned is the
            same.
        checkpoint_every, keep: how often to save, and how many of the last checkpoints to keep.
        keep_every: also keep for good the first checkpoint at or after each multiple of this.
        snapshot_every: how often to keep the averages for good, for `reconstruct`.
        log_every, preview_every: how often to log means and to call the preview.
        trace: how many steps to profile, once the first few are done.
        policy: number format of the computation; the model is cast on its way into the objective.
        roles: parameters with a learning rate, optimiser and limit of their own; all others go by those above.
        guard: goes back to the last good checkpoint after a non-finite value or a spike; without one, the first
            non-finite value ends the run.
        validate: measures the loss of held-back clips on the way, where what is trained has any.
        wandb: logs to Weights & Biases too.
    """

    examples: int
    learning_rate: float = 1e-3
    warmup: int = 0
    decay: Decay = field(default_factory=Constant)
    optimizer: Optimizer = field(default_factory=AdamW)
    clip_norm: float | None = 1.0
    ema_std: tuple[float, ...] = (0.05,)
    accumulate: int = 1
    checkpoint_every: int = 100_000
    keep: int = 2
    keep_every: int = 0
    snapshot_every: int = 0
    log_every: int = 10_000
    preview_every: int = 0
    trace: int = 0
    policy: Policy = field(default_factory=Policy)
    roles: tuple[Role, ...] = ()
    guard: Guard | None = None
    validate: Validate | None = None
    wandb: WandB | None = None

    def __post_init__(self) -> None:
        if not 0 < self.examples < 2**32:
            raise UserError(f"train.examples is {self.examples}: give a number from 1 to 4294967295")
        if self.accumulate < 1 or self.keep < 1 or self.trace < 0:
            raise UserError("train.accumulate and train.keep are at least 1, and train.trace is 0 or more")
        if self.guard and (self.checkpoint_every < 1 or self.keep < 2):
            raise UserError(
                "train.guard goes back to checkpoints: set train.checkpoint_every, and train.keep to 2 or more"
            )
        for std in self.ema_std:
            try:
                ema.gamma_of(std)
            except ValueError as error:
                raise UserError(f"train.ema_std holds {std}: {error}") from None

    def rate(self, examples: Array, role: Role | None = None) -> Array:
        """The learning rate after `examples` examples (float32), of a role or of what has none."""
        how = role or self
        rise = jnp.minimum(1, examples / how.warmup) if how.warmup else 1.0
        return how.learning_rate * rise * how.decay(examples, self.examples)


class State(Module, Generic[M]):
    """A run at one moment; all of it is checkpointed.

    step: optimiser steps taken. examples: training examples seen. model: the parameters, as `Policy.state` has them.
    optimizer: optax's state; with roles, one for what has none and one for each. ema: one averaged model for each of
        `Train.ema_std`.
    """

    step: UInt32[Array, ""]
    examples: UInt32[Array, ""]
    model: M
    optimizer: optax.OptState
    ema: tuple[M, ...]

    @staticmethod
    def init(model: Any, config: Train) -> "State[Any]":
        """The state before the first step."""
        zero = jnp.zeros((), jnp.uint32)
        trained, _ = split(model)
        averages = tuple(jax.tree.map(jnp.copy, model) for _ in config.ema_std)
        optimizers = [config.optimizer, *(role.optimizer for role in config.roles)]
        parts = zip(optimizers, by_role(trained, config.roles), strict=True)
        states = tuple(optimizer.transform().init(part) for optimizer, part in parts)
        model, states = narrow((model, states), config.policy.state)
        return State(zero, zero, model, states if config.roles else states[0], averages)


class Tally(Module):
    """Sums of metrics since the last log line, and the first fault (non-finite value or spike), kept on the device.

    sums, weights: by metric name; mean = sums / weights, as of `Loss.metrics`.
    fault_step: the first step with a fault, or -1.
    fault: which of `fault_names` were non-finite at that step and, with a guard, which of its `SPIKES` there were.
    watch: what the guard knows of the steps so far; None without a guard.
    """

    sums: dict[str, Float[Array, ""]]
    weights: dict[str, Float[Array, ""]]
    fault_step: Int[Array, ""]
    fault: Array
    watch: Watch | None = None

    @staticmethod
    def blank(metrics: list[str], faults: int, guard: Guard | None = None) -> "Tally":
        """No step counted yet, for these metric names and this many names of faults."""
        sums, weights = ({name: jnp.zeros((), jnp.float32) for name in metrics} for _ in range(2))
        fault = jnp.zeros(faults + len(SPIKES) * bool(guard), bool)
        return Tally(sums, weights, jnp.full((), -1, jnp.int32), fault, Watch.blank(guard) if guard else None)

    def add(self, metrics: dict[str, Array], examples: int, step: Array, fault: Array) -> "Tally":
        """Count one step: every metric a vector over its microbatches, each of which weighs the same."""
        sums, weights = {}, {}
        for name, values in metrics.items():
            here = jnp.isfinite(values)
            sums[name] = self.sums[name] + examples * jnp.where(here, values, 0).mean()
            weights[name] = self.weights[name] + examples * here.mean()
        watch = self.watch
        if watch is not None:
            watch, spikes = watch.look(jnp.stack([metrics[name].mean() for name in SIGNALS]))
            fault = jnp.concatenate([fault, spikes])
        first = (self.fault_step < 0) & fault.any()
        fault_step = jnp.where(first, step.astype(jnp.int32), self.fault_step)
        return Tally(sums, weights, fault_step, jnp.where(first, fault, self.fault), watch)


def fault_names(model: Any) -> list[str]:
    """What `Tally.fault` looks at, in the order in which a non-finite value would pass through them."""
    return ["the batch", "the loss", *(f"the gradient of {path}" for path in paths(split(model)[0]))]


def split(model: M) -> tuple[M, M]:
    """The arrays that are trained (floating point), and the rest; each has None where the other has an array."""
    floating = jax.tree.map(lambda x: jnp.issubdtype(x.dtype, jnp.floating), model)
    trained = jax.tree.map(lambda x, f: x if f else None, model, floating)
    return trained, jax.tree.map(lambda x, f: None if f else x, model, floating)


def join(trained: M, rest: M) -> M:
    """The inverse of `split`."""
    return jax.tree.map(lambda a, b: b if a is None else a, trained, rest, is_leaf=lambda x: x is None)


def by_role(trained: M, roles: tuple[Role, ...]) -> list[M]:
    """The parameters of no role, then those of each; every tree has None where another has an array.

    Raises `UserError` for a role without parameters, or two that share one.
    """
    owners = []
    for path in paths(trained):
        mine = [i for i, role in enumerate(roles, 1) if f"{path}.".startswith(f"{role.path}.")]
        if len(mine) > 1:
            raise UserError(f"train.roles: '{path}' is of several roles: let each parameter be of one")
        owners.append(mine[0] if mine else 0)
    for i, role in enumerate(roles, 1):
        if i not in owners:
            top = sorted({path.partition(".")[0] for path in paths(trained)})
            raise UserError(f"train.roles: the model has no '{role.path}': its parts are {', '.join(top)}")
    leaves, structure = jax.tree.flatten(trained)
    return [
        jax.tree.unflatten(structure, [x if owner == i else None for x, owner in zip(leaves, owners, strict=True)])
        for i in range(len(roles) + 1)
    ]

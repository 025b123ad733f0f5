"""The loss of each of several sources of data, in the log beside that of all of them."""

from typing import Any

import jax.numpy as jnp

from diorama.core.array import Array, Key, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.train.state import Loss, Objective, Scheduled

SOURCE = "source"


class BySource(Module):
    """An objective, with metrics `loss_<name>`: the mean of `Loss.each` over the batch's examples of that source.

    Batches hold `source` (b,) int32, an index into `names`. A source with no example in a batch has NaN there, which
    the log leaves out; batches weigh alike in it, however many examples of the source they hold (`Loss.metrics`). The
    objective must say its loss of each example.
    """

    objective: Objective
    names: tuple[str, ...] = static()

    def after(self, examples: UInt32[Array, ""]) -> "BySource":
        """As of `Scheduled`."""
        now = self.objective
        return BySource(now.after(examples) if isinstance(now, Scheduled) else now, self.names)

    def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> Loss:
        source = batch[SOURCE]
        out = self.objective(model, {name: x for name, x in batch.items() if name != SOURCE}, key)
        if out.each is None:
            raise UserError("the loss by source asks for an objective that says the loss of each example")
        found = {}
        for i, name in enumerate(self.names):
            here = source == i
            found[f"loss_{name}"] = jnp.where(here.any(), jnp.where(here, out.each, 0).sum() / here.sum(), jnp.nan)
        if taken := sorted(found.keys() & out.metrics.keys()):
            raise UserError(f"a source of data cannot be called '{taken[0].removeprefix('loss_')}': the log has that")
        return Loss(out.value, out.metrics | found, out.each)

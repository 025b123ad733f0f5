"""The loss of clips that are held back, and of as many that train: at noise that is the same each time.

An example's noise times and noise are functions of its id and the run's seed alone. Each is looked at `strata` times,
with one noise, at a noise time in each of as many equally likely parts of the objective's density: every example says
something of the whole range, and two validations differ by the model only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from diorama.core.array import Array
from diorama.core.layout import Layout
from diorama.core.module import Policy
from diorama.core.random import stream, uniform
from diorama.train.state import Objective, Validate

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Held:
    """What to validate on: batches (of this process) of clips held back, and of clips that train.

    The objective's noise times are to go by `batch["place"]` in [0, 1).
    """

    objective: Objective
    held: Sequence[Batch]
    train: Sequence[Batch]


class Validation:
    """Measures a model; compiled once for each shape of batch."""

    def __init__(self, config: Validate, held: Held, policy: Policy, seed: int, layout: Layout):
        self.config, self.held, self.layout = config, held, layout

        def measure(model: Any, batch: dict[str, Array], stratum: Array) -> dict[str, Array]:
            place = (stratum + uniform(stream(seed, "validation place"), batch["id"])) / config.strata
            with layout.ambient():
                loss = held.objective(policy.enter(model), batch | {"place": place}, stream(seed, "validation"))
            return {"loss": loss.value, **loss.metrics}

        self._measure = jax.jit(measure, out_shardings=layout.sharding())

    def __call__(self, model: Any) -> dict[str, float]:
        """`validation`, `validation_tau0`, ... of held-back clips, `validation_train`, ... of training clips, and
        `validation_gap`, the first less the second.

        Batches weigh by their size, as in the training log: where a metric is a mean over all examples, so is this. One
        over some of them, as in a band of noise, is a mean of batches' means, and a batch without any is left out.
        """
        found = _named("validation", self._mean(model, self.held.held))
        found |= _named("validation_train", self._mean(model, self.held.train))
        return found | {"validation_gap": found["validation"] - found["validation_train"]}

    def _mean(self, model: Any, batches: Sequence[Batch]) -> dict[str, float]:
        values, sizes = [], []
        for batch in batches:
            on_devices = self.layout.put(batch)
            for stratum in range(self.config.strata):
                values.append(jax.device_get(self._measure(model, on_devices, np.uint32(stratum))))
                sizes.append(len(batch["id"]))
        weights = np.array(sizes, np.float64)
        means = {}
        for name in values[0]:
            column = np.array([value[name] for value in values], np.float64)
            here = np.isfinite(column)
            if here.any():
                means[name] = float((column[here] * weights[here]).sum() / weights[here].sum())
        return means


def _named(prefix: str, means: dict[str, float]) -> dict[str, float]:
    """Metrics under `prefix`: "loss" is it, "loss_tau0" becomes "prefix_tau0"."""
    return {f"{prefix}{name.removeprefix('loss')}" if name.startswith("loss") else f"{prefix}_{name}": mean
            for name, mean in means.items()}  # fmt: skip

"""Daft on a Ray cluster: as Daft on one machine, with lanes on all of them.

Media and results: every machine reads the sources at the same paths; only this one writes.
"""

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from diorama.data.runners.daft import engine, settle
from diorama.data.runners.runner import Advance, Function, patiently

import daft  # isort: skip - after what sets its environment
import ray

from diorama.core.errors import UserError

ENVIRONMENT = {"DAFT_PROGRESS_BAR": "0", "DAFT_ANALYTICS_ENABLED": "0"}


@dataclass(frozen=True)
class DaftRay:
    """The cluster at `address` (host:port); else at RAY_ADDRESS; else one that is started on this machine."""

    address: str | None = None

    def lanes(self, workers: int | None) -> int:
        """As `Runner.lanes`, with the cluster's cores for this machine's."""
        if not ray.is_initialized():
            try:
                ray.init(self.address, runtime_env={"env_vars": ENVIRONMENT}, log_to_driver=False,
                         logging_level=logging.ERROR, include_dashboard=False)  # fmt: skip
            except Exception as error:  # of many kinds
                raise UserError(f"Ray cannot be reached or started: {error}") from None
        settle("ray", lambda: daft.set_runner_ray(noop_if_initialized=True))
        cores = max(int(ray.cluster_resources().get("CPU", 1)), 1)
        return min(workers or cores, cores)  # Daft would wait for more in vain

    def run(
        self, function: Function, batches: Sequence[pa.Table], workers: int | None, advance: Advance
    ) -> Generator[tuple[int, pa.Table], None, None]:
        """As `Runner.run`. Ray starts a process that ends anew, and gives it the batch again."""
        return patiently(engine(function, divide=True), function, batches, self.lanes(workers), advance)

"""What kinds of things a catalogue holds: k-means over embeddings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save_file
from sklearn.cluster import MiniBatchKMeans

from diorama.core.errors import UserError
from diorama.core.files import write_aside
from diorama.data.embed.vectors import over_known, stacked
from diorama.data.stages.stage import Batch


@dataclass(frozen=True)
class Clusters:
    """The cluster that each clip lies in, and its distance from the centre, 0 (at it) to 2 (opposite) for unit vectors.

    Centres are found once (k-means on small batches, Sculley 2010, "Web-scale k-means clustering") from `examples`
    clips at most and kept, so a clip that comes later joins a cluster and moves none. Numbers go from the largest
    cluster, 0, to the smallest. Where there are fewer clips than `clusters`, there are as many clusters as clips.

    vectors: what is clustered, as `stage.column`.
    """

    clusters: int = 100
    examples: int = 50_000
    seed: int = 0
    vectors: str = "embedding.vector"
    name: ClassVar[str] = "clusters"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"cluster": int, "distance": float}
    weights: ClassVar[tuple[Path, ...]] = ()

    def __post_init__(self) -> None:
        if self.clusters < 1 or self.examples < 1:
            raise UserError("clusters and examples are at least 1")

    @property
    def reads(self) -> tuple[str, ...]:
        """What it asks for."""
        return (self.vectors,)

    def prepare(self, models: Path, sample: Callable[[int], pa.Table]) -> Batch:
        """As `Derived.prepare`. Raises `UserError` where no clip has a vector."""
        path = models / "centres.safetensors"
        if not path.exists():
            vectors, _ = stacked(sample(self.examples)[self.vectors])
            if not len(vectors):
                raise UserError(f"no clip has {self.vectors}: clusters cannot be found")
            centres = self._fit(vectors)
            with write_aside(path) as aside:
                save_file({"centres": centres}, aside)
        centres = load_file(path)["centres"]

        def nearest(vectors: np.ndarray) -> dict[str, list[Any]]:
            cluster = ((centres**2).sum(1) - 2 * vectors @ centres.T).argmin(1)
            distance = np.linalg.norm(vectors - centres[cluster], axis=1)
            return {"cluster": cluster.tolist(), "distance": distance.tolist()}

        return lambda table: over_known(table[self.vectors], nearest, self.columns)

    def _fit(self, vectors: np.ndarray) -> np.ndarray:
        """Centres (k, d) float32, that of the largest cluster first."""
        count = min(self.clusters, len(vectors))
        means = MiniBatchKMeans(count, random_state=self.seed, n_init=3).fit(vectors)
        order = np.argsort(-np.bincount(means.labels_, minlength=count), kind="stable")
        return np.ascontiguousarray(means.cluster_centers_[order], np.float32)

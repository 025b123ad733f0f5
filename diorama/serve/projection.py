"""The map of a catalogue: its clips' vectors laid out on a plane, like beside like, and what is inside a lasso."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from diorama.core.files import write_aside
from diorama.data.ledger import quote

MOST = 200_000  # clips on the map; of more, those that a hash of their id picks
FITTED = 20_000  # of those, by which components and clusters are found
CLUSTERS = 12
SEED = 0


class Projection:
    """Positions of clips by the first two principal components of their vectors, scaled into [-1, 1], and clusters.

    n: (p,) int32 item numbers. xy: (p, 2) float32. cluster: (p,) uint8, of k-means on the vectors; both with seed 0,
    so that the same catalogue has the same map. Made once and kept in `cache` as `positions-NAME-COLUMN.npz`.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, folder: Path, column: str, cache: Path, name: str) -> None:
        path = cache / f"positions-{name}-{column}.npz"
        if not path.exists():
            n, vectors = _vectors(con, folder, column)
            xy, cluster = _layout(vectors)
            for old in cache.glob(f"positions-*-{name.partition('-')[2]}-{column}.npz"):
                old.unlink()
            with write_aside(path) as aside:
                np.savez(aside, n=n, xy=xy, cluster=cluster)
        with np.load(path) as held:
            self.n, self.xy, self.cluster = held["n"], held["xy"], held["cluster"]

    def inside(self, polygon: list[tuple[float, float]]) -> np.ndarray:
        """The numbers of the items inside a polygon of positions, by the even-odd rule."""
        x, y = self.xy[:, 0], self.xy[:, 1]
        inside = np.zeros(len(x), bool)
        corners = np.asarray(polygon, np.float32)
        for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, 0), strict=True):
            crosses = (ay > y) != (by > y)
            inside[crosses] ^= x[crosses] < (bx - ax) * (y[crosses] - ay) / (by - ay) + ax
        return self.n[inside]

    def packed(self) -> bytes:
        """Little-endian: the count as uint32, then n (int32), x and y (float32 each), cluster (uint8)."""
        x, y = np.ascontiguousarray(self.xy.T.astype("<f4"))
        parts = [np.uint32(len(self.n)).tobytes(), self.n.astype("<i4").tobytes(), x.tobytes(), y.tobytes()]
        return b"".join([*parts, self.cluster.tobytes()])

    def colours(self, con: duckdb.DuckDBPyConnection, column: str, number: bool) -> tuple[np.ndarray, dict[str, Any]]:
        """A code (uint8) for every point by a column of `shown`, and what the codes mean.

        Of a number: 0 to 254 from `low` to `high`, its 1st and 99th percentile; of a word: the place among `values`,
        the eleven commonest. 255 is none of them.
        """
        con.register("placed", pa.table({"n": self.n, "k": np.arange(len(self.n))}))
        source = f'select k, "{column}" as v from placed join shown using (n)'
        codes = np.full(len(self.n), 255, np.uint8)
        if number:
            found = con.execute(f"select k, v::double as v from ({source}) where v is not null").fetchnumpy()
            values = np.asarray(found["v"], float)
            low, high = (float(q) for q in np.quantile(values, [0.01, 0.99])) if len(values) else (0.0, 1.0)
            codes[found["k"]] = np.clip((values - low) / ((high - low) or 1) * 254, 0, 254).astype(np.uint8)
            legend: dict[str, Any] = {"low": low, "high": high}
        else:
            rows = con.execute(f"select v::varchar as v, list(k) as k from ({source}) where v is not null "
                               "group by all order by len(list(k)) desc, v limit 11").fetchall()  # fmt: skip
            for code, (_, places) in enumerate(rows):
                codes[places] = code
            legend = {"values": [value for value, _ in rows]}
        con.unregister("placed")
        return codes, legend


def _vectors(con: duckdb.DuckDBPyConnection, folder: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Item numbers (p,) and vectors (p, d), in the order of numbers."""
    shards = f"read_parquet({quote(f'{folder}/*.parquet')})"
    table = con.sql(f"""
        with chosen as
            (select id from {shards} where "{column}" is not null group by id order by hash(id) limit {MOST}),
          vectors as
            (select id, any_value("{column}") as v from {shards} where id in (select id from chosen) group by id)
        select n, v from (select min(n) as n, id from item group by id) join vectors using (id) order by n
    """).to_arrow_table()
    numbers = table["n"].to_numpy().astype(np.int32)
    flat = table["v"].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return numbers, flat.reshape(len(numbers), -1) if len(numbers) else np.zeros((0, 2), np.float32)


def _layout(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (p, 2) in [-1, 1] and clusters (p,) of vectors (p, d)."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import PCA

    vectors = np.nan_to_num(vectors)
    count, width = vectors.shape
    if count < 3 or width < 2:
        return np.zeros((count, 2), np.float32), np.zeros(count, np.uint8)
    some = vectors[:: max(1, count // FITTED)]
    xy = PCA(2, svd_solver="randomized", random_state=SEED).fit(some).transform(vectors)
    middle = np.median(xy, 0)
    xy = (xy - middle) / (np.quantile(np.abs(xy - middle), 0.999) or 1)
    means = MiniBatchKMeans(min(CLUSTERS, count), random_state=SEED, n_init=1, batch_size=4096).fit(some)
    return np.clip(xy, -1, 1).astype(np.float32), means.predict(vectors).astype(np.uint8)

"""Diversity: CPU time of k-centre and facility location, and how much more they stand for than a random choice does.

Command:   python -m benchmarks.balance [--sizes 10000 100000]
Hardware:  CPU; 2 GB; CPU-seconds are this process's own over all its threads, so that other work matters little.

Vectors lie on the sphere around centres of uneven clusters (Zipf), as embeddings of real media do. Radius is the
largest distance to the nearest chosen vector; coverage the mean cosine, those below 0 as 0, to the nearest chosen one
over all pairs, not over the graph that facility location sees. The last line is JSON.
"""

import argparse
import json
import resource
import time

import numpy as np

from diorama.data.balance.coverage import facility_location, farthest_first, nearest, similarities


def clustered(n: int, d: int, seed: int) -> np.ndarray:
    """Unit vectors (n, d) float32 in sqrt(n) clusters, of sizes as 1 / rank; within one, cosines are about 0.7."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, int(np.sqrt(n)) + 1)
    centres = rng.normal(size=(len(share), d))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    vectors = centres[rng.choice(len(share), n, p=share / share.sum())] + 0.65 * rng.normal(size=(n, d)) / np.sqrt(d)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def measured(vectors: np.ndarray, chosen: np.ndarray, seconds: float) -> dict[str, float]:
    """Figures of a choice."""
    distance = nearest(vectors, chosen)[1]
    cosine = np.maximum(1 - distance.astype(np.float64) ** 2 / 2, 0)
    radius, coverage = float(distance.max()), float(cosine.mean())
    return {"cpu": round(seconds, 2), "radius": round(radius, 3), "coverage": round(coverage, 4)}


def main() -> None:
    """Print a line for each choice and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--share", type=float, default=0.1, help="of the vectors that are chosen")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    out: dict[str, dict[str, float]] = {}
    for n in asked.sizes:
        vectors, count = clustered(n, asked.width, asked.seed), int(asked.share * n)
        random = np.sort(np.random.default_rng(asked.seed).permutation(n)[:count])
        out[f"random {n}"] = measured(vectors, random, 0.0)
        start = time.process_time()
        chosen = farthest_first(vectors, count)
        out[f"k-centre {n}"] = measured(vectors, chosen, time.process_time() - start)
        start = time.process_time()
        graph = similarities(vectors)
        between = time.process_time()
        chosen = facility_location(graph, count)
        found = measured(vectors, chosen, time.process_time() - start)
        out[f"facility location {n}"] = found | {"of which graph": round(between - start, 2)}
        for name in [key for key in out if key.endswith(f" {n}")]:
            print(f"{name}: {out[name]}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(out | {"peak GB": round(peak, 2), "width": asked.width, "share": asked.share, "seed": asked.seed}))


if __name__ == "__main__":
    main()

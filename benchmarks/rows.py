"""A catalogue of very many rows: a run with nothing to do, a changed threshold, and what a few more files cost.

Install:   python -m pip install -e .
Command:   python -m benchmarks.rows --rows 1000 10000 100000 1000000
Hardware:  two CPU cores with nothing else on them; 4 GB of memory and 3 GB of disk for 10^6 rows.

The source is one Parquet file of tiny pictures. So that no time goes into decoding and copying, the observations and
stored media of all but a few are written as `curate` would; the few, and everything after that, go the real way.
Seconds of the clock; then those of the processor. The last line is JSON.
"""

import argparse
import io
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from diorama.core.files import hash_bytes
from diorama.data import Curation, Drop, Percentile, Where, curate
from diorama.data.ledger import MEDIA, OBSERVATION, append, probe_folder, stage_folder, stage_schema
from diorama.data.sources import listing
from diorama.data.stages import Technical

SHARD = 50_000
_CONTRAST, _HIGHLIGHTS = "technical.contrast", "technical.highlights"


def policy(below: float | Percentile = 48.0) -> Curation:
    """Thresholds on what `Technical` measures."""
    flat, dark = Drop("flat", (Where(_CONTRAST, below=3.0),)), Drop("dark", (Where(_HIGHLIGHTS, below=below),))
    blurred = Drop("blurred", (Where("technical.sharpness", below=2.5), Where("technical.edges", above=3.4)))
    return Curation(stages=(Technical(),), rules=(flat, dark, blurred))


def picture(number: int) -> bytes:
    """A PNG of one colour, another for every number."""
    out = io.BytesIO()
    Image.new("RGB", (2, 2), (number & 255, number >> 8 & 255, number >> 16 & 255)).save(out, "PNG")
    return out.getvalue()


def table(path: Path, numbers: range) -> None:
    """A Parquet file of pictures with captions."""
    media = pa.array([picture(n) for n in numbers], pa.binary())
    captions = [f"picture {n} of many" for n in numbers]
    pq.write_table(pa.table({"image": media, "caption": captions}), path, row_group_size=1000)


def pretend(source: Path, out: Path, seed: int) -> None:
    """Write observations of everything in `source`, with random measures in place of measured ones, and its media."""
    plan, rng = policy(), np.random.default_rng(seed)
    [stage] = plan.stages
    items = list(listing(source))
    for start in range(0, len(items), SHARD):
        part = items[start : start + SHARD]
        ids = [hash_bytes(picture(start + k)) for k in range(len(part))]
        rows = [
            {"location": item.location, "root": item.root, "stamp": item.stamp, "run": 1, "id": i, "pixels": i,
             "kind": "image", "t": 1, "h": 2, "w": 2, "sound": False, "bytes": 80, "format": "PNG", **item.said}
            for item, i in zip(part, ids, strict=True)
        ]  # fmt: skip
        measures = {name: pa.array(rng.uniform(0, 255, len(part))) for name in stage.columns}
        columns = {"id": pa.array(ids), "error": pa.nulls(len(part), pa.string()), **measures}
        append(stage_folder(out, stage), f"{start}", pa.table(columns, stage_schema(stage)))
        append(probe_folder(out, plan.limits), f"{start}", pa.Table.from_pylist(rows, OBSERVATION))
        media = {"id": ids, "place": [""] * len(ids), "media": [picture(start + k) for k in range(len(ids))]}
        stored = pa.table(
            [pa.array(media.get(field.name, [None] * len(ids)), field.type) for field in MEDIA], schema=MEDIA
        )
        lance.write_dataset(stored, out / "media.lance", mode="append" if start else "create")


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds of the clock and of the processor, and what the call returned."""
    clock, used = time.monotonic(), cpu()
    result = call()
    return time.monotonic() - clock, cpu() - used, result


def cpu() -> float:
    """Seconds of processor time of this process and of the children that ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def measure(rows: int, folder: Path, seed: int) -> dict[str, tuple[float, float]]:
    """Seconds by what was done."""
    source, more, out = folder / "a.parquet", folder / "more", folder / "catalogue"
    table(source, range(rows))
    pretend(source, out, seed)
    more.mkdir()
    steps: dict[str, tuple[float, float]] = {}

    def step(name: str, call: Callable[[], Any]) -> Any:
        *steps[name], result = timed(call)
        return result

    first = step("first decision", lambda: curate([source], out, policy()))
    again = step("nothing to do", lambda: curate([source], out, policy()))
    assert (again.hash, again.new) == (first.hash, 0)
    fewer = step("another threshold", lambda: curate([source], out, policy(96.0)))
    assert fewer.clips < first.clips
    step("a percentile", lambda: curate([source], out, policy(Percentile(5))))
    back = step("the first threshold again", lambda: curate([source], out, policy()))
    assert back.hash == first.hash
    table(more / "b.parquet", range(rows, rows + rows // 100))
    grown = step("1 % more files", lambda: curate([source, more], out, policy()))
    assert grown.new == rows // 100
    return steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found: dict[int, dict[str, tuple[float, float]]] = {}
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            found[rows] = measure(rows, Path(folder), options.seed)
    print("| seconds (of the processor) | " + " | ".join(f"{rows:,} rows" for rows in found) + " |")
    print("|---|" + "---|" * len(found))
    for name in next(iter(found.values())):
        cells = (f"{steps[name][0]:.2f} ({steps[name][1]:.2f})" for steps in found.values())
        print(f"| {name} | {' | '.join(cells)} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": found, "peak_gb": round(peak, 2), "seed": options.seed}))


if __name__ == "__main__":
    main()

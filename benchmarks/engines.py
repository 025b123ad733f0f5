"""What the runners of curation cost over a plain pool of processes that guards against nothing.

Install:   python -m pip install -e '.[daft,ray]'; an engine that is not there is left out
Command:   python -m benchmarks.engines [--images 2000] [--workers 2] [--keep FOLDER]
Hardware:  two CPU cores, 8 GB, 5 minutes

Each runner looks at the same JPEGs of 256 x 256 with `Technical` and `Signature`, from files to Parquet, in a process
of its own; so does `concurrent.futures` with the same decoder and the same stages. CPU seconds are those of that
process and of all its children, which other programs disturb less than they do the clock. They are taken with all
images and with a tenth of them: the difference is what an image costs, the rest what it costs to start. Ray's
processes are nobody's children: of it there is the wall time only. The last line is JSON.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diorama.data.ledger import OBSERVATION, append, batched, fitting, stage_folder, stage_schema
from diorama.data.observe import SHARD, Work, identity, observe
from diorama.data.runners import RUNNERS, named
from diorama.data.sources import listing
from diorama.data.stages import Signature, Technical
from diorama.data.stages.look import Look, Seen
from diorama.media import Limits, read

STAGES = (Technical(), Signature())
NEEDS = {"pool": (), "local": (), "daft": ("daft",), "daft-ray": ("daft", "ray")}
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="where the images are kept")
    parser.add_argument("--one", nargs=2, metavar=("RUNNER", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run(options.one[0], Path(options.one[1]), options.workers)
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        few = max(options.images // 10, 1)
        folders = {count: make(root / str(count), count) for count in (options.images, few)}
        costs = {}
        for name in ("pool", *RUNNERS):
            if not all(map(find_spec, NEEDS[name])):
                print(f"{name}: not installed")
                continue
            (wall, cpu), (start_wall, start_cpu) = (measure(name, f, options.workers) for f in folders.values())
            more = options.images - few
            costs[name] = {"wall": wall, "cpu": cpu, "per_image": (cpu - start_cpu) / more,
                           "wall_per_image": (wall - start_wall) / more}  # fmt: skip
            ray = name == "daft-ray"
            seconds = costs[name]["wall_per_image" if ray else "per_image"]
            of_pool = costs["pool"]["wall_per_image" if ray else "per_image"]
            print(
                f"{name:<10}{wall:8.1f} s{'' if ray else f'{cpu:8.1f} CPU s'}  "
                f"{1 / seconds:8.0f} images a {'second' if ray else 'CPU second'}, {seconds / of_pool:.2f} of the pool",
                flush=True,
            )
        print(json.dumps({"images": options.images, "workers": options.workers, "seed": SEED, **costs}))


def make(folder: Path, count: int) -> Path:
    """Write `count` JPEGs, about as hard to compress as photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    for k in range(count):
        coarse = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (256, 256), interpolation=cv2.INTER_CUBIC)
        fine = cv2.GaussianBlur(rng.normal(0, 40, (256, 256, 3)).astype(np.float32), (0, 0), 1.2)
        cv2.imwrite(str(folder / f"{k:06d}.jpg"), np.clip(coarse + fine, 0, 255), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return folder


def measure(name: str, folder: Path, workers: int) -> tuple[float, float]:
    """Seconds of wall time, and of CPU time with all children that were waited for."""
    command = [sys.executable, "-m", "benchmarks.engines", "--workers", str(workers), "--one", name, str(folder)]
    start = time.monotonic()
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{name} failed")
    return time.monotonic() - start, used.ru_utime + used.ru_stime


def run(name: str, folder: Path, workers: int) -> None:
    """Look at a folder of images once."""
    with tempfile.TemporaryDirectory() as out:
        if name == "pool":
            pool(sorted(folder.iterdir()), Path(out), workers)
        else:
            work = [Work(item, STAGES) for item in listing(folder)]
            observe(work, Path(out), Path(out) / "probe", 1, Limits(), workers, named(name))
        written = pa.concat_tables(map(_rows, Path(out).rglob("*.parquet")))
        assert len(written) == (1 + len(STAGES)) * len(list(folder.iterdir()))


def _rows(path: Path) -> pa.Table:
    return pq.read_table(path, columns=["id"])


def pool(paths: Sequence[Path], out: Path, workers: int) -> None:
    """The same work as it is done in thirty lines."""
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as executor:
        for number, shard in enumerate(batched(paths, SHARD)):
            seen = list(executor.map(look, shard, chunksize=16))
            for stage in STAGES:
                rows = [{"id": identifier, **found.rows[stage.name]} for identifier, found in seen]
                append(stage_folder(out, stage), str(number), fitting(rows, stage_schema(stage)))
            noted = [{"location": str(path), "id": identifier, "pixels": found.pixels, "t": found.t, "h": found.h,
                      "w": found.w} for path, (identifier, found) in zip(shard, seen, strict=True)]  # fmt: skip
            append(out / "probe", str(number), pa.Table.from_pylist(noted, OBSERVATION))


def look(path: Path) -> tuple[str, Seen]:
    """What curation does to a file, without limits."""
    return identity(path), Look(STAGES)(read(path))


if __name__ == "__main__":
    main()

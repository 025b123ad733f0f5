"""What an audit of stills costs, from files to verdicts, and each of its parts alone, beside other tools.

Install:   python -m pip install -e . cleanvision==0.3.7 imagededup==0.3.3.post2      (either may be missing)
Command:   python -m benchmarks.audit [--n 3000] [--photos PHOTOS] [--rounds 3] [--keep FOLDER]
Hardware:  two CPU cores, 8 GB, 15 minutes with three rounds; seconds are those of the processor.

The pictures are JPEGs of 256 x 256, made up or cut out of the photographs under PHOTOS (bsds, kodak, ... inside it),
one in eleven a copy of another (`benchmarks.planted`). Parts run in one thread on what was read before, and their own
time counts. Audits run in a process of their own, whose time counts with all its children's, in two ways: all of it,
and what each more picture costs, the difference from a tenth of the pictures, without what it costs to start. The ways
take turns in every round; the medians are shown. The last line is JSON.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from itertools import count, islice, product
from pathlib import Path

import cv2
import numpy as np

from benchmarks.planted.copies import CHANGES, KINDS, encode
from benchmarks.planted.originals import real, synthetic
from diorama.data import Curation, curate
from diorama.data.duplicates import NearDuplicates
from diorama.data.stages import Preview, Signature, Technical
from diorama.data.stages.stage import Stage
from diorama.media import read
from diorama.media.guard import SETTINGS
from recipes.curate_stills import recipe

SEED = 0
SIDE = 256
COPIES = 11  # one in so many is a copy
PARTS = ("decoding", "Technical", "Signature", "Preview", "Technical, Signature")
OURS = ("audit", "recipe")  # the recipe's rules on Technical and Signature, and the recipe itself, which has Preview
PEERS = ("cleanvision", "imagededup")
AIMS = {"Technical": 1000, "audit": 600}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--photos", type=Path, help="a folder of photographs; without it pictures are made up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="where the pictures are kept")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run(options.one[0], Path(options.one[1]))
        return
    peers = [name for name in PEERS if find_spec(name)]
    for name in set(PEERS) - set(peers):
        print(f"{name} is not installed: python -m pip install {name}")
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        kind = "photographs" if options.photos else "made"
        many = make(root / f"{kind}-{options.n}", options.n, options.photos)
        sizes = [path.stat().st_size for path in many.iterdir()]
        n, tenth = len(sizes), len(sizes) // 10
        few = make(root / f"{kind}-{tenth}", tenth, options.photos)
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in (*PARTS, *OURS, *peers)}
        for _ in range(options.rounds):
            for name, rounds in spent.items():
                rounds.append((0.0, measure(name, few)) if name in PARTS else (measure(name, many), measure(name, few)))
    found = {}
    for name, rounds in spent.items():
        whole, start = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
        each = statistics.median(more - less for more, less in rounds)
        found[name] = {"each": tenth / start} if name in PARTS else {"all": n / whole, "each": (n - tenth) / each}
    show(found, n, statistics.mean(sizes))
    versions = {name: version(name) for name in peers}
    print(json.dumps({"n": n, "seed": SEED, "photos": bool(options.photos), "rounds": options.rounds,
                      "bytes": round(statistics.mean(sizes)), "versions": versions,
                      "pictures per CPU-second": found}))  # fmt: skip


def show(found: dict[str, dict[str, float]], n: int, size: float) -> None:
    """The table: pictures per CPU-second, and how many times those of the peers."""
    peers = [name for name in PEERS if name in found]
    print(f"\n{n} JPEGs of {SIDE} x {SIDE}, {size / 1000:.1f} KB each: pictures per CPU-second, aims in brackets")
    print(f"{'':24}{'all':>8}{'each more':>12}" + "".join(f"{'of ' + name:>18}" for name in peers))
    for name, rates in found.items():
        aim = f"  ({AIMS[name]:,})" if name in AIMS else ""
        whole = f"{rates['all']:8.0f}" if "all" in rates else f"{'':8}"
        times = (f"{rates['all'] / found[peer]['all']:17.1f}x" if "all" in rates else f"{'':18}" for peer in peers)
        print(f"{name:24}{whole}{rates['each']:12.0f}{''.join(times)}{aim}")


def make(folder: Path, most: int, photos: Path | None) -> Path:
    """Write up to `most` JPEGs, of quality 85 to 95, and copies among them; those that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        return folder
    rng = np.random.default_rng(SEED)
    originals = tiles(photos) if photos else made()
    for k in range(0, most, COPIES):
        if pictures := list(islice(originals, COPIES - 1)):
            copy = CHANGES[KINDS[k // COPIES % len(KINDS)]](rng, pictures[-1])
            pictures.append(cv2.resize(copy, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
        for number, picture in enumerate(pictures[: most - k], k):
            (folder / f"{number:06d}.jpg").write_bytes(encode(picture, int(rng.integers(85, 96))))
    return folder


def made() -> Iterator[np.ndarray]:
    """Made up pictures (256, 256, 3) without end, one in five a sky."""
    for k in count():
        yield synthetic(np.random.default_rng([SEED, k]), smooth=k % 5 == 4)[:SIDE, :SIDE]


def tiles(photos: Path) -> Iterator[np.ndarray]:
    """All parts (256, 256, 3) of photographs that do not overlap."""
    for _, picture in real(photos):
        h, w = (side // SIDE * SIDE for side in picture.shape[:2])
        for y, x in product(range(0, h, SIDE), range(0, w, SIDE)):
            yield np.ascontiguousarray(picture[y : y + SIDE, x : x + SIDE])


def measure(way: str, folder: Path) -> float:
    """Seconds of a part alone, or of an audit's process with all children that it waited for."""
    command = [sys.executable, "-m", "benchmarks.audit", "--one", way, str(folder)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | (SETTINGS if way in PARTS else {})  # a part runs as in a worker
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{way} failed: {done.stderr}")
    if way in PARTS:
        return float(done.stdout.split()[-1])
    return used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime


def run(way: str, folder: Path) -> None:
    """One way, once, on a folder of pictures; a part prints its own seconds."""
    if way in PARTS:
        print(part(way, sorted(folder.iterdir())))
    elif way in OURS:
        audit(way, folder)
    else:
        {"cleanvision": cleanvision, "imagededup": imagededup}[way](folder)


def part(way: str, paths: Sequence[Path]) -> float:
    """Seconds of one pass, the least of five: what else runs here can only add to them."""
    stages: tuple[Stage, ...] = tuple(stage for stage in (Technical(), Signature(), Preview())
                                      if type(stage).__name__ in way.split(", "))  # fmt: skip
    media = [] if way == "decoding" else [read(path) for path in paths]

    def work() -> None:
        if way == "decoding":
            for path in paths:
                read(path)
        for each in media:
            for stage in stages:
                stage(each)

    return min(timed(work) for _ in range(5))


def timed(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def audit(way: str, folder: Path) -> None:
    """A catalogue of the folder, made by two workers."""
    plan = recipe()
    if way == "audit":
        plan = Curation(stages=(Technical(), Signature()), rules=plan.rules)
        assert any(isinstance(rule, NearDuplicates) for rule in plan.rules)
    with tempfile.TemporaryDirectory() as out:
        summary = curate([folder], out, plan, workers=2)
    assert summary.new == len(list(folder.iterdir()))


def cleanvision(folder: Path) -> None:
    """All issues that it looks for by default, near-duplicates among them."""
    from cleanvision import Imagelab

    Imagelab(data_path=str(folder), verbose=False).find_issues(n_jobs=1, verbose=False)


def imagededup(folder: Path) -> None:
    """Duplicates alone, by its perceptual hash; pictures that resemble each other within 10 bits, as by default."""
    from imagededup.methods import PHash

    PHash(verbose=False).find_duplicates(image_dir=str(folder), max_distance_threshold=10, num_enc_workers=0,
                                         num_dist_workers=0)  # fmt: skip


if __name__ == "__main__":
    main()

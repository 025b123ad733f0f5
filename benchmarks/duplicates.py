"""Near-duplicates: which planted copies are found, what is merged wrongly, and what it costs, beside other tools.

Install:   python -m pip install -e . cleanvision==0.3.7 imagededup==0.3.3.post2      (either may be missing)
Command:   python -m benchmarks.duplicates --photos PATH      (folders bsds, kodak, clothing_originals, mdn, misc)
Hardware:  one CPU core, 8 GB, 6 minutes; CPU-seconds are this process's own, so that other work matters little.

Sets: made up leaves, a copy each, among skies that resemble one another; skies with a copy each; and photographs, each
with a copy of every kind in turn, one kind a round. Recall is the share of copies grouped with their original;
precision the share of reported pairs that are true. Boxes and thresholds were chosen on other seeds, on every other
photograph of bsds, which are left out here, and on pictures of clothes that are no copies. Then the joins of random
hashes and of clustered vectors. The last line is JSON.
"""

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.planted.copies import KINDS, File, decode, plant
from benchmarks.planted.originals import real, synthetic
from diorama.data.duplicates import hamming, near_duplicates, vectors
from diorama.data.stages.hashes import hash_thumbnails, thumbnail

SEED = 1  # of the held-out sets; 0 was chosen on
LEAVES, HARD, SKIES = 1100, 200, 110
Pairs = set[tuple[int, int]]


@dataclass
class Found:
    """Copies planted and found, by kind; pairs reported wrongly; files; CPU-seconds of hashing and of the rest."""

    planted: Counter[str]
    found: Counter[str]
    wrong: list[str]
    files: int = 0
    hashing: float = 0.0
    joining: float = 0.0

    @property
    def recall(self) -> float:
        return self.found.total() / self.planted.total()

    @property
    def precision(self) -> float:
        return self.found.total() / max(self.found.total() + len(self.wrong), 1)

    def __add__(self, other: "Found") -> "Found":
        return Found(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def summary(self) -> dict[str, object]:
        """Everything that is worth a line of JSON."""
        kinds = {kind: round(self.found[kind] / self.planted[kind], 3) for kind in KINDS if self.planted[kind]}
        rates = {"recall": round(self.recall, 4), "precision": round(self.precision, 4), "wrong": len(self.wrong)}
        return rates | {"files": self.files, "hashing": self.hashing, "joining": self.joining, "kinds": kinds}


def cpu() -> float:
    """CPU-seconds of this process and of those that it has waited for, in steps of 10 ms."""
    return sum(os.times()[:4])


def ours(files: Sequence[bytes]) -> tuple[Pairs, float, float]:
    """Pairs that Diorama finds, and CPU-seconds of hashing decoded pictures and of finding."""
    hashing, small = 0.0, []
    for data in files:
        picture = decode(data)
        start = time.process_time()
        small.append(thumbnail(picture))
        hashing += time.process_time() - start
    start = time.process_time()
    thumbnails = np.stack(small)
    hashes = hash_thumbnails(thumbnails)
    hashing += time.process_time() - start
    start = time.process_time()
    ids = [f"{k:06d}" for k in range(len(files))]
    found = near_duplicates(ids, list(hashes[:, None]), list(thumbnails[:, None]), np.zeros((len(ids), 1)))
    assert not found.skipped
    return {(int(x.representative), int(x.id)) for x in found.duplicates}, hashing, time.process_time() - start


def cleanvision(files: Sequence[bytes]) -> tuple[Pairs, float, float]:
    """Exact and near duplicates of cleanvision, with its defaults; all its time counts as hashing."""
    from cleanvision import Imagelab

    with tempfile.TemporaryDirectory() as folder:
        names = _write(files, Path(folder))
        start = cpu()
        lab = Imagelab(data_path=folder, verbose=False)
        lab.find_issues({"near_duplicates": {}, "exact_duplicates": {}}, n_jobs=1, verbose=False)
        spent = cpu() - start
        groups = [group for kind in ("exact_duplicates", "near_duplicates") for group in lab.info[kind]["sets"]]
    numbers = [sorted(names[Path(path).name] for path in group) for group in groups]
    return {(i, j) for group in numbers for i in group for j in group if i < j}, spent, 0.0


def imagededup(files: Sequence[bytes]) -> tuple[Pairs, float, float]:
    """Pairs of imagededup's perceptual hash within 10 bits, its default; all its time counts as hashing."""
    from imagededup.methods import PHash

    with tempfile.TemporaryDirectory() as folder:
        names = _write(files, Path(folder))
        start = cpu()
        found = PHash(verbose=False).find_duplicates(
            image_dir=folder, max_distance_threshold=10, num_enc_workers=0, num_dist_workers=0
        )
        spent = cpu() - start
    pairs = {(names[name], names[other]) for name, others in found.items() for other in others}
    return {(i, j) for i, j in pairs if i < j}, spent, 0.0


def _write(files: Sequence[bytes], folder: Path) -> dict[str, int]:
    for k, data in enumerate(files):
        (folder / f"{k:06d}.jpg").write_bytes(data)
    return {f"{k:06d}.jpg": k for k in range(len(files))}


def judge(tool: Callable[..., tuple[Pairs, float, float]], files: Sequence[File], names: Sequence[str]) -> Found:
    """What a tool finds among planted files."""
    copies = {(f.original, k): f.kind for k, f in enumerate(files) if f.kind in KINDS}
    pairs, hashing, joining = tool([f.data for f in files])
    wrong = [f"{names[files[i].original]} ~ {names[files[j].original]}" for i, j in sorted(pairs - set(copies))]
    found = Counter(copies[pair] for pair in pairs & set(copies))
    return Found(Counter(copies.values()), found, wrong, len(files), hashing, joining)


def leaves() -> list[File]:
    """Leaves, a copy each, and skies without."""
    rng = np.random.default_rng(SEED)
    files = plant([synthetic(np.random.default_rng([SEED, k])) for k in range(LEAVES)], rng)
    skies = (synthetic(np.random.default_rng([SEED, LEAVES + k]), smooth=True) for k in range(HARD))
    return files + [File(plant([sky], rng)[0].data, "original", LEAVES + k) for k, sky in enumerate(skies)]


def skies() -> list[File]:
    """Skies, a copy each."""
    rng = np.random.default_rng(SEED)
    return plant([synthetic(np.random.default_rng([SEED, 10**6 + k]), smooth=True) for k in range(SKIES)], rng)


def photographs(root: Path) -> list[tuple[str, np.ndarray]]:
    """The photographs that nothing was chosen on."""
    all_of_them = list(real(root))
    bsds = [name for name, _ in all_of_them if name.startswith("bsds")]
    return [(name, picture) for name, picture in all_of_them if name not in bsds[::2]]


def joins() -> Iterator[tuple[str, float]]:
    """CPU-seconds of `hamming.join` of random hashes, a fiftieth with a neighbour; and of `vectors.join`."""
    rng = np.random.default_rng(SEED)
    for n, distance in [(10**3, 8), (10**4, 8), (10**5, 8), (10**6, 8), (10**3, 10), (10**4, 10), (10**5, 10)]:
        hashes = rng.integers(0, 2**64, n, dtype=np.uint64)
        near = np.arange(n // 50)
        flips = np.stack([rng.permutation(64)[:distance] for _ in near]).astype(np.uint64)
        flips = np.where(np.arange(distance) < (near % (distance + 1))[:, None], np.uint64(1) << flips, np.uint64(0))
        hashes[n // 2 + near] = hashes[near] ^ np.bitwise_or.reduce(flips, axis=1)
        start = time.process_time()
        pairs, skipped = hamming.join(hashes, distance=distance)
        yield f"hashes {n:.0e} d<={distance}", time.process_time() - start
        planted = {(int(k), int(k) + n // 2) for k in near}
        assert not skipped
        assert planted <= {(int(i), int(j)) for i, j in pairs}
    n, d = 100_000, 512
    x = rng.standard_normal((2000, d), np.float32)[rng.integers(0, 2000, n)] + rng.standard_normal((n, d), np.float32)
    near = rng.choice(n // 2, 3000, replace=False)
    x[n // 2 + near] = x[near] + 0.4 * rng.standard_normal((3000, d), np.float32)  # cosine near .96
    cosines = (x[near] * x[n // 2 + near]).sum(1) / np.linalg.norm(x[near], axis=1)
    cosines /= np.linalg.norm(x[n // 2 + near], axis=1)
    planted = {(int(k), int(k) + n // 2) for k in near[cosines > 0.9501]}
    start = time.process_time()
    pairs, _ = vectors.join(x, 0.95)
    yield "vectors 1e+05 x 512", time.process_time() - start
    yield "vectors recall", len(planted & {(int(i), int(j)) for i, j in pairs}) / len(planted)


def show(name: str, found: Found) -> None:
    """One line of the table, and what was merged wrongly."""
    kinds = " ".join(f"{found.found[kind] / max(found.planted[kind], 1):15.3f}" for kind in KINDS)
    speed = found.files / max(found.hashing, 1e-9)
    print(
        f"{name:24s} {found.recall:6.3f} {found.precision:9.4f} {speed:10.0f} {found.joining:8.2f} {kinds}", flush=True
    )
    for pair, times in Counter(found.wrong).most_common(8):
        print(f"    merged: {pair} ({times} times)")


def main() -> None:
    """Print the table, and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder with photographs")
    photos = parser.parse_args().photos
    cv2.setNumThreads(1)
    head = f"{'recall':>6} {'precision':>9} {'hashed/s':>10} {'join s':>8}"
    print(f"{'':24s} {head} " + " ".join(f"{kind:>15}" for kind in KINDS))
    results: dict[str, object] = {}

    def report(name: str, found: Found) -> None:
        results[name] = found.summary()
        show(name, found)

    made = leaves()
    names = [f"leaves {k}" for k in range(LEAVES)] + [f"sky {k}" for k in range(HARD)]
    report("leaves", judge(ours, made, names))
    for tool in (cleanvision, imagededup):
        try:
            report(f"leaves, {tool.__name__}", judge(tool, made, names))
        except ImportError as error:
            print(f"{tool.__name__}: left out, {error}")
    report("skies", judge(ours, skies(), [f"sky {k}" for k in range(SKIES)]))
    if photos:
        names, pictures = zip(*photographs(photos), strict=True)
        rounds = [judge(ours, plant(pictures, np.random.default_rng([SEED, k]), k), names) for k in range(len(KINDS))]
        report("photographs", sum(rounds[1:], rounds[0]))
        benchmark = [x for x in real(photos) if x[0].startswith(("bsds", "kodak"))]
        files = plant([x for _, x in benchmark], np.random.default_rng(SEED))[: len(benchmark)]
        results["wrong among bsds and kodak"] = judge(ours, files, [name for name, _ in benchmark]).wrong
        print(f"wrong among {len(files)} originals of bsds and kodak: {results['wrong among bsds and kodak']}")
    for name, value in joins():
        results[name] = value
        print(f"{name:24s} {value:8.3f}", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()

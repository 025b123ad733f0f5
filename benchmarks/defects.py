"""Defects planted in pictures and clips: how many the stage `Technical` finds, beside cleanvision, and how fast.

Install:   python -m pip install -e . cleanvision     (without cleanvision its columns stay empty)
Command:   taskset -c 0 python -m benchmarks.defects --photos PHOTOS
Hardware:  one CPU core, 10 minutes.

The first set is made up, from seeds on which no threshold was chosen; the second is of the photographs under PHOTOS,
less every other one of bsds, on which thresholds were chosen. From each picture come itself, six hard negatives, and
one copy for each defect; the made up set also has as many smooth skies. Precision is among all of these. Where one
defect implies another (a flat dark picture is dark) the pair counts neither for nor against. The last line is JSON.

Watermarks that many share are looked for in collections of one frame size, by the stage `Watermarks`: in each, two
sources mark a tenth of the stills each, or one two fifths of the clips, with one mark a source. In one more collection
of stills a fifth carry a mark each of their own; one without marks counts among those of shared ones.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pyarrow as pa

from benchmarks.planted.defects import (
    CLIPS,
    DEFECTS,
    HARD,
    PICTURES,
    branded,
    clip,
    corrupt,
    defects,
    encoded,
    on_twos,
    overlaid,
    stored,
)
from benchmarks.planted.originals import real, synthetic
from diorama.core.config import flatten
from diorama.data.stages import Preview
from diorama.data.stages.technical import technical
from diorama.data.watermarks import CARRIED, Watermarks
from diorama.media import BadMedia, Media, read

SEED = 100_000
THEIRS = {"blurred": "blurry", "dark": "dark", "overexposed": "light", "flat": "low_information", "grey": "grayscale"}
IMPLIED = {
    "dark": {"flat"},
    "overexposed": {"flat"},
    "flat": {"dark", "overexposed"},
    "grey": {"flat"},
    "frozen": {"static"},
}
RATE = 25.0
SIDE = 256  # of the squares that collections are made of
COLLECTIONS = 4  # of stills, and as many of clips


class Planted(NamedTuple):
    kind: str  # of the defect, or of the negative
    frames: np.ndarray  # (t, h, w, 3)


class Score(NamedTuple):
    recall: float
    precision: float
    n: int
    false: dict[str, int]  # false alarms by kind


def pictures(originals: Iterable[np.ndarray], rng: np.random.Generator) -> Iterator[Planted]:
    """From every original: itself, its hard negatives, and one copy for each defect."""
    for i, original in enumerate(originals):
        yield Planted("clean", stored(rng, original)[None])
        for kind, make in HARD.items():
            yield Planted(kind, stored(rng, make(rng, original))[None])
        for kind, makers in PICTURES.items():
            damaged = makers[i % len(makers)](rng, original)
            yield Planted(kind, (damaged if kind == "blocky" else stored(rng, damaged))[None])


def clips(originals: Iterable[np.ndarray], rng: np.random.Generator) -> Iterator[Planted]:
    """From every original: a clip, the same at a raised frame rate, and one copy for each defect."""
    for original in originals:
        frames = clip(rng, original)
        yield Planted("clean", encoded(rng, frames))
        yield Planted("on twos", encoded(rng, on_twos(rng, frames)))
        for kind, make in CLIPS.items():
            yield Planted(kind, encoded(rng, make(rng, frames)))


def ours(planted: list[Planted], rate: float | None = None) -> list[set[str]]:
    """The defects that Diorama finds in each."""
    return [set(defects(technical(Media(each.frames, rate)))) for each in planted]


def theirs(planted: list[Planted]) -> list[set[str]] | None:
    """The defects that cleanvision finds in each, with its own thresholds; None where it is not installed."""
    try:
        from cleanvision import Imagelab
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{i:06d}.png") for i in range(len(planted))]
        for path, each in zip(paths, planted, strict=True):
            cv2.imwrite(path, each.frames[0, ..., ::-1])
        lab = Imagelab(filepaths=paths, verbose=False)
        lab.find_issues({name: {} for name in THEIRS.values()}, n_jobs=1, verbose=False)
        columns = {kind: lab.issues[f"is_{name}_issue"] for kind, name in THEIRS.items()}
        return [{kind for kind, column in columns.items() if column[path]} for path in paths]


def scores(planted: list[Planted], found: list[set[str]], kinds: Iterable[str]) -> dict[str, Score]:
    result = {}
    for kind in kinds:
        hits = [kind in names for each, names in zip(planted, found, strict=True) if each.kind == kind]
        wrong = [each.kind for each, names in zip(planted, found, strict=True) if kind in names and each.kind != kind]
        wrong = [other for other in wrong if other not in IMPLIED.get(kind, ())]
        precision = sum(hits) / max(sum(hits) + len(wrong), 1)
        result[kind] = Score(
            float(np.mean(hits)), precision, len(hits), {k: wrong.count(k) for k in dict.fromkeys(wrong)}
        )
    return result


def table(title: str, mine: dict[str, Score], peer: dict[str, Score]) -> None:
    print(
        f"\n{title:34}  {'diorama':>17}  {'cleanvision':>17}\n{'':34}{'recall precision':>19}{'recall precision':>19}"
    )
    for kind, score in mine.items():
        other = f"{peer[kind].recall:8.3f} {peer[kind].precision:10.3f}" if kind in peer else f"{'-':>8} {'-':>10}"
        false = ", ".join(f"{k} {n}" for k, n in score.false.items())
        print(f"  {kind:24}{score.n:8}{score.recall:8.3f} {score.precision:10.3f}{other}   {false}")


def corruption(originals: Iterable[np.ndarray], rng: np.random.Generator) -> Score:
    """What strict decoding refuses, of corrupt files and of as many whole ones."""
    refused: dict[str, list[bool]] = {"corrupt": [], "clean": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.jpg"
        for original in originals:
            whole = cv2.imencode(".jpg", original[..., ::-1])[1].tobytes()
            for kind, data in (("corrupt", corrupt(rng, original)), ("clean", whole)):
                path.write_bytes(data)
                refused[kind].append(_refused(path))
    hits, wrong = sum(refused["corrupt"]), sum(refused["clean"])
    false = {"clean": wrong} if wrong else {}
    return Score(hits / len(refused["corrupt"]), hits / max(hits + wrong, 1), len(refused["corrupt"]), false)


def _refused(path: Path) -> bool:
    try:
        read(path)
    except BadMedia:
        return True
    return False


def watermarks(originals: list[np.ndarray], n_clips: int, rng: np.random.Generator) -> dict[str, Score]:
    """What `Watermarks` finds in collections of the originals' middle squares, and of `n_clips` clips of them."""
    squares = [_square(original) for original in originals]
    moving = [clip(rng, original) for original in originals[:n_clips]]
    results: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {
        "shared by stills": [],
        "shared by clips": [],
        "one's own": [],
    }
    for _ in range(COLLECTIONS):
        marked, carried = branded(rng, squares, 2, 0.1)
        results["shared by stills"].append((_marked([stored(rng, each)[None] for each in marked]), carried >= 0))
        marked, carried = branded(rng, moving, 1, 0.4)
        results["shared by clips"].append((_marked([encoded(rng, each) for each in marked]), carried >= 0))
    own = rng.random(len(squares)) < 0.2
    marked = [overlaid(rng, each) if mine else each for each, mine in zip(squares, own, strict=True)]
    results["one's own"].append((_marked([stored(rng, each)[None] for each in marked]), own))
    none = np.zeros(len(squares), bool)
    results["shared by stills"].append((_marked([stored(rng, each)[None] for each in squares]), none))
    scored = {}
    for kind, parts in results.items():
        found, truth = (np.concatenate(part) for part in zip(*parts, strict=True))
        hits, wrong = int((found & truth).sum()), int((found & ~truth).sum())
        false = {"clean": wrong} if wrong else {}
        scored[kind] = Score(hits / max(truth.sum(), 1), hits / max(hits + wrong, 1), int(truth.sum()), false)
    return scored


def _marked(collection: list[np.ndarray]) -> np.ndarray:
    """Which clips (t, h, w, 3) of a collection carry a mark, (n,) bool."""
    images = [Preview()(Media(frames))["images"] for frames in collection]
    table = pa.table({"preview.images": pa.array(images, pa.list_(pa.binary()))})
    with tempfile.TemporaryDirectory() as folder:
        scores = Watermarks().prepare(Path(folder), lambda n: table.slice(0, n))(table)["score"]
    return np.array([score is not None and score > CARRIED for score in scores])


def _square(picture: np.ndarray) -> np.ndarray:
    h, w = picture.shape[:2]
    side = min(h, w)
    y, x = (h - side) // 2, (w - side) // 2
    return cv2.resize(picture[y : y + side, x : x + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def speed(originals: list[np.ndarray]) -> dict[str, float]:
    """Pictures of 256 x 256 per CPU-second, decoding and measuring apart; and frames of a clip of 256 x 144."""
    rng = np.random.default_rng(SEED)
    squares = [np.ascontiguousarray(original[:256, :256]) for original in originals]
    files = [cv2.imencode(".jpg", square[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1] for square in squares]
    moving = [encoded(rng, clip(rng, original)) for original in originals[:4]]
    result = {}
    for name, n, work in (
        ("decoded pictures", len(files), lambda: [cv2.imdecode(file, cv2.IMREAD_COLOR) for file in files]),
        ("measured pictures", len(squares), lambda: [technical(Media(square[None])) for square in squares]),
        ("measured frames", sum(map(len, moving)), lambda: [technical(Media(frames, RATE)) for frames in moving]),
    ):
        times = []
        for _ in range(5):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        result[name] = n / min(times)
        print(f"  {name:24}{result[name]:8.0f} per CPU-second")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of photographs: bsds, kodak, ... inside it")
    parser.add_argument("--n", type=int, default=100, help="originals of the made up set; a quarter of them as clips")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    made = [synthetic(np.random.default_rng(SEED + i)) for i in range(args.n)]
    skies = [synthetic(np.random.default_rng(SEED + i), smooth=True) for i in range(args.n)]
    sets = {"made up": (made, skies)}
    if args.photos:
        photos = list(real(args.photos))
        chosen_on = [name for name, _ in photos if name.startswith("bsds")][::2]
        sets["photographs"] = ([picture for name, picture in photos if name not in chosen_on], [])
    rng = np.random.default_rng(SEED)
    report: dict[str, dict[str, Score]] = {}
    for title, (originals, smooth) in sets.items():
        planted = [*pictures(originals, rng), *(Planted("sky", stored(rng, sky)[None]) for sky in smooth)]
        mine = scores(planted, ours(planted), PICTURES)
        found = theirs(planted)
        peer = scores(planted, found, THEIRS) if found else {}
        mine["corrupt"] = corruption(originals[:50], rng)
        table(f"{title}: {len(planted)} pictures", mine, peer)
        moving = list(clips(originals[: args.n // 4], rng))
        mine_moving = scores(moving, ours(moving, RATE), CLIPS)
        table(f"{title}: {len(moving)} clips", mine_moving, {})
        shared = watermarks(originals, args.n // 4, np.random.default_rng(SEED))
        table(f"{title}: watermarks, {len(originals)} a collection", shared, {})
        report |= {title: mine, f"{title}, clips": mine_moving, f"{title}, watermarks": shared}
        if peer:
            report[f"{title}, cleanvision {version('cleanvision')}"] = peer
        elif not found:
            print("cleanvision is not installed")
    print("\nspeed")
    rates = speed(made)
    rows = {title: {kind: score._asdict() for kind, score in part.items()} for title, part in report.items()}
    print(
        json.dumps(
            {"scores": rows, "speed": rates, "thresholds": {name: flatten(rule) for name, rule in DEFECTS.items()}}
        )
    )


if __name__ == "__main__":
    main()

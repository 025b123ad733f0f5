"""Shots: the transitions that `diorama.data.stages.shots` finds, beside every detector of PySceneDetect.

Install:   python -m pip install -e . scenedetect-headless==0.7.2
Command:   taskset -c 0 python -m benchmarks.shots --photos PHOTOS --cut-truth CUT_TRUTH
Hardware:  one CPU core, 5 minutes.

Three sets: planted videos over made up pictures and over photographs (benchmarks/planted), and joined real videos with
a `cuts.json` of their truth. Parameters were chosen on planted videos of seeds below 100 over every other photograph;
the other seeds and photographs are for this. A transition counts as found when something lies at most 2 frames from a
cut, or 5 from the span of a dissolve or fade; each finding serves one transition, and those left over are false.
PySceneDetect runs with its defaults and names no kinds, so a kind has recall only. Speed is of frames of 256 x 144 in
memory, per second of the process's own CPU time, decoding aside. The last line is JSON.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from benchmarks.planted.originals import real, synthetic
from benchmarks.planted.shots import video
from diorama.data.stages.shots import Transition, transitions
from diorama.media import read

NEAR = {"cut": 2, "dissolve": 5, "fade": 5}  # frames
KINDS = ("cut", "dissolve", "fade")
OURS = "diorama"

Detector = Callable[[np.ndarray, float], list[Transition]]


@dataclass(frozen=True)
class Case:
    """A video with its truth; `ignored` are spans of frames in which nothing counts."""

    frames: np.ndarray
    rate: float
    truth: Sequence[Transition]
    ignored: Sequence[tuple[int, int]] = ()

    def counted(self, found: Sequence[Transition]) -> list[Transition]:
        """What lies within the video, and in no ignored span."""
        inner = [one for one in found if one.start > 0 and one.end < len(self.frames)]
        return [one for one in inner if not any(a <= one.start and one.end <= b for a, b in self.ignored)]


@dataclass
class Marks:
    """Counts over the videos of a set: by kind what is true, what of it was found, and what is false."""

    true: Counter = field(default_factory=Counter)
    hits: Counter = field(default_factory=Counter)
    false: Counter = field(default_factory=Counter)
    frames: int = 0
    seconds: float = 0.0

    def add(self, case: Case, detect: Detector) -> None:
        """Run a detector on a video."""
        begun = time.process_time()
        found = detect(case.frames, case.rate)
        self.seconds += time.process_time() - begun
        self.frames += len(case.frames)
        truth = case.counted(case.truth)
        hits, left = match(truth, case.counted(found))
        self.true.update(one.kind for one in truth)
        self.hits.update(one.kind for one in hits)
        self.false.update(one.kind for one in left)

    def row(self, named: bool) -> dict[str, float]:
        """Precision, recall and F1 of all and by kind; of kinds that the detector has not `named`, recall only."""
        row = {}
        for kind in ("all", *KINDS):
            kinds = [*KINDS, "any"] if kind == "all" else [kind]
            true, hits, false = (sum(count[k] for k in kinds) for count in (self.true, self.hits, self.false))
            row[f"{kind} recall"] = hits / true if true else float("nan")
            if kind == "all" or named:
                row[f"{kind} precision"] = hits / (hits + false) if hits + false else float("nan")
                row[f"{kind} F1"] = 2 * hits / (true + hits + false) if true else float("nan")
        return row | {"frames/CPU-s": self.frames / self.seconds}


def match(truth: Sequence[Transition], found: Sequence[Transition]) -> tuple[list[Transition], list[Transition]]:
    """The true transitions that were found, and the findings that serve none of them."""
    left, hits = list(found), []
    for one in truth:
        near = NEAR[one.kind]
        close = [other for other in left if other.start <= one.end + near and other.end >= one.start - near]
        if close:
            off = {id(other): abs(other.start + other.end - one.start - one.end) for other in close}
            left.remove(min(close, key=lambda other: (other.kind != one.kind, off[id(other)])))
            hits.append(one)
    return hits, left


def planted(pictures: Sequence[np.ndarray] | None, seed: int, videos: int) -> Iterator[Case]:
    """Planted videos over `pictures`, or over made up ones."""
    for i in range(seed, seed + videos):
        rng = np.random.default_rng([i, 0 if pictures is None else 1])
        made = pictures or [synthetic(rng, smooth=rng.random() < 0.15, size=512) for _ in range(12)]
        one = video(rng, made)
        yield Case(one.frames, one.rate, one.truth)


def joined(folder: Path) -> Iterator[Case]:
    """The videos that `folder`/cuts.json describes."""
    for entry in json.loads((folder / "cuts.json").read_text()):
        media = read(folder / entry["file"], short_side=144)
        gradual = [
            Transition("fade" if "fade" in one["type"] else "dissolve", one["start"], one["end"], 1.0)
            for one in entry["gradual"]
        ]
        cuts = [Transition("cut", k, k, 1.0) for k in entry["hard_cuts"]]
        ignored = [(int(a), int(b)) for a, b in entry.get("ignore_windows", [])]
        truth = sorted([*cuts, *gradual], key=lambda one: one.start)
        yield Case(media.frames, float(entry["fps"]), truth, ignored)


def peers() -> dict[str, Detector]:
    """PySceneDetect's detectors, and those joined with the one for fades; none if it is not installed."""
    try:
        import scenedetect as sd
    except ImportError:
        return {}

    def run(*classes: type) -> Detector:
        def detect(frames: np.ndarray, rate: float) -> list[Transition]:
            detectors = [each() for each in classes]
            found: set[int] = set()
            for k, frame in enumerate(frames):
                now, bgr = sd.FrameTimecode(k, rate), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
                for one in detectors:
                    found.update(cut.frame_num for cut in one.process_frame(now, bgr))
            for one in detectors:
                found.update(cut.frame_num for cut in one.post_process(sd.FrameTimecode(len(frames), rate)))
            return [Transition("any", k, k, 1.0) for k in sorted(found)]

        return detect

    alone = [sd.ContentDetector, sd.AdaptiveDetector, sd.HistogramDetector, sd.HashDetector]
    named = {each.__name__.removesuffix("Detector"): run(each) for each in [*alone, sd.ThresholdDetector]}
    return named | {f"{e.__name__.removesuffix('Detector')}+Threshold": run(e, sd.ThresholdDetector) for e in alone}


def table(name: str, cases: Iterator[Case], detectors: dict[str, Detector]) -> dict[str, dict[str, float]]:
    """Run all detectors on all videos of a set, and print a line for each."""
    marks = {each: Marks() for each in detectors}
    for case in cases:
        for each, detect in detectors.items():
            marks[each].add(case, detect)
    true = marks[OURS].true
    print(f"\n{name}: {marks[OURS].frames} frames; {', '.join(f'{true[k]} {k}s' for k in KINDS)}")
    heads = ("all R", "P", "F1", "cut R", "F1", "diss R", "F1", "fade R", "F1", "fr/s")
    print(" " * 20 + "".join(f"{head:>7}" for head in heads))
    rows = {each: mark.row(each == OURS) for each, mark in marks.items()}
    for each, row in rows.items():
        columns = ["all recall", "all precision", "all F1"] + [
            f"{k} {what}" for k in KINDS for what in ("recall", "F1")
        ]
        cells = "".join(f"{row[c]:7.3f}" if c in row else "      -" for c in columns)
        print(f"{each:20}{cells}{row['frames/CPU-s']:7.0f}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of photographs, as benchmarks.planted.originals.real")
    parser.add_argument("--cut-truth", type=Path, help="folder with videos and their cuts.json")
    parser.add_argument("--videos", type=int, default=12, help="how many of either planted set")
    parser.add_argument("--seed", type=int, default=100, help="of the first planted video")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    detectors: dict[str, Detector] = {OURS: transitions} | peers()
    if len(detectors) == 1:
        print("PySceneDetect is not installed: ours alone")
    sets = {"planted, made up pictures": planted(None, args.seed, args.videos)}
    if args.photos:
        photos = [picture for _, picture in real(args.photos)][1::2]
        sets["planted, photographs"] = planted(photos, args.seed, args.videos)
    else:
        print("without --photos, no videos over photographs")
    if args.cut_truth:
        sets["cut_truth"] = joined(args.cut_truth)
    else:
        print("without --cut-truth, no real videos")
    print(json.dumps({name: table(name, cases, detectors) for name, cases in sets.items()}))


if __name__ == "__main__":
    main()

"""Motion: what the stage `Motion` says of planted videos whose camera motion is exactly known, and of real ones.

Install:   python -m pip install -e .
Command:   taskset -c 0 python -m benchmarks.motion --photos PHOTOS --real DATA
Hardware:  one CPU core, 15 minutes.

Two sets, over made up pictures and over photographs (benchmarks/planted/cameras.py): videos of each class of camera
motion, speeds log-uniform over a factor of 20 and more, plain or with one extra (a thing that passes, noise, flicker, a
caption, bars), and static cameras before what tempts one to see a motion; all through H.264. Thresholds were chosen on
seeds below 100 and the photographs of even place; the other seeds and photographs are for this. Errors are medians over
videos of a class: relative, of its own parameter; of sway, of its amplitude. Real videos (DATA holds video/weizmann64,
video/cc_small, multiview/re10k_clips): share called static where cameras are known to stand still, and for clips with
known poses the mean turn of the camera beside what is measured. CPU time is that of the process, frames in memory.
The last line is JSON.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.planted.cameras import KINDS, NEGATIVES, Planted, coded, video, view
from benchmarks.planted.originals import real, synthetic
from diorama.data.stages.camera import CLASSES
from diorama.data.stages.motion import motion
from diorama.media import Media, read

EXTRAS = ("", "", "thing", "noise", "flicker", "caption", "bars")


def planted(pictures: Sequence[np.ndarray] | None, seed: int, rounds: int) -> Iterator[Planted]:
    """A video of each kind and each hard negative a round, over `pictures` or over made up ones."""
    for i in range(seed, seed + rounds):
        rng = np.random.default_rng([i, 0 if pictures is None else 1])
        scenes = pictures or [synthetic(rng, size=512) for _ in range(2)]
        for k, kind in enumerate(KINDS):
            yield video(rng, scenes, kind, EXTRAS[(i + k) % len(EXTRAS)])
        for extra in NEGATIVES:
            yield video(rng, [synthetic(rng, smooth=True, size=512)] if extra == "sky" else scenes, "static", extra)


@dataclass
class Marks:
    """What was called what: by kind, and right ones by kind and by extra; and errors of what was measured."""

    called: Counter = field(default_factory=Counter)
    right: Counter = field(default_factory=Counter)
    total: Counter = field(default_factory=Counter)
    errors: dict[str, list[float]] = field(default_factory=dict)

    def add(self, case: Planted, row: dict[str, Any]) -> None:
        found = str(row["camera"])
        self.called[case.kind, found] += 1
        for group in ("all", case.kind, f"with {case.extra or 'nothing else'}"):
            self.total[group] += 1
            self.right[group] += found == case.kind
        if found == "None":
            return
        for name, truth in zip(CLASSES, case.rates, strict=True):
            if case.kind == name:
                self._note(f"{name}, relative", abs(row[name] / truth - 1))
        if case.kind == "shake":
            self._note("shake, relative", abs(row["shake"] / case.shake - 1))
        if case.kind == "static":
            self._note("static: largest of pan and tilt, shares a second", max(abs(row["pan"]), abs(row["tilt"])))
            self._note("static: zoom, log scale a second", abs(row["zoom"]))
            self._note("static: roll, degrees a second", abs(row["roll"]))
            self._note("static: shake, diagonals", row["shake"])
        if case.thing:
            self._note("moving, share of the frame off its cover", abs(row["moving"] - case.thing))
        elif case.extra != "water":
            self._note("moving, share of the frame where nothing does", row["moving"])

    def _note(self, name: str, value: float) -> None:
        self.errors.setdefault(name, []).append(value)

    def report(self, title: str) -> dict[str, Any]:
        """Print all, and give it as JSON takes it."""
        print(f"\n{title}: {self.total['all']} videos, accuracy {self.right['all'] / self.total['all']:.3f}")
        names = [*KINDS, *(["None"] if any(found == "None" for _, found in self.called) else [])]
        print(" " * 12 + "".join(f"{name:>9}" for name in names))
        for kind in KINDS:
            print(f"  {kind:10}" + "".join(f"{self.called[kind, name]:9}" for name in names))
        for group, n in self.total.items():
            if group.startswith("with "):
                print(f"  {group:28}{self.right[group] / n:6.3f}  n {n}")
        moved = 1 - self.right["static"] / self.total["static"]
        print(f"  static cameras said to move {moved:.3f}  n {self.total['static']}")
        summary = {}
        for name, values in self.errors.items():
            median, high = np.quantile(values, [0.5, 0.9]).tolist()
            summary[name] = {"median": median, "p90": high, "n": len(values)}
            print(f"  {name:52} median {median:.4f}  90th percentile {high:.4f}  n {len(values)}")
        return {
            "accuracy": {group: self.right[group] / n for group, n in self.total.items()},
            "n": dict(self.total),
            "confusion": {kind: {name: self.called[kind, name] for name in names} for kind in KINDS},
            "false motion": moved,
            "errors": summary,
        }


def speed() -> float:
    """CPU seconds a second of video of 256 x 144 at 25 frames a second: the least of five times."""
    rng = np.random.default_rng(0)
    step = np.tile([0.05 / 25, 0, 0, 0], (250, 1))
    frames = coded(rng, view(rng, synthetic(rng, size=512), step, np.zeros_like(step), (144, 256)), 25.0)
    times = []
    for _ in range(5):
        begun = time.process_time()
        motion(frames, 25.0)
        times.append(time.process_time() - begun)
    print(f"\nspeed: {1000 * min(times) / 10:.1f} ms of CPU a second of video")
    return min(times) / 10


def strips(folder: Path) -> Iterator[tuple[str, Media]]:
    """Videos that lie as square frames side by side in one picture."""
    for path in sorted(folder.glob("*.jpg")):
        strip = cv2.imread(str(path))[..., ::-1]
        side = strip.shape[0]
        yield path.name, Media(np.stack(np.split(strip, strip.shape[1] // side, axis=1)), 25.0)


def poses(path: Path) -> tuple[np.ndarray, float, float]:
    """Of a clip with poses: its turns to the right, up and counter-clockwise in degrees, seconds, and the tangent of
    half the field of view across. World to camera, OpenCV's axes (x right, y down, looking along z)."""
    rows = [line.split() for line in path.read_text().splitlines()]
    lines = np.array([[float(x) for x in row] for row in rows if len(row) == 19])
    matrices = lines[:, 7:].reshape(-1, 3, 4)[:, :, :3]
    turn = np.zeros(3)
    for one, other in pairwise(matrices):
        turn += cv2.Rodrigues(one @ other.T)[0].ravel()  # of the camera, by its own axes: x right, y down, z ahead
    seconds = (lines[-1, 0] - lines[0, 0]) / 1e6
    return np.degrees([turn[1], turn[0], -turn[2]]), seconds, 0.5 / lines[0, 1]


def real_videos(root: Path) -> dict[str, Any]:
    """What is said of real videos, printed."""
    result: dict[str, Any] = {}
    sets = {
        "weizmann64 (tripod, people move)": strips(root / "video" / "weizmann64"),
        "cc_small (most on tripods)": ((p.name, read(p)) for p in sorted((root / "video" / "cc_small").glob("*.mp4"))),
        "panda70m (anything)": (
            (p.name, read(p)) for p in sorted((root / "video" / "panda70m").glob("*.mp4"))[::3]
        ),
    }  # fmt: skip
    for title, videos in sets.items():
        rows = {name: motion(media.frames, media.rate or 25.0) for name, media in videos}
        counts = Counter(str(row["camera"]) for row in rows.values())
        print(f"\n{title}: " + ", ".join(f"{kind} {n}" for kind, n in counts.most_common()))
        if title.startswith("cc_small"):
            for name, row in rows.items():
                cells = " ".join(f"{each} {row[each]:.4f}" for each in (*CLASSES, "shake", "moving"))
                print(f"  {name:56}{row['camera']:9}{cells}")
        result[title] = dict(counts)
    print("\nre10k_clips: degrees a second turned right, up, counter-clockwise: by the poses, and as measured")
    turns = []
    for path in sorted((root / "multiview" / "re10k_clips").glob("*.mp4")):
        media = read(path)
        truth, seconds, half = poses(path.with_suffix(".txt"))
        row = motion(media.frames, (len(media.frames) - 1) / seconds)
        aspect = media.frames.shape[2] / media.frames.shape[1]
        found = np.array([row["pan"] * np.degrees(2 * half), row["tilt"] * np.degrees(2 * half / aspect), row["roll"]])
        print(f"  {path.stem}  {np.round(truth / seconds, 2)!s:24} {np.round(found, 2)!s:24} {row['camera']}")
        turns.append([*(truth / seconds), *found])
    result["re10k_clips"] = turns
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of photographs, as benchmarks.planted.originals.real")
    parser.add_argument("--real", type=Path, help="folder with video/weizmann64, video/cc_small, multiview/re10k_clips")
    parser.add_argument("--rounds", type=int, default=14, help=f"of {len(KINDS) + len(NEGATIVES)} videos in either set")
    parser.add_argument("--seed", type=int, default=100, help="of the first round")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    sets: dict[str, Sequence[np.ndarray] | None] = {"made up pictures": None}
    if args.photos:
        sets["photographs"] = [picture for _, picture in real(args.photos)][1::2]
    else:
        print("without --photos, no videos over photographs")
    report: dict[str, Any] = {}
    for title, pictures in sets.items():
        marks = Marks()
        for case in planted(pictures, args.seed, args.rounds):
            marks.add(case, motion(case.frames, case.rate))
        report[title] = marks.report(title)
    if args.real:
        report["real"] = real_videos(args.real)
    else:
        print("without --real, no real videos")
    report["CPU seconds a second"] = speed()
    print(json.dumps(report))


if __name__ == "__main__":
    main()

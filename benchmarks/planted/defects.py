"""Defects planted into clean pictures and clips: `PICTURES` and `CLIPS` name one function for each kind.

Each takes (rng, clean) and returns the damaged copy, of the same size unless told; blur and bars are sized by the
shorter side, so that the same defect looks the same at every resolution. `stored` sends pictures, clean and damaged
alike, through JPEG at ordinary quality, so that compression gives nothing away. `corrupt` damages files, not pictures.
The hard negatives are pictures that look like a defect and are none.
"""

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from diorama.data import Drop, Where
from recipes import curate_stills, curate_videos

Plant = Callable[[np.random.Generator, np.ndarray], np.ndarray]
WORDS = ("SAMPLE", "PREVIEW", "stock photo", "(c) 2021 J. Smith", "www.example.com", "DRAFT COPY", "Nature TV")


# Those of the recipes that `technical` alone decides, and one that no recipe takes: it misses a third.
# Of two rules of one name that for stills, which comes last, holds.
OVERLAID = Drop("overlaid", (Where("technical.overlay", above=0.004),))
_RULES = (*curate_videos.recipe().rules, *curate_stills.recipe().rules, OVERLAID)
DEFECTS = {
    rule.name: rule
    for rule in _RULES
    if isinstance(rule, Drop) and all(measure.startswith("technical.") for measure in rule.measures)
}


def defects(row: Mapping[str, float | None]) -> list[str]:
    """The names of the rules that leave out a clip with this row of `technical`."""

    def holds(where: Where) -> bool:
        value = row[where.measure.removeprefix("technical.")]
        if value is None:
            return False
        return value < where.below if where.below is not None else value > where.above

    return [name for name, rule in DEFECTS.items() if all(map(holds, rule.where))]


def stored(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """The picture (h, w, 3) after a JPEG of quality 75 to 95."""
    return jpeg(picture, int(rng.integers(75, 96)))


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """The picture (h, w, 3) after a JPEG of this quality."""
    return cv2.imdecode(np.frombuffer(_bytes(picture, quality), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].copy()


def corrupt(rng: np.random.Generator, picture: np.ndarray) -> bytes:
    """A file that only claims to be this picture: a JPEG cut short, or random bytes."""
    data = _bytes(picture, 90)
    return data[: int(len(data) * rng.uniform(0.1, 0.9))] if rng.random() < 0.5 else rng.bytes(len(data))


def out_of_focus(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A disc of radius 1.2 to 3 % of the shorter side, or a Gaussian of like width; then the noise of a sensor."""
    radius = _side(picture) * rng.uniform(0.012, 0.03)
    if rng.random() < 0.5:
        blurred = cv2.GaussianBlur(picture, (0, 0), radius / 2)  # a disc's standard deviation along an axis
    else:
        reach = int(np.ceil(radius))
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        blurred = _spread(picture, np.clip(radius + 0.5 - np.hypot(y, x), 0, 1))
    return _noisy(rng, blurred, rng.uniform(0, 2))


def moved(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A straight motion of 4 to 10 % of the shorter side while the shutter was open; then the noise of a sensor."""
    length, angle = _side(picture) * rng.uniform(0.04, 0.1), rng.uniform(0, np.pi)
    reach = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    step = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    ends = [tuple(int(v) for v in np.round((reach + sign * step) * 16)) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, 4)  # type: ignore[call-overload]
    return _noisy(rng, _spread(picture, kernel), rng.uniform(0, 2))


def dark(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Under-exposed: all but nothing is brighter than a seventh of white."""
    return _noisy(rng, picture * rng.uniform(0.03, 0.15), rng.uniform(0, 2))


def overexposed(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Washed out: blacks lifted to 185 or more, and highlights beyond white."""
    lift = rng.uniform(185, 215)
    return _levels(lift + picture / 255.0 * (255 - lift) * rng.uniform(1, 3))


def flat(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """One colour, with at most a little noise."""
    return _noisy(rng, np.broadcast_to(rng.uniform(0, 255, 3), picture.shape), rng.uniform(0, 1))


def grey(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """No colour but, at most, the tint of a scanner."""
    return _levels(_luma(picture)[..., None] + rng.uniform(-2, 2, 3))


def blocky(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A JPEG of quality 3 to 8; every other one is later cropped, off its grid, and stored again at high quality."""
    picture = jpeg(picture, int(rng.integers(3, 9)))
    if rng.random() < 0.5:
        y, x = rng.integers(0, 8, 2)
        picture = jpeg(np.ascontiguousarray(picture[y:, x:]), int(rng.integers(85, 96)))
    return picture


def letterboxed(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Bars over 6 to 18 % of the height (or of the width) at either end: most black, some white or of a colour."""
    colour = ([0.0] * 3, [0.0] * 3, [255.0] * 3, rng.uniform(0, 255, 3))[rng.integers(4)]
    out = picture.copy()
    rows = out if rng.random() < 0.5 else out.swapaxes(0, 1)  # a view: pillars are bars of the transpose
    size = max(2, round(len(rows) * rng.uniform(0.06, 0.18)))
    rows[:size] = rows[-size:] = np.round(colour)
    return out


def overlaid(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A watermark: words of 35 to 80 % opacity in a corner, across the middle, or repeated all over."""
    word, share = WORDS[rng.integers(len(WORDS))], rng.uniform(0.35, 0.8)
    return _blend(picture, mark(rng, word, *picture.shape[:2]), share, _ink(picture))


def branded(
    rng: np.random.Generator, clean: Sequence[np.ndarray], marks: int, share: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """A collection, `marks` sources of which watermark a `share` of it each, every one with a mark of its own.

    clean: pictures (h, w, 3) or clips (t, h, w, 3), all of one frame size. Returns them and, (n,), the number of the
    mark that each carries, -1 for none. The ink is white; black on what is bright already.
    """
    h, w = clean[0].shape[-3:-1]
    sources = [(mark(rng, WORDS[rng.integers(len(WORDS))], h, w), rng.uniform(0.35, 0.8)) for _ in range(marks)]
    size = round(share * len(clean))
    carried = np.full(len(clean), -1)
    carried[rng.permutation(len(clean))[: marks * size]] = np.repeat(np.arange(marks), size)
    marked = [each if k < 0 else _blend(each, *sources[k], _ink(each)) for each, k in zip(clean, carried, strict=True)]
    return marked, carried


def mark(rng: np.random.Generator, word: str, h: int, w: int) -> np.ndarray:
    """How much words cover each pixel: (h, w) float32 in [0, 1]."""
    style = rng.integers(3)
    face = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX)[rng.integers(3)]
    width, thick = w * (0.3, 0.7, 0.35)[style] * rng.uniform(0.8, 1.2), max(1, round(min(h, w) / 200))
    (unit, _), _ = cv2.getTextSize(word, face, 1, thick)
    size = width / unit
    (tw, th), _ = cv2.getTextSize(word, face, size, thick)
    margin = 0.04 * min(h, w)
    if style == 0:  # a corner
        x = margin if rng.random() < 0.5 else w - margin - tw
        places = [(x, margin + th if rng.random() < 0.5 else h - margin)]
    elif style == 1:  # the middle
        places = [((w - tw) / 2, h * rng.uniform(0.4, 0.6))]
    else:  # all over
        places = [(x + y % 2 * tw / 2, y * h / 5) for y in range(1, 6) for x in np.arange(-tw, w, 1.4 * tw)]
    cover = np.zeros((h, w), np.uint8)
    for x, y in places:
        cv2.putText(cover, word, (round(x), round(y)), face, size, 255, thick, cv2.LINE_AA)
    return cover / np.float32(255)


PICTURES: dict[str, tuple[Plant, ...]] = {
    "blurred": (out_of_focus, moved),
    "dark": (dark,),
    "overexposed": (overexposed,),
    "flat": (flat,),
    "grey": (grey,),
    "blocky": (blocky,),
    "letterboxed": (letterboxed,),
    "overlaid": (overlaid,),
}


def low_key(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A fine picture most of which is in the dark: one pool of light on a dark ground."""
    h, w = picture.shape[:2]
    y, x = np.mgrid[:h, :w]
    distance = np.hypot(y / h - rng.uniform(0.35, 0.65), x / w - rng.uniform(0.35, 0.65))
    light = 1 / (1 + (distance / rng.uniform(0.2, 0.3)) ** 4)
    return _levels(picture * (0.04 + 1.1 * light)[..., None])


def high_key(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A fine picture on white: a subject before a lit ground, which fills up to two thirds of it."""
    h, w = picture.shape[:2]
    ground = np.ones((h, w), np.float32)
    box = ((w * rng.uniform(0.4, 0.6), h * rng.uniform(0.4, 0.6)), (w * 0.66, h * 0.66), rng.uniform(0, 180))
    cv2.ellipse(ground, box, 0.0, -1, cv2.LINE_AA)  # type: ignore[call-overload]
    return _levels(picture + (rng.uniform(245, 255) - picture) * ground[..., None])


def muted(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A fine picture of little colour: a fifth to a third of its saturation is left."""
    luma = _luma(picture)[..., None]
    return _levels(luma + (picture - luma) * rng.uniform(0.2, 0.35))


def hazy(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A picture of little contrast, as in fog."""
    share = rng.uniform(0.25, 0.4)
    return _levels(rng.uniform(120, 190) * (1 - share) + picture * share)


def shallow(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A sharp subject over a third of the picture before a ground out of focus."""
    h, w = picture.shape[:2]
    subject = np.zeros((h, w), np.float32)
    box = ((w * rng.uniform(0.35, 0.65), h * rng.uniform(0.35, 0.65)), (w * 0.6, h * 0.6), rng.uniform(0, 180))
    cv2.ellipse(subject, box, 1.0, -1, cv2.LINE_AA)  # type: ignore[call-overload]
    ground = cv2.GaussianBlur(picture, (0, 0), _side(picture) * rng.uniform(0.008, 0.02)).astype(np.float32)
    return _levels(ground + (picture - ground) * subject[..., None])


def ordinary_jpeg(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A picture of the web: JPEG of quality 40 to 60."""
    return jpeg(picture, int(rng.integers(40, 61)))


HARD: dict[str, Plant] = {
    "low key": low_key,
    "high key": high_key,
    "muted": muted,
    "hazy": hazy,
    "shallow": shallow,
    "ordinary jpeg": ordinary_jpeg,
}


def clip(rng: np.random.Generator, picture: np.ndarray, t: int = 40, h: int = 144, w: int = 256) -> np.ndarray:
    """A clip (t, h, w, 3) uint8 of a camera that pans and zooms over the picture while a cut-out crosses the view.

    One clip in four is from a tripod: only the cut-out moves.
    """
    share = 1.5 * max(h / picture.shape[0], w / picture.shape[1])
    scene = cv2.resize(
        picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA if share < 1 else cv2.INTER_CUBIC
    )
    pan = np.zeros((2, 2)) if rng.random() < 0.25 else rng.uniform(-0.16, 0.16, (2, 2))
    zoom = rng.uniform(1.0, 1.15, 2) if pan.any() else np.ones(2)
    patch = np.ascontiguousarray(picture[: max(8, h // 4), : max(8, w // 5)][..., ::-1])
    start, velocity = rng.uniform(0, (w, h)), rng.choice([-1, 1], 2) * rng.uniform(1, 4, 2)
    noise = rng.uniform(0, 2)
    frames = []
    for i in range(t):
        at = i / max(t - 1, 1)
        scale = zoom[0] + (zoom[1] - zoom[0]) * at
        centre = (np.array([0.5, 0.5]) + pan[0] + (pan[1] - pan[0]) * at) * scene.shape[1::-1]
        turn = np.array([[1 / scale, 0, centre[0] - w / 2 / scale], [0, 1 / scale, centre[1] - h / 2 / scale]])
        frame = cv2.warpAffine(
            scene, turn, (w, h), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
        )
        x, y = ((start + velocity * i) % (w, h)).astype(int)
        part = frame[y : y + patch.shape[0], x : x + patch.shape[1]]
        part[:] = patch[: part.shape[0], : part.shape[1]]
        frames.append(_noisy(rng, frame, noise))
    return np.stack(frames)


def encoded(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """The clip after a lossy codec: each frame a JPEG of one quality, 75 to 95."""
    quality = int(rng.integers(75, 96))
    return np.stack([jpeg(frame, quality) for frame in frames])


def static(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """One frame all along; every other such clip carries the noise of a sensor."""
    noise = rng.uniform(0.5, 2) if rng.random() < 0.5 else 0.0
    return np.stack([_noisy(rng, frames[0], noise) for _ in frames])


def frozen(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """A quarter to three quarters of the clip repeat one frame, all but a few pixels exactly."""
    out = frames.copy()
    size = int(len(frames) * rng.uniform(0.25, 0.75))
    start = int(rng.integers(0, len(frames) - size))
    for i in range(start + 1, start + 1 + size):
        change = (rng.random(frames.shape[1:]) < 0.01) * rng.integers(-1, 2, frames.shape[1:])
        out[i] = _levels(frames[start] + change)
    return out


def overlaid_clip(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """The same watermark over every frame."""
    word, share = WORDS[rng.integers(len(WORDS))], rng.uniform(0.35, 0.8)
    cover = mark(rng, word, *frames.shape[1:3])
    return np.stack([_blend(frame, cover, share, _ink(frames)) for frame in frames])


CLIPS: dict[str, Plant] = {"static": static, "frozen": frozen, "overlaid": overlaid_clip}


def on_twos(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """Twice the frame rate it was made for: every frame is shown two or three times. A cadence, not a frozen clip."""
    return frames[np.arange(len(frames)) // int(rng.integers(2, 4))]


def _bytes(picture: np.ndarray, quality: int) -> bytes:
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _side(picture: np.ndarray) -> int:
    return min(picture.shape[:2])


def _luma(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _spread(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)


def _blend(picture: np.ndarray, cover: np.ndarray, share: float, colour: int) -> np.ndarray:
    """A grey level, `share` opaque, where `cover` says."""
    return _levels(picture + (colour - picture.astype(np.float32)) * (cover * share)[..., None])


def _ink(picture: np.ndarray) -> int:
    """White; black on what is bright already."""
    return 255 if picture.mean() < 140 else 0


def _noisy(rng: np.random.Generator, picture: np.ndarray, sigma: float) -> np.ndarray:
    return _levels(picture + sigma * rng.standard_normal(picture.shape, np.float32))


def _levels(picture: np.ndarray) -> np.ndarray:
    return (np.clip(picture, 0, 255) + 0.5).astype(np.uint8)

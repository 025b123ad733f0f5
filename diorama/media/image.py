"""Still and animated images -> arrays, through Pillow."""

import warnings
from functools import lru_cache
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from diorama.media.media import BadMedia, Colour, Info, Job, Media, orient
from diorama.media.resize import scale

Image.init()
# EPS runs Ghostscript and IPTC opens whatever it wraps, EPS too; the others are stubs without a decoder.
FORMATS = [
    *("JPEG", "PNG", "GIF", "WEBP"),
    *sorted(set(Image.OPEN) - {"JPEG", "PNG", "GIF", "WEBP", "EPS", "IPTC", "WMF", "GRIB", "HDF5", "BUFR", "MPEG"}),
]
# Formats whose frames are moments in time; the frames of others are pages, layers, sizes or views: the first counts.
_ANIMATED = {"GIF", "PNG", "WEBP", "AVIF", "FLI"}
# EXIF orientation -> (transpose, flip_x, flip_y), see `orient`
_ORIENTATION = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


def decode(file: BinaryIO, job: Job) -> Media:
    """Every frame that is asked for of an open image file."""
    with _open(file) as im:
        job.check(im.height, im.width)
        total = _frames(im)
        skip = 1 if total > 1 and getattr(im, "default_image", False) else 0  # APNG: a still for old viewers
        if total == 1 or total - skip == 1:
            if skip:
                im.seek(skip)
            frame, info = _frame(im, job)
            return Media(frame[None], info=info)
        wanted = min(total - skip, job.count or total)
        job.check(im.height, im.width, wanted)
        frames = np.empty((0, 0, 0, 3), np.uint8)
        shown: list[float] = []  # seconds each frame stays
        times: list[float] = []
        passed, info = 0.0, {}
        for index in range(skip, total):
            job.deadline.check()
            try:
                im.seek(index)
            except EOFError:  # fewer frames than declared: the animation just ends
                break
            frame, noted = _frame(im, job)
            info = info or noted
            begun, passed = passed, passed + _delay(im)
            if passed <= job.start:
                continue
            if not shown:
                frames = np.empty((wanted, *frame.shape), np.uint8)
            frames[len(shown)] = frame[: frames.shape[1], : frames.shape[2]]  # GIF frames may grow the screen
            shown.append(_delay(im))
            times.append(begun)
            job.limits.check(frame.shape[0], frame.shape[1], len(shown), sum(shown))
            if len(shown) == wanted:
                break
        if not shown:
            raise BadMedia(f"no frames after {job.start:g} seconds")
        info |= {"duration": sum(shown), "variable_rate": max(shown) - min(shown) > 0.002}
        return Media(frames[: len(shown)], rate=len(shown) / sum(shown), info=info, times=np.array(times))


def probe(file: BinaryIO) -> Info:
    """What the header says."""
    with _open(file) as im:
        transpose = _ORIENTATION[_orientation(im)][0] and im.format != "TIFF"
        t = _frames(im)
        h, w = (im.width, im.height) if transpose else (im.height, im.width)
        delay = _delay(im)
        return Info("image", t, h, w, 1 / delay if t > 1 else None, (im.format or "").lower())


def _open(file: BinaryIO) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # size is checked by Limits; odd metadata is not our concern
        try:
            return Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            raise BadMedia("no known image or video format") from None
        except Image.DecompressionBombError:
            raise BadMedia("far more pixels than any limit allows") from None


def _frames(im: Image.Image) -> int:
    return getattr(im, "n_frames", 1) if im.format in _ANIMATED else 1


def _delay(im: Image.Image) -> float:
    """Seconds this frame stays; viewers show what asks for 10 ms or less for 100 ms, and so do we."""
    delay = float(im.info.get("duration") or 0) / 1000
    return delay if delay > 0.0105 else 0.1


def _frame(im: Image.Image, job: Job) -> tuple[np.ndarray, dict[str, Any]]:
    """The frame, upright, (h, w, 3) uint8, and what was seen of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored, bits = im.mode, _bits(im)
        im.load()
        info: dict[str, Any] = {"format": (im.format or "").lower(), "mode": stored, "bits": bits}
        info |= {"width": im.width, "height": im.height, "had_alpha": im.has_transparency_data}
        info["orientation"] = _orientation(im)
        job.check(im.height, im.width)  # some formats learn their size only when they load
        if im.mode in ("I", "F") or im.mode.startswith("I;16"):
            frame = _grey(im, job.background, info)
        else:
            colours = _srgb(im, info)
            if colours.mode == "RGBA":
                opaque = Image.new("RGBA", colours.size, (*job.background, 255))
                colours = Image.alpha_composite(opaque, colours).convert("RGB")
            frame = np.asarray(colours)
        frame = scale(frame[None], *job.size(im.height, im.width))[0]
        return orient(frame, *_ORIENTATION[info["orientation"]]), info


def _srgb(im: Image.Image, info: dict[str, Any]) -> Image.Image:
    """RGB or RGBA in sRGB, by the embedded colour profile if there is a usable one."""
    if im.mode == "LAB":
        return _apply(im, _lab_to_srgb())
    wanted = "RGBA" if info["had_alpha"] else "RGB"
    colours = im if im.mode in ("CMYK", wanted) else im.convert(wanted)
    icc = im.info.get("icc_profile")
    transform = _to_srgb(icc, colours.mode.removesuffix("A")) if icc else None
    if transform is None:
        return colours.convert("RGB") if colours.mode == "CMYK" else colours
    info["colour_managed"] = True
    if colours.mode != "RGBA":
        return _apply(colours, transform)
    managed = _apply(colours.convert("RGB"), transform)
    managed.putalpha(colours.getchannel("A"))
    return managed


def _apply(im: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    managed = ImageCms.applyTransform(im, transform)
    assert managed is not None  # only None when asked to work in place
    return managed


def _bits(im: Image.Image) -> int:
    """Bits a channel as stored, where Pillow lets us know."""
    if im.format == "TIFF":
        stored = im.tag_v2.get(258, 1)  # type: ignore[attr-defined]
        return int(stored[0] if isinstance(stored, tuple) else stored)
    return {"1": 1, "I": 32, "F": 32}.get(im.mode, 16 if im.mode.startswith("I;16") else 8)


def _grey(im: Image.Image, background: Colour, info: dict[str, Any]) -> np.ndarray:
    """Grey of more than 8 bits -> (h, w, 3) uint8; the range that became 0..255 is noted as `range`.

    16-bit is 0..65535 (0..4095 where the file says 12 bits). 32-bit and float files state no range: the first of
    [0, 1] (float), [0, 255], [0, 65535] (integer) that holds all values, else from the least value to the greatest.
    """
    values = np.asarray(im)
    if im.mode.startswith("I;16"):
        low, high = 0.0, float(2 ** info["bits"] - 1) if im.format == "TIFF" and 8 < info["bits"] < 16 else 65535.0
    elif im.mode == "I" and im.format in ("PPM", "PNG"):
        low, high = 0.0, 65535.0
    else:
        finite = values[np.isfinite(values)]
        least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        tops = [1.0, 255.0] if im.mode == "F" else [255.0, 65535.0]
        low, high = next(((0.0, top) for top in tops if least >= 0 and most <= top), (least, most))
    info["range"] = (low, high)
    scaled = (np.nan_to_num(values.astype(np.float32), nan=low) - low) * (255.0 / max(high - low, 1e-30))
    grey = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    frame = np.repeat(grey[..., None], 3, axis=-1)
    clear = im.info.get("transparency")
    if isinstance(clear, int):  # a 16-bit grey PNG may name one transparent value
        frame[values == clear] = background
    return frame


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


@lru_cache(maxsize=32)
def _to_srgb(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From an embedded profile to sRGB; None where nothing is to do or the profile is unusable, as many are."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        if profile.profile.xcolor_space.strip() != mode or "sRGB" in ImageCms.getProfileDescription(profile):
            return None
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _orientation(im: Image.Image) -> int:
    """EXIF orientation 1..8 (AVIF's turning and TIFF's tag too, through Pillow); unreadable EXIF means upright.

    After `load`: Pillow has then turned a TIFF itself, and PNG may keep EXIF behind the pixels.
    """
    try:
        value = im.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF raises whatever it likes; the pixels are still good
        return 1
    return value if value in _ORIENTATION else 1

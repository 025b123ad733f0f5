"""Any file -> Media or BadMedia."""

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from diorama.media import image, video
from diorama.media.media import BadMedia, Colour, Deadline, Info, Job, Limits, Media, Overrun, short
from diorama.media.sniff import HEAD, is_text, sniff


@dataclass(frozen=True)
class Part:
    """`count` frames of a video or animation, from the one at `start` seconds (a value of `Media.times`) on."""

    source: "Whole"
    start: float
    count: int | None


Whole = Path | str | bytes
Source = Whole | Part
WHITE = (255, 255, 255)


def read(
    source: Source,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    *,
    background: Colour = WHITE,
    start: float = 0.0,
    count: int | None = None,
    short_side: int | None = None,
    fit: int | None = None,
) -> Media:
    """Decode a file (a path, or its bytes) by what it holds, not by its name.

    `background` lies under transparent pixels. `start` (seconds) and `count` (frames) choose a part of a video or
    animation. Frames whose shorter side is above `short_side` are shrunk to it (antialiased) while decoding, so that
    long videos of high resolution fit into memory; `fit` (bytes) chooses that side for a video that would take more.

    Raises BadMedia with one short reason for everything else: unreadable, damaged, truncated, not media, or beyond
    `limits`; `Overrun`, which is one, where memory did not suffice. A decoder that hangs or crashes takes this process
    along; `read_guarded` does not.
    """
    part = source if isinstance(source, Part) else Part(source, start, count)
    job = Job(limits, background, part.start, part.count, short_side, Deadline(limits.timeout), fit)
    with _opened(part.source) as file:
        head = _head(file)
        try:
            kind = sniff(head)
            if kind == "image":
                return image.decode(file, job)
            return video.decode(file, kind, job)
        except BadMedia as bad:
            raise _named(bad, head) from None
        except MemoryError:
            raise Overrun("needs more memory than there is") from None
        except Exception as error:  # decoders raise nearly every type there is on damaged files
            raise BadMedia(f"damaged: {short(error)}") from None


def probe(source: Whole) -> Info:
    """What the header of a file says, cheaply; BadMedia as `read`."""
    with _opened(source) as file:
        head = _head(file)
        try:
            kind = sniff(head)
            return image.probe(file) if kind == "image" else video.probe(file, kind)
        except BadMedia as bad:
            raise _named(bad, head) from None
        except Exception as error:
            raise BadMedia(f"damaged: {short(error)}") from None


def _opened(source: Whole) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        if not stat.S_ISREG(os.stat(source).st_mode):  # a pipe or device would wait for ever
            raise BadMedia("not a regular file")
        return open(source, "rb")
    except OSError as error:
        raise BadMedia(short(error)) from None


def _head(file: BinaryIO) -> bytes:
    head = file.read(HEAD)
    file.seek(0)
    return head


def _named(bad: BadMedia, head: bytes) -> BadMedia:
    """A better name for what no decoder knew."""
    return BadMedia("text, not media") if bad.reason.startswith("no known") and is_text(head) else bad

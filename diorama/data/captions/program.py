"""A vision-language model behind a program of one's own, by lines of JSON."""

import json
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from diorama.core.errors import UserError
from diorama.data.captions.checks import refuses
from diorama.data.captions.vlm import Caption, Status, give_up


@dataclass(frozen=True)
class Command:
    """A program that reads lines {"clip": 0, "images": [paths of JPEG files], "prompt": text, "seed": 0} from standard
    input and writes lines {"clip": 0, "text": text} to standard output, in any order.

    A line may also say "status": success, truncated, refused or error. The program is started once a call, for as many
    clips as a shard of observations has.

    Args:
        command: the program and its arguments; no shell is asked.
        weights: files whose content decides what it says, such as the program and its model.
        timeout: seconds for a clip, on average, beside a `start` for loading the model.
    """

    command: tuple[str, ...]
    weights: tuple[Path, ...] = ()
    timeout: float = field(default=30.0, compare=False)
    start: float = field(default=600.0, compare=False)

    def __call__(self, clips: Sequence[Sequence[bytes]], prompt: str, seed: int) -> list[Caption]:
        """As `Captioner.__call__`."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [_written(Path(folder), n, images) for n, images in enumerate(clips)]
            asked = [{"clip": n, "images": images, "prompt": prompt, "seed": seed} for n, images in enumerate(paths)]
            output, why = self._run("".join(json.dumps(line) + "\n" for line in asked), len(clips))
        answers = dict(_answers(output))
        captions = [answers.get(n, Caption(None, "error", why)) for n in range(len(clips))]
        if not answers:
            give_up(captions, len(clips), f"the program {self.command[0]}")
        return captions

    def _run(self, lines: str, clips: int) -> tuple[str, str]:
        """What the program wrote, and what may be the matter with clips of which it wrote nothing."""
        seconds = self.start + self.timeout * clips
        try:
            done = subprocess.run(self.command, input=lines.encode(), capture_output=True, timeout=seconds)
        except subprocess.TimeoutExpired as late:
            return (late.stdout or b"").decode(errors="replace"), f"no answer within {seconds:g} s for {clips} clips"
        except OSError as error:
            raise UserError(f"the program {self.command[0]} cannot be run: {error.strerror}") from None
        said = " ".join(done.stderr.decode(errors="replace").split())[-300:]
        return done.stdout.decode(errors="replace"), f"no answer; the program left with {done.returncode}: {said}"


def _written(folder: Path, clip: int, images: Sequence[bytes]) -> list[str]:
    paths = [folder / f"{clip}_{k}.jpg" for k in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(image)
    return [str(path) for path in paths]


def _answers(output: str) -> Iterable[tuple[int, Caption]]:
    """Clips and their captions; lines that are none (a library's chatter) are passed over."""
    for line in output.splitlines():
        try:
            answer = json.loads(line)
            clip, text = int(answer["clip"]), answer.get("text")
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        yield clip, _caption(text, answer.get("status"))


def _caption(text: Any, status: Any) -> Caption:
    text = text.strip() if isinstance(text, str) else None
    if status is None:
        status = "error" if not text else "refused" if refuses(text) else "success"
    if status not in get_args(Status) or (status == "success" and not text):
        return Caption(None, "error", f"the program answered text {text!r} with status {status!r}")
    return Caption(text or None, status, (text or "the program gave no caption") if status == "error" else None)

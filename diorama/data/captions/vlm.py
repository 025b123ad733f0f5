"""Captions by a vision-language model that runs elsewhere: a server, or a program of one's own.

A model is a `Captioner`; `OpenAICompatible` and `Command` are two. The stage `Captions` asks one about the pictures
of `preview.images`, once a clip and prompt.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import pyarrow as pa

from diorama.core.errors import UserError

PROMPT = (
    "Describe what can be seen in one to three plain sentences. Say nothing that is not shown. "
    "Several pictures are frames of one video, in their order."
)
ROW = 32  # clips without an answer, one after the other, that are the model's fault
Status = Literal["success", "truncated", "refused", "error"]


@dataclass(frozen=True)
class Caption:
    """A model's answer. text: null where there is none. why: what went wrong, of an error."""

    text: str | None
    status: Status
    why: str | None = None


class Captioner(Protocol):
    """A model that says what pictures show; a frozen dataclass.

    weights: files whose content decides what it says. Fields that change no answer (an address, how many requests at
    once) are declared `field(compare=False)`.
    """

    @property
    def weights(self) -> tuple[Path, ...]: ...

    def __call__(self, clips: Sequence[Sequence[bytes]], prompt: str, seed: int) -> list[Caption]:
        """A caption of each clip, in their order; `clips` are lists of JPEG files.

        A clip that could not be captioned has the status "error". Raises `UserError` when it is the model that fails,
        and another clip would fare no better: nothing of this call is kept then, and curation can go on later.
        """


@dataclass(frozen=True)
class Captions:
    """What `captioner` says of every clip, once a prompt; the seed is the prompt's number.

    Several prompts are variants side by side (short and long, or one prompt several times at a temperature above 0).
    `captions` and `statuses` hold every answer; `caption` is the first one with status "success", else null: what was
    cut off or refused trains nothing. `status` is "success" where there is one, else that of the first answer.
    """

    captioner: Captioner
    prompts: tuple[str, ...] = (PROMPT,)
    name: str = "vlm"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {
        "caption": str, "status": str, "captions": list[str], "statuses": list[str],
    }  # fmt: skip
    reads: ClassVar[tuple[str, ...]] = ("preview.images",)

    def __post_init__(self) -> None:
        if not callable(self.captioner) or isinstance(self.captioner, str | type):
            raise UserError(
                f"the stage {self.name} needs a model to ask, such as OpenAICompatible(...) or Command(...), "
                f"not {self.captioner!r}; a prompt is given as prompts=('...',)"
            )
        if isinstance(self.prompts, str):
            raise UserError(f"the stage {self.name} needs a tuple of prompts, as ({self.prompts!r},) with its comma")
        if not self.prompts or not all(prompt.strip() for prompt in self.prompts):
            raise UserError(f"the stage {self.name} needs prompts to ask by, and none may be empty")

    @property
    def weights(self) -> tuple[Path, ...]:
        """As `Derived.weights`."""
        return self.captioner.weights

    def prepare(
        self, models: Path, sample: Callable[[int], pa.Table]
    ) -> Callable[[pa.Table], Mapping[str, Sequence[Any]]]:
        """As `Derived.prepare`."""

        def batch(table: pa.Table) -> dict[str, list[Any]]:
            pictures = [images or [] for images in table["preview.images"].to_pylist()]
            answers: list[list[Caption]] = [[] for _ in pictures]
            there = [n for n, images in enumerate(pictures) if images]
            for seed, prompt in enumerate(self.prompts):
                for n, caption in zip(there, self._ask([pictures[n] for n in there], prompt, seed), strict=True):
                    answers[n].append(caption)
            rows = [_row(captions) for captions in answers]
            return {name: [row[name] for row in rows] for name in (*self.columns, "error")}

        return batch

    def _ask(self, clips: list[list[bytes]], prompt: str, seed: int) -> list[Caption]:
        return self.captioner(clips, prompt, seed) if clips else []


def _row(answers: list[Caption]) -> dict[str, Any]:
    """The columns of one clip; an error where no answer came."""
    if not answers:
        return dict.fromkeys(Captions.columns) | {"error": "there are no pictures of it to caption"}
    best = next((answer for answer in answers if answer.status == "success"), None)
    failed = all(answer.status == "error" for answer in answers)
    return {
        "caption": best.text if best else None,
        "status": (best or answers[0]).status,
        "captions": [answer.text for answer in answers],
        "statuses": [answer.status for answer in answers],
        "error": answers[0].why or "no caption came" if failed else None,
    }


def give_up(captions: Sequence[Caption], clips: int, who: str) -> None:
    """Raise `UserError` when the last `ROW` of `captions` (all, of fewer `clips`) are errors: it is not the clips."""
    row = max(min(ROW, clips), 2)
    last = captions[-row:]
    if len(last) == row and all(caption.status == "error" for caption in last):
        raise UserError(
            f"{who} gave no caption of {row} clips in a row, of the last because: {last[-1].why}; mend that and run "
            "the same again: it goes on from what is captioned"
        )

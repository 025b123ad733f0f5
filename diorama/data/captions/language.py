"""The language of captions."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from diorama.core.errors import UserError
from diorama.data.captions.choice import preferred


@dataclass(frozen=True)
class Language:
    """Language (ISO 639) of the first column of `of` that holds words, and how sure that is, 0 to 1.

    By py3langid: naive Bayes over byte n-grams, M. Lui and T. Baldwin, "langid.py: An Off-the-shelf Language
    Identification Tool" (2012); its model of 4.6 MB comes with it. A caption of two or three words may be of any
    language, and is often guessed wrong: rules should also ask for `wording.word_count` or for `sure`.
    `candidates` are the only languages that are considered; all that it knows if there are none.
    """

    of: tuple[str, ...] = ("caption",)
    candidates: tuple[str, ...] = ()
    name: str = "language"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"code": str, "sure": float}

    @property
    def reads(self) -> tuple[str, ...]:
        """As `Derived.reads`."""
        return self.of

    @property
    def weights(self) -> tuple[Path, ...]:
        """As `Derived.weights`. Raises `UserError` where py3langid is not installed."""
        library = _library()
        return (library.MODEL_DIR / library.MODEL_FILE,)

    def prepare(
        self, models: Path, sample: Callable[[int], pa.Table]
    ) -> Callable[[pa.Table], Mapping[str, Sequence[Any]]]:
        """As `Derived.prepare`."""
        classify = identifier(self.candidates)

        def batch(table: pa.Table) -> dict[str, list[Any]]:
            guesses = [classify(text) if text else (None, None) for text in preferred(table, self.of)]
            return {"code": [code for code, _ in guesses], "sure": [sure for _, sure in guesses]}

        return batch


@functools.lru_cache(maxsize=2)
def identifier(candidates: tuple[str, ...] = ()) -> Callable[[str], tuple[str, float]]:
    """A function of a text to its language and how sure that is. Raises `UserError`."""
    library = _library()
    model = library.LanguageIdentifier.from_model_file(library.MODEL_FILE, norm_probs=True)
    if candidates:
        try:
            model.set_languages(list(candidates))
        except ValueError as error:
            raise UserError(f"languages are given by their codes, as en or de; {error}") from None
    return model.classify


def _library() -> Any:
    try:
        from py3langid import langid
    except ImportError:
        raise UserError("the stage Language needs py3langid: pip install 'diorama[captions]'") from None
    return langid

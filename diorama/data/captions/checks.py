"""What a caption's words alone say against it: too short, repeated, boilerplate, refused, cut off, numbers.

The phrases are English; lengths, repetition, scripts, links and numbers are counted in any language. Captions of
model makers and of web pages fail in the same ways, so the same columns serve for both.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from diorama.core.files import hash_bytes
from diorama.data.captions.choice import preferred

# Han, Hiragana, Katakana: written without spaces, so each character counts as a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s,;|{_UNSPACED}]+")
_AROUND = string.punctuation + "“”„‘’«»‹›…–—。、，！？（）「」¿¡"
_SENTENCE_END = re.compile(r"[.!?](?=\s)|[。！？]")
_FINISHED = re.compile(r"[.!?。！？][\"'”’»)\]]*$")
# An English sentence does not end in one of these.
_LEADING_ON = set(
    re.findall(
        r"\w+",
        "a an the and or but nor of with to from by for into onto at as than its their his her my your our is are was "
        "were be which that who whose while because very",
    )
)

_OPENER = re.compile(
    r"^\W*(?:(?:this|here|it)(?:\s+is|['’]s)?\s+)?(?:(?:the|an?)\s+)?(?:close-?up\s+)?"
    r"(?:image|picture|photo(?:graph)?|pic|video|clip|illustration|screenshot|drawing|painting|frame)s?\s+"
    r"(?:of|shows?|showing|depicts?|depicting|features?|featuring|captures?|captured|contains?|displays?)\b", re.I
)  # fmt: skip
_REFUSAL = re.compile(
    r"\b(?:as an? (?:ai|artificial intelligence|(?:large )?language model)|i(?:'|’)?m (?:really |very )?sorry|"
    r"i am (?:very )?sorry|i apologi[sz]e|i(?:'|’)?m (?:not able|unable)|i am (?:not able|unable)|"
    r"i (?:can(?:not|(?:'|’)?t)|could not|couldn(?:'|’)?t) "
    r"(?:assist|help|see|view|describe|identify|provide|fulfil|comply|process|access)|"
    r"no image (?:was |has been )?(?:provided|attached|uploaded))", re.I
)  # fmt: skip
_STOCK = re.compile(
    r"\b(?:stock (?:photo|image|vector|illustration|footage|video|picture|clip)\w*|royalty[- ]free|shutterstock|"
    r"getty images?|istock(?:photo)?|alamy|dreamstime|depositphotos|adobe stock|123rf|all rights reserved|"
    r"copyright|click (?:here|to enlarge)|(?:buy|order|shop) now|free (?:download|shipping)|"
    r"image not (?:available|found)|no image available|placeholder|untitled)\b|[©®™]", re.I
)  # fmt: skip
_FILE = re.compile(
    r"\b[\w()-]{1,80}\.(?:jpe?g|png|gif|webp|bmp|tiff?|heic|avif|mp4|mov|webm|avi|mkv)\b|"
    r"\b(?:img|dsc[nf]?|pict|mvi|gopr|pxl|screenshot)[_ -]?\d{3,}", re.I
)  # fmt: skip
_LINK = re.compile(
    r"\bhttps?://|\bwww\.\w|\b[\w.+-]{1,64}@[\w-]{1,63}\.[a-z]{2,}\b|\b[\w-]{1,63}\.(?:com|org|net|info|io)\b", re.I
)
_MARKUP = re.compile(
    r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>|&(?:[a-z]{2,8}|#\d{1,6});|\*\*\S|^\s*#{1,6}\s|\]\(|```", re.I | re.M
)
_HASHTAG = re.compile(r"(?<![\w&/])#(?!\d+\b)\w+")

_MEASURES: dict[str, Any] = {
    "word_count": int,  # 0 without a caption; every other column is null then
    "characters": int,
    "repetition": float,  # 0..1: share of the runs of three words that were there before
    "longest_run": int,  # how often at most a phrase follows itself at once; 1 where none does
    "numbers": float,  # 0..1: share of words with more digits than letters
    "script": str,  # of most letters, as latin, cyrillic, arabic, cjk, hiragana
    "opener": bool,  # begins as "an image of", "the video shows"
    "refusal": bool,  # of a model: "I'm sorry, I cannot", "as an AI"
    "stock": bool,  # of agencies, shops and page furniture: "stock photo", "all rights reserved"
    "file_name": bool,  # IMG_1234, dog.jpg
    "link": bool,  # a URL or an e-mail address
    "markup": bool,  # HTML or Markdown
    "hashtag": bool,
    "truncated": bool,  # breaks off inside a sentence
    "key": str,  # equal for captions that are equal but for case, spaces and punctuation: what `SameCaption` counts
}


@dataclass(frozen=True)
class CaptionChecks:
    """The measures of `measure`, of the first column of `of` that holds words; `wording.word_count` and so on.

    Drop("bad caption", (Where("wording.word_count", below=2),)) leaves out clips without a caption, too.
    """

    of: tuple[str, ...] = ("caption",)
    name: str = "wording"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = _MEASURES
    weights: ClassVar[tuple[Path, ...]] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """As `Derived.reads`."""
        return self.of

    def prepare(
        self, models: Path, sample: Callable[[int], pa.Table]
    ) -> Callable[[pa.Table], Mapping[str, Sequence[Any]]]:
        """As `Derived.prepare`."""

        def batch(table: pa.Table) -> dict[str, list[Any]]:
            rows = [measure(text) for text in preferred(table, self.of)]
            return {name: [row[name] for row in rows] for name in self.columns}

        return batch


def measure(text: str | None) -> dict[str, Any]:
    """What `_MEASURES` names, of one caption.

    Repetition is one minus distinct-3 of J. Li et al., "A Diversity-Promoting Objective Function for Neural
    Conversation Models" (2016), section 5; of texts shorter than three words it is 0.
    """
    if text is None:
        return dict.fromkeys(_MEASURES) | {"word_count": 0, "characters": 0}
    text = unicodedata.normalize("NFC", text).strip()
    spoken = words(text)
    threes = [tuple(spoken[i : i + 3]) for i in range(len(spoken) - 2)]
    return {
        "word_count": len(spoken),
        "characters": len(text),
        "repetition": 1 - len(set(threes)) / len(threes) if threes else 0.0,
        "longest_run": longest_run(spoken),
        "numbers": sum(_numeric(word) for word in spoken) / len(spoken) if spoken else 0.0,
        "script": script(text),
        "opener": bool(_OPENER.search(text)),
        "refusal": refuses(text),
        "stock": bool(_STOCK.search(text)),
        "file_name": bool(_FILE.search(text)),
        "link": bool(_LINK.search(text)),
        "markup": bool(_MARKUP.search(text)),
        "hashtag": bool(_HASHTAG.search(text)),
        "truncated": truncated(text),
        "key": hash_bytes(" ".join(spoken).encode(), 8),
    }


def words(text: str) -> list[str]:
    """The words of a text in small letters, without the punctuation around them; of unspaced scripts, characters.

    Commas part words as spaces do, for lists of tags.
    """
    return [word.strip(_AROUND) for word in _WORD.findall(text.lower()) if any(c.isalnum() for c in word)]


def longest_run(spoken: Sequence[str], phrase: int = 8) -> int:
    """How often at most a phrase of up to `phrase` words follows itself at once: 3 of "very very very good"."""
    most = min(len(spoken), 1)
    for size in range(1, min(phrase, len(spoken) // 2) + 1):
        same = 0  # words in a row that equal the one a phrase before
        for i in range(size, len(spoken)):
            same = same + 1 if spoken[i] == spoken[i - size] else 0
            most = max(most, 1 + same // size)
    return most


def script(text: str) -> str | None:
    """The script of most letters, the first word of their Unicode names in small letters; None without letters."""
    letters = Counter(c for c in text if c.isalpha())
    scripts: Counter[str] = Counter()
    for letter, count in letters.items():
        scripts[unicodedata.name(letter, "unknown").split()[0].lower()] += count
    return scripts.most_common(1)[0][0] if scripts else None


def refuses(text: str) -> bool:
    """Whether a model speaks of itself instead of the picture."""
    return bool(_REFUSAL.search(text))


def truncated(text: str) -> bool:
    """Whether a text breaks off: after a word or a sign that leads on, or without an end where it had ended sentences.

    A caption need be no sentence: "a dog on a beach" is whole.
    """
    if _FINISHED.search(text) and not text.endswith(".."):
        return False
    spoken = words(text)
    if text.endswith(("...", "…", ",", ";", ":", "-", "–", "—", "(", "[", "&", "、", "，")):
        return True
    return (bool(spoken) and spoken[-1] in _LEADING_ON) or bool(_SENTENCE_END.search(text))


def _numeric(word: str) -> bool:
    return sum(c.isdigit() for c in word) > sum(c.isalpha() for c in word)

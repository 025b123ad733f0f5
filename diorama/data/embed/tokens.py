"""Texts as the token ids that a published text tower was trained on, by the tokenizer.json of its folder.

The file says how words become ids. What stands around them is said here, since files differ in whether they say it: a
start and an end, what a longer text loses, and what a shorter one is filled up with.
"""

import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models

from diorama.core.errors import UserError

# n texts -> ids (n, l) int32, and (n,) where each has the token that stands for it
Tokenise = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]

START, END = "<|startoftext|>", "<|endoftext|>"  # CLIP's
OLD_END = 2  # what configurations of CLIP said of its end before they were mended
SENTENCEPIECE = "</s>", "</s>"  # SigLIP's end and filling
GEMMA = "<eos>", "<pad>"  # SigLIP 2's
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clip(folder: Path, length: int, said_end: int) -> Tokenise:
    """Start, words, end: CLIP's, of `length` ids, whose vector is that of the first end (Radford et al. 2021, 2.4).

    What fills a text up matters to none of its vectors. said_end: `eos_token_id` of the configuration. Where that is 2,
    as in older files, the tower's end is the largest id of a text, and that is the end of CLIP's vocabulary.

    Raises `UserError` where there is no tokenizer, or not the model's.
    """
    tokenizer = _tokenizer(folder)
    start, end = (_id(tokenizer, token, folder) for token in (START, END))
    if said_end not in (OLD_END, end):
        raise UserError(f"{folder} is of two minds: its model's texts end with token {said_end}, its tokenizer's {end}")

    def tokenise(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids = _filled(_words(tokenizer, texts), [start], end, 0, length)
        return ids, (ids == end).argmax(1)

    return tokenise


def siglip(folder: Path, length: int) -> Tokenise:
    """Words, end, filling: SigLIP's, of `length` ids, whose vector is that of the last one.

    SigLIP has lower-case words without punctuation, and its end fills texts up; SigLIP 2 has lower-case words and a
    filling of its own. Which of both a folder holds is told by its tokenizer, a unigram model or byte pairs.

    Raises `UserError` where there is no tokenizer, or not the model's.
    """
    tokenizer = _tokenizer(folder)
    unigram = isinstance(tokenizer.model, models.Unigram)
    end, filling = (_id(tokenizer, token, folder) for token in (SENTENCEPIECE if unigram else GEMMA))
    clean = canonical if unigram else str.lower

    def tokenise(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids = _filled(_words(tokenizer, list(map(clean, texts))), [], end, filling, length)
        return ids, np.full(len(ids), length - 1)

    return tokenise


def canonical(text: str) -> str:
    """Lower case, without punctuation of ASCII, single spaces: as SigLIP's training had its texts."""
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{folder} has no tokenizer.json: take a folder as Hugging Face has it, with that file")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no common error of its own
        raise UserError(f"{path} is no tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _id(tokenizer: Tokenizer, token: str, folder: Path) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise UserError(
            f"{folder / 'tokenizer.json'} lacks {token}: it is not the tokenizer that the model was made with"
        )
    return found


def _words(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]


def _filled(words: list[list[int]], start: list[int], end: int, filling: int, length: int) -> np.ndarray:
    """start, words cut to what fits, end, filling: (n, length) int32."""
    out = np.full((len(words), length), filling, np.int32)
    for row, ids in zip(out, words, strict=True):
        ids = [*start, *ids[: length - len(start) - 1], end]
        row[: len(ids)] = ids
    return out

"""A byte-pair tokenizer learned from the captions at hand: prompts work from scratch, with nothing to download.

The `tokenizers` library does the work; the file it writes (`tokenizer.json`) is the format the field shares. Every
byte is in the vocabulary, so no prompt in any language is unknown.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from diorama.core.files import write_aside

SMALLEST = 257  # padding and the bytes: what a tokenizer has that learned nothing


def learn(captions: Iterable[str], vocabulary: int) -> Tokenizer:
    """A byte-level byte-pair tokenizer of at most `vocabulary` tokens (at least `SMALLEST`).

    Lower-cased and prefixed with a space, so that "A seven" and "a seven" are the same tokens. Training is
    deterministic: captions are sorted first.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["[PAD]"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(captions)), trainer)
    return tokenizer


def save(tokenizer: Tokenizer, path: Path) -> None:
    """Write the tokenizer to `path`, whole or not at all."""
    with write_aside(path) as aside:
        tokenizer.save(str(aside))


def load(path: Path) -> Tokenizer:
    """The tokenizer that `save` wrote."""
    return Tokenizer.from_file(str(path))


def encode(tokenizer: Tokenizer, captions: list[str], length: int) -> np.ndarray:
    """Token ids `(b, length)` int32, cut or padded with 0."""
    out = np.zeros((len(captions), length), np.int32)
    for row, encoding in zip(out, tokenizer.encode_batch(captions), strict=True):
        row[: min(length, len(encoding.ids))] = encoding.ids[:length]
    return out

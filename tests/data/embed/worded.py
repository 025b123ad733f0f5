"""Tiny models with both towers in the files of published ones, and tokenizers as they come with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.data.embed import published
from tests.data.embed.published import PROJECTED, WIDTH, wave

LENGTH, TEXT_WIDTH, TEXT_DEPTH = 12, 24, 2
WORDS = ("a", "photo", "of", "green", "red", "square", "the")
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
TEXTS = ["", "A photo of a RED square!", "the green, green square", "x", "a photo of the " * 20, "naïve  café\n"]


def clip_tokenizer() -> Tokenizer:
    """Byte pairs as CLIP has them: any byte, alone or at a word's end, the words of WORDS, start and end."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges, pieces = _merges("</w>")
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *pieces, "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: k for k, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    start, end = (tokenizer.token_to_id(token) for token in ("<|startoftext|>", "<|endoftext|>"))
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", end), ("<|startoftext|>", start), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return tokenizer


def sentencepiece_tokenizer() -> Tokenizer:
    """A unigram model as SigLIP has it, without what cleans a text, and with an end of its own."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -4.0), *((letter, -5.0) for letter in ALPHABET)]
    tokenizer = Tokenizer(models.Unigram([*pieces, *((f"▁{word}", -3.0) for word in WORDS)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


def gemma_tokenizer() -> Tokenizer:
    """Byte pairs as SigLIP 2 has them: words keep the space before them, and the file says no end."""
    merges, pieces = _merges("")
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", "!", ",", *ALPHABET, *pieces]
    vocabulary = {token: k for k, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>"])
    return tokenizer


def _merges(suffix: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Pairs by which WORDS are built letter by letter, and what they build."""
    merges: dict[tuple[str, str], str] = {}
    for word in WORDS:
        letters = [*word[:-1], word[-1] + suffix]
        for k in range(1, len(letters)):
            left = "".join(letters[:k])
            merges[left, letters[k]] = left + letters[k]
    return list(merges), list(merges.values())


TOKENIZERS = {"clip": clip_tokenizer, "siglip": sentencepiece_tokenizer, "siglip2": gemma_tokenizer}


def arrays(kind: str, vocabulary: int) -> dict[str, np.ndarray]:
    """Those of a text tower, as `published.arrays`."""
    d, tower = TEXT_WIDTH, "text_model."
    shapes: dict[str, tuple[int, ...]] = {
        f"{tower}embeddings.token_embedding.weight": (vocabulary, d),
        f"{tower}embeddings.position_embedding.weight": (LENGTH, d),
        "logit_scale": () if kind == "clip" else (1,),
    }
    shapes |= {"text_projection.weight": (PROJECTED, d)} if kind == "clip" else {"logit_bias": (1,)}
    linears = {} if kind == "clip" else {f"{tower}head": (WIDTH, d)}
    norms = [f"{tower}final_layer_norm"]
    for k in range(TEXT_DEPTH):
        layer = f"{tower}encoder.layers.{k}."
        linears |= {f"{layer}self_attn.{part}_proj": (d, d) for part in ("q", "k", "v", "out")}
        linears |= {f"{layer}mlp.fc1": (2 * d, d), f"{layer}mlp.fc2": (d, 2 * d)}
        norms += [f"{layer}layer_norm1", f"{layer}layer_norm2"]
    shapes |= {f"{name}.weight": shape for name, shape in linears.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linears.items()}
    shapes |= {f"{name}.{part}": (d,) for name in norms for part in ("weight", "bias")}
    found = {name: wave(name, shape) for name, shape in shapes.items()}
    return {name: x + 1 if _is_gain(name) else x for name, x in found.items()}


def config(kind: str, tokenizer: Tokenizer) -> dict[str, Any]:
    """As `published.config`; CLIP's with its end as newer files have it."""
    text = {
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 2 * TEXT_WIDTH,
        "num_hidden_layers": TEXT_DEPTH,
        "num_attention_heads": 3,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": LENGTH,
    }
    own = {"eos_token_id": tokenizer.token_to_id("<|endoftext|>")} if kind == "clip" else {"projection_size": WIDTH}
    return published.config(kind) | {"text_config": text | own}


def write(folder: Path, kind: str) -> Path:
    """The four files of a model of a `kind` of TOKENIZERS."""
    family, tokenizer = kind.removesuffix("2"), TOKENIZERS[kind]()
    published.write(folder, family)
    both = published.arrays(family) | arrays(family, tokenizer.get_vocab_size())
    save_file(both, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config(family, tokenizer)))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_colours(folder: Path) -> Path:
    """A CLIP of one attention that knows two words: pictures more red than green, and texts with "red", have one
    vector; the others, and "green", its opposite. A text with neither word, or as many of both, has the vector 0."""
    write(folder, "clip")
    tokenizer = clip_tokenizer()
    zeros = published.arrays("clip") | arrays("clip", tokenizer.get_vocab_size())
    found = {name: np.full_like(x, _is_gain(name)) for name, x in zeros.items()}
    opposite = np.array([1, -1], np.float32)
    found["vision_model.embeddings.patch_embedding.weight"][:2, :2] = np.outer(opposite, opposite)[..., None, None]
    for word, sign in (("red", 1), ("green", -1)):
        found["text_model.embeddings.token_embedding.weight"][tokenizer.token_to_id(f"{word}</w>"), :2] = (
            sign * opposite
        )
    for tower, projection in (("vision", "visual"), ("text", "text")):
        for part in ("v", "out"):  # queries and keys of 0 see all tokens alike
            weight = found[f"{tower}_model.encoder.layers.0.self_attn.{part}_proj.weight"]
            np.fill_diagonal(weight, 1)
        np.fill_diagonal(found[f"{projection}_projection.weight"], 1)
    save_file(found, folder / "model.safetensors")
    return folder


def _is_gain(name: str) -> bool:
    return "norm" in name and name.endswith(".weight")

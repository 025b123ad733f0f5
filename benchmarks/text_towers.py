"""Text towers beside `transformers`: token ids, vectors of texts and pictures, and logits, at random weights.

Install:   python -m pip install -e . torch transformers sentencepiece
Command:   python -m benchmarks.text_towers [--seed 0]
Hardware:  two CPU cores, about a minute.

CLIP, SigLIP and SigLIP 2 (of a fixed size) with two layers of width 64, saved by `transformers`; their tokenizers too,
except for SigLIP's: sentencepiece learns it here from a few sentences, `transformers` reads it with its own class, and
Diorama a tokenizer.json of the same pieces. Texts are empty, short, long enough to be cut, of punctuation alone, and in
other scripts. The figures are the largest absolute differences; ids are counted that differ where they are seen.
There are no published weights here: what is compared is the computation. The last line is JSON.
"""

import argparse
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from diorama.data.embed import PretrainedText
from diorama.data.embed.pictures import unit
from diorama.data.embed.pretrained import load_vision
from diorama.data.embed.pretrained_text import load_text

WIDTH, SIDE, PATCH = 64, 16, 4
WORDS = ("a photo of the red square", "the green lamp on a table", "two people walk along the sea", "a dog's bone")
TEXTS = [
    "", "a", "A photo of the RED square!", "a dog's bone, isn't it?", " two   people\twalk\n", "!?...", "naïve café",
    "日本語 и русский", "x1 22 333", "the green lamp on a table. " * 30, "e" * 500,
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model of `transformers`, and its ids of TEXTS, with 1 where they count as a mask if it has one."""

    model: Any
    ids: np.ndarray
    mask: np.ndarray | None


def clip(folder: Path, old: bool) -> Case:
    """CLIP; `old` with the end of older configurations."""
    import transformers as hf

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e</w>"), ("o", "f</w>"), ("r", "e"), ("re", "d</w>"), ("p", "h"), ("ph", "o")]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), "<|startoftext|>"]
    vocabulary = {token: k for k, token in enumerate([*tokens, "<|endoftext|>"])}
    tokenizer = hf.CLIPTokenizer(vocabulary, merges)
    tokenizer.save_pretrained(folder)
    text = size() | {"vocab_size": len(vocabulary), "eos_token_id": 2 if old else len(vocabulary) - 1}
    model = hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision(), projection_dim=48))
    said = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=77, return_tensors="np")
    return Case(model, said["input_ids"], said["attention_mask"])


def siglip(folder: Path) -> Case:
    """SigLIP, whose tokenizer is sentencepiece's."""
    import sentencepiece
    import transformers as hf

    prefix = folder / "spiece"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 20), model_prefix=str(prefix), vocab_size=60, model_type="unigram",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    scores = [(pieces.id_to_piece(k), pieces.get_score(k)) for k in range(len(pieces))]
    ours = Tokenizer(models.Unigram(scores, unk_id=2))
    ours.normalizer = normalizers.NFKC()
    ours.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    ours.add_special_tokens(["</s>"])
    ours.save(str(folder / "tokenizer.json"))
    tokenizer = hf.SiglipTokenizer(f"{prefix}.model")
    said = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=64, return_tensors="np")
    text = size() | {"vocab_size": len(pieces), "projection_size": WIDTH}
    return Case(hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=vision())), said["input_ids"], None)


def siglip2(folder: Path) -> Case:
    """SigLIP 2 of a fixed size: a SigLIP with Gemma's byte pairs, as its published folders set them."""
    import transformers as hf

    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("▁", "o"), ("▁o", "f"), ("r", "e"), ("re", "d")]
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    tokens += [*"abcdefghijklmnopqrstuvwxyz!?.,'", *map("".join, merges)]
    vocabulary = {token: k for k, token in enumerate(tokens)}
    options = {"add_eos_token": True, "add_bos_token": False, "padding_side": "right"}
    tokenizer = hf.models.siglip2.Siglip2Tokenizer(vocabulary, merges, **options)
    tokenizer.save_pretrained(folder)
    said = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=64, return_tensors="np")
    text = size() | {"vocab_size": len(vocabulary), "projection_size": WIDTH}
    return Case(hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=vision())), said["input_ids"], None)


def size() -> dict[str, int]:
    """Of a tower."""
    return {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}


def vision() -> dict[str, int]:
    """Of the tower of pictures."""
    return size() | {"image_size": SIDE, "patch_size": PATCH}


def compare(case: Case, folder: Path) -> dict[str, float]:
    """Largest differences of ids, vectors, cosines and logits."""
    import torch

    with torch.no_grad():
        for parameter in case.model.eval().parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        case.model.save_pretrained(folder)
        x = torch.rand(3, 3, SIDE, SIDE) * 4 - 2
        given = {"input_ids": torch.tensor(case.ids), "pixel_values": x}
        given |= {} if case.mask is None else {"attention_mask": torch.tensor(case.mask)}
        out = case.model(**given)
        texts, pictures = (tower.pooler_output.numpy() for tower in (out.text_model_output, out.vision_model_output))
    network, tokenise = load_text(folder)
    ids, at = tokenise(TEXTS)
    seen = np.arange(ids.shape[1]) <= at[:, None]
    ours = np.asarray(network(ids, at))
    seen_pictures = np.asarray(load_vision(folder, SIDE)(np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())))
    words = PretrainedText(str(folder), batch=4)(TEXTS)
    cosines = words @ unit(seen_pictures).T
    scale = case.model.logit_scale.exp().item()
    bias = case.model.logit_bias.item() if hasattr(case.model, "logit_bias") else 0.0
    return {
        "ids that differ": int((ids != case.ids)[seen].sum()),
        "of": int(seen.sum()),
        "texts": float(np.abs(ours - texts).max()),
        "largest": float(np.abs(texts).max()),
        "texts, of length 1": float(np.abs(words - out.text_embeds.numpy()).max()),
        "pictures": float(np.abs(seen_pictures - pictures).max()),
        "cosines": float(np.abs(cosines - (out.text_embeds @ out.image_embeds.T).numpy()).max()),
        "logits": float(np.abs(scale * cosines + bias - out.logits_per_text.numpy()).max()),
        "largest logit": float(out.logits_per_text.abs().max()),
    }


def main() -> None:
    """As the module says."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    makers = {"CLIP": lambda folder: clip(folder, old=False), "CLIP of old": lambda folder: clip(folder, old=True),
              "SigLIP": siglip, "SigLIP 2": siglip2}  # fmt: skip
    report: dict[str, Any] = {"n": len(TEXTS), "seed": options.seed}
    for name, make in makers.items():
        torch.manual_seed(options.seed)
        with tempfile.TemporaryDirectory() as path:
            report[name] = compare(make(Path(path)), Path(path))
        print(f"{name:<12} " + ", ".join(f"{what} {value:.3g}" for what, value in report[name].items()), flush=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()

"""Texts as vectors in the space of pictures, by the text tower of a folder that holds both, without PyTorch."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Float, Int
from diorama.core.errors import UserError
from diorama.data.embed.pictures import unit
from diorama.data.embed.text_tower import TextTransformer
from diorama.data.embed.tokens import Tokenise, clip, siglip
from diorama.data.embed.weights import CLIP, Family, Weights, load
from diorama.net.layers import Linear

FILES = ("config.json", "model.safetensors", "tokenizer.json")
STEP = 16  # tokens by which lengths differ: a text is not computed longer than it needs, and few shapes are compiled
_FAMILIES = {
    "clip": Family(
        CLIP,
        {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_attention_heads": 8, "eos_token_id": 49407},
    ),
    "siglip": Family(CLIP, {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}),
}


@dataclass(frozen=True)
class PretrainedText:
    """Vectors of length 1 by the text tower in `folder`: config.json, model.safetensors and tokenizer.json of a CLIP or
    SigLIP (also SigLIP 2 of a fixed size). They lie in the space of those that `Pretrained` gives for the same folder:

        derived=(Pretrained("clip-vit-base-patch32"), Agreement(PretrainedText("clip-vit-base-patch32")))

    A text longer than the tower takes, 77 tokens for CLIP and 64 for SigLIP, is judged by its beginning. A vector
    depends on its text alone, whichever texts come with it, but for rounding. The folder is read at the first text,
    and kept as long as its files stay as they are. batch: texts at a time.
    """

    folder: str
    batch: int = field(default=32, compare=False)

    @property
    def weights(self) -> tuple[Path, ...]:
        """The folder's files."""
        return tuple(Path(self.folder) / name for name in FILES)

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Vectors (n, e) float32 of n texts; an empty text has one too.

        Raises `UserError` for a folder that is not of a kind known here.
        """
        stamps = tuple((path.stat().st_size, path.stat().st_mtime_ns) for path in self.weights if path.exists())
        network, tokenise = _loaded(Path(self.folder), stamps)
        once = list(dict.fromkeys(texts))  # captions from templates repeat
        ids, at = tokenise(once)
        if ids.size and ids.max() >= len(network.tokens):
            raise UserError(f"{self.folder} has a tokenizer of more tokens than the {len(network.tokens)} of its model")
        vectors = np.zeros((len(once), len(network.head.bias)), np.float32)
        lengths = np.minimum(-(-(at + 1) // STEP) * STEP, ids.shape[1])  # what follows the one at `at` is never seen
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            for part in np.split(rows, range(self.batch, len(rows), self.batch)):
                padded = np.resize(part, self.batch)  # to one shape, which is compiled once
                vectors[part] = _run(network, ids[padded, :length], at[padded])[: len(part)]
        where = {text: row for row, text in enumerate(once)}
        return unit(vectors)[[where[text] for text in texts]]


@jax.jit
def _run(network: TextTransformer, ids: Int[Array, "b l"], at: Int[Array, "b"]) -> Float[Array, "b e"]:
    return network(ids, at)


@lru_cache(maxsize=1)
def _loaded(folder: Path, stamps: tuple[tuple[int, int], ...]) -> tuple[TextTransformer, Tokenise]:
    return load_text(folder)


def load_text(folder: Path) -> tuple[TextTransformer, Tokenise]:
    """The encoder of texts in `folder`, and what makes its token ids of them.

    Raises `UserError` where a file is missing or damaged, or the model is of another kind.
    """
    return load(folder, "text", _FAMILIES, lambda kind, weights: _tower(folder, kind, weights))


def _tower(folder: Path, kind: str, weights: Weights) -> tuple[TextTransformer, Tokenise]:
    positions = weights.array("text_model.embeddings.position_embedding.weight")
    if kind == "clip":
        projection = weights.projection("text_projection")
        head = Linear(projection, jnp.zeros(projection.shape[1]))
        tokenise = clip(folder, len(positions), weights.config["eos_token_id"])
    else:
        head, tokenise = weights.linear("text_model.head"), siglip(folder, len(positions))
    network = TextTransformer(
        tokens=weights.array("text_model.embeddings.token_embedding.weight"),
        positions=positions,
        blocks=weights.blocks("text_model.encoder.layers.{}.", causal=kind == "clip"),
        after=weights.norm("text_model.final_layer_norm"),
        head=head,
    )
    return network, tokenise

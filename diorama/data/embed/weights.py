"""Modules out of a folder of a published model: its configuration, and its arrays by the names they have there."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from diorama.core.errors import UserError
from diorama.data.embed.vit import ACTIVATIONS, Attention, Block, LayerNorm, Perceptron
from diorama.net.layers import Linear

T = TypeVar("T")
OTHER = {"vision": "text_model.", "text": "vision_model."}  # what a tower can do without


@dataclass(frozen=True)
class Names:
    """How a family calls a block's parts: its norms; query, key, value and output of its attention."""

    norms: tuple[str, str]
    attention: tuple[str, str, str, str]


CLIP = Names(
    norms=("layer_norm1", "layer_norm2"),
    attention=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"),
)
DINO = Names(
    norms=("norm1", "norm2"),
    attention=(
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
        "attention.output.dense",
    ),
)


@dataclass(frozen=True)
class Family:
    """The names of a kind of model, and what a configuration of it means where it says nothing."""

    names: Names
    usual: Mapping[str, Any]


def load(
    folder: Path,
    tower: Literal["vision", "text"],
    families: Mapping[str, Family],
    make: Callable[[str, "Weights"], T],
) -> T:
    """What `make` builds of the kind of the model in `folder` and of the weights of one of its towers.

    Raises `UserError` where a file is missing or damaged, or the model is of another kind.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        with safe_open(folder / "model.safetensors", framework="numpy") as file:
            wanted = [name for name in file.keys() if not name.startswith(OTHER[tower])]  # noqa: SIM118
            arrays = {name: file.get_tensor(name) for name in wanted}
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder} is no folder of an encoder: {error}") from None
    kind = str(config.get("model_type")).removesuffix(f"_{tower}_model")
    if kind not in families:
        raise UserError(f"{folder} holds a model of type '{kind}': known are {', '.join(families)}")
    # older files say a tower twice, and what counts is the dictionary
    said = config.get(f"{tower}_config_dict") or config.get(f"{tower}_config", config)
    config = {"num_attention_heads": 12, "num_hidden_layers": 12, **families[kind].usual, **said}
    if config.get("use_swiglu_ffn") or config["hidden_act"] not in ACTIVATIONS:
        raise UserError(f"{folder} has perceptrons of a kind not known here: known are {', '.join(ACTIVATIONS)}")
    try:
        return make(kind, Weights(arrays, config, families[kind].names))
    except KeyError as error:
        raise UserError(f"{folder} lacks {error}: it is not as {kind} is published") from None


@dataclass(frozen=True)
class Weights:
    """Modules out of the arrays of a file. Raises `KeyError` for one that is missing."""

    arrays: dict[str, np.ndarray]
    config: dict[str, Any]
    names: Names

    def blocks(self, name: str, *, causal: bool = False) -> Block:
        """Those of `name`, in which {} is a block's number, stacked."""
        blocks = [self.block(name.format(k), causal) for k in range(self.config["num_hidden_layers"])]
        return jax.tree.map(lambda *x: jnp.stack(x), *blocks)

    def block(self, name: str, causal: bool) -> Block:
        """One of them."""

        def scale(which: int) -> Any:
            path = f"{name}layer_scale{which}.lambda1"
            return self.array(path) if path in self.arrays else None

        q, k, v, out = (self.linear(name + part) for part in self.names.attention)
        attention = Attention(q, k, v, out, self.config["num_attention_heads"], causal)
        norm1, norm2 = (self.norm(name + part) for part in self.names.norms)
        return Block(norm1, attention, scale(1), norm2, self.perceptron(f"{name}mlp."), scale(2))

    def perceptron(self, name: str) -> Perceptron:
        """That of a block, or of a pool."""
        return Perceptron(self.linear(f"{name}fc1"), self.linear(f"{name}fc2"), self.config["hidden_act"])

    def linear(self, name: str) -> Linear:
        """A layer with a bias."""
        return Linear(self.array(f"{name}.weight").T, self.array(f"{name}.bias"))

    def projection(self, name: str) -> Any:
        """A layer's matrix (d, e), for one without a bias."""
        return self.array(f"{name}.weight").T

    def norm(self, name: str) -> LayerNorm:
        """A norm's gain and bias."""
        return LayerNorm(self.array(f"{name}.weight"), self.array(f"{name}.bias"), self.config["layer_norm_eps"])

    def array(self, name: str) -> Any:
        """An array in float32, whatever the file keeps it in."""
        return jnp.asarray(self.arrays[name], jnp.float32)

"""An embedding by a published encoder: a folder of CLIP, SigLIP or DINOv2 as Hugging Face has it, without PyTorch."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load_file

from diorama.core.errors import UserError
from diorama.data.embed.pictures import embed, picture
from diorama.data.embed.preprocess import Preprocess
from diorama.data.embed.vit import (
    ACTIVATIONS,
    Attention,
    AttentionPool,
    Block,
    LayerNorm,
    Perceptron,
    VisionTransformer,
)
from diorama.data.stages.stage import Batch
from diorama.net.layers import Linear


@dataclass(frozen=True)
class Pretrained:
    """Vectors of length 1 by the encoder of pictures in `folder`: config.json, model.safetensors, and
    preprocessor_config.json of a CLIP, SigLIP (also SigLIP 2 of a fixed size) or DINOv2 (with registers or without).

    A video's vector is the mean over its previews. Needs the stage `Preview`, best with a side no smaller than what the
    encoder sees. batch: pictures at a time.
    """

    folder: str
    batch: int = 16
    name: ClassVar[str] = "embedding"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"vector": np.ndarray}
    reads: ClassVar[tuple[str, ...]] = ("preview.images",)

    @property
    def weights(self) -> tuple[Path, ...]:
        """The folder's files."""
        return tuple(Path(self.folder) / name for name in FILES)

    def prepare(self, models: Path, sample: Callable[[int], pa.Table]) -> Batch:
        """As `Derived.prepare`. Raises `UserError` for a folder that is not of a kind known here."""
        prepare = Preprocess.read(Path(self.folder) / "preprocessor_config.json")
        network = load_vision(Path(self.folder), prepare.shape[0])
        run = jax.jit(lambda network, x: network(x))

        def encode(pictures: np.ndarray) -> np.ndarray:
            rows = np.zeros((self.batch, *pictures.shape[1:]), np.float32)  # to one shape, which is compiled once
            rows[: len(pictures)] = pictures
            return np.asarray(run(network, rows))[: len(pictures)]

        return lambda table: embed(table["preview.images"], lambda data: prepare(picture(data)), encode, self.batch)


FILES = ("config.json", "model.safetensors", "preprocessor_config.json")


# The names of a block's parts: its norms; query, key, value and output; what scales the branches.
_CLIP = {
    "block": "vision_model.encoder.layers.{}.", "norm1": "layer_norm1", "norm2": "layer_norm2",
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "out": "self_attn.out_proj",
}  # fmt: skip
_DINO = {
    "block": "encoder.layer.{}.", "norm1": "norm1", "norm2": "norm2",
    "q": "attention.attention.query", "k": "attention.attention.key", "v": "attention.attention.value",
    "out": "attention.output.dense",
}  # fmt: skip
# What a configuration leaves out is so in each family.
_FAMILIES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "clip": (_CLIP, {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}),
    "siglip": (_CLIP, {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}),
    "dinov2": (_DINO, {"hidden_act": "gelu", "layer_norm_eps": 1e-6}),
    "dinov2_with_registers": (_DINO, {"hidden_act": "gelu", "layer_norm_eps": 1e-6}),
}


def load_vision(folder: Path, side: int) -> VisionTransformer:
    """The encoder of pictures in `folder`, for pictures of `side` pixels.

    Raises `UserError` where a file is missing or damaged, or the model is of another kind.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        arrays = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder} is no folder of an encoder: {error}") from None
    kind = str(config.get("model_type")).removesuffix("_vision_model")
    if kind not in _FAMILIES:
        raise UserError(f"{folder} holds a model of type '{kind}': known are {', '.join(_FAMILIES)}")
    names, usual = _FAMILIES[kind]
    config = {"num_attention_heads": 12, **usual, **config.get("vision_config", config)}
    if config.get("use_swiglu_ffn") or config["hidden_act"] not in ACTIVATIONS:
        raise UserError(f"{folder} has perceptrons of a kind not known here: known are {', '.join(ACTIVATIONS)}")
    try:
        return _Weights(arrays, config, names).network(kind, side)
    except KeyError as error:
        raise UserError(f"{folder} lacks {error}: it is not as {kind} is published") from None


@dataclass(frozen=True)
class _Weights:
    """Modules out of the arrays of a file. Raises `KeyError` for one that is missing."""

    arrays: dict[str, np.ndarray]
    config: dict[str, Any]
    names: dict[str, str]

    def network(self, kind: str, side: int) -> VisionTransformer:
        dino = self.names is _DINO
        place = "embeddings." if dino else "vision_model.embeddings."
        patches = place + ("patch_embeddings.projection" if dino else "patch_embedding")
        kernel = self.array(f"{patches}.weight")  # (d, 3, p, p)
        width, patch = kernel.shape[0], kernel.shape[-1]
        if side % patch:
            raise UserError(f"pictures of {side} pixels do not divide into patches of {patch}")
        bias = self.array(f"{patches}.bias") if f"{patches}.bias" in self.arrays else jnp.zeros(width)
        positions = self.array(place + ("position_embeddings" if dino else "position_embedding.weight"))
        positions = positions.reshape(-1, width)
        token = place + ("cls_token" if dino else "class_embedding")
        first = jnp.zeros((0, width))
        if token in self.arrays:
            first, positions = self.array(token).reshape(1, width) + positions[:1], positions[1:]
        if kind == "dinov2_with_registers":
            first = jnp.concatenate([first, self.array("embeddings.register_tokens").reshape(-1, width)])
        depth = sum(name.endswith(f"{self.names['norm1']}.weight") for name in self.arrays
                    if name.startswith(self.names["block"].partition("{")[0]))  # fmt: skip
        blocks = [self.block(self.names["block"].format(k)) for k in range(depth)]
        projection = self.arrays.get("visual_projection.weight")
        return VisionTransformer(
            enter=Linear(kernel.transpose(2, 3, 1, 0).reshape(-1, width), bias),
            first=first,
            positions=resized(positions, side // patch, antialias=kind == "dinov2_with_registers"),
            before=self.norm("vision_model.pre_layrnorm") if kind == "clip" else None,  # spelt so
            blocks=jax.tree.map(lambda *x: jnp.stack(x), *blocks),
            after=self.norm("layernorm" if dino else "vision_model.post_layernorm"),
            pool=self.pool("vision_model.head.") if kind == "siglip" else None,
            projection=None if projection is None else jnp.asarray(projection, jnp.float32).T,
            patch=patch,
        )

    def block(self, name: str) -> Block:
        def scale(which: int) -> Any:
            path = f"{name}layer_scale{which}.lambda1"
            return self.array(path) if path in self.arrays else None

        q, k, v, out = (self.linear(name + self.names[part]) for part in ("q", "k", "v", "out"))
        attention = Attention(q, k, v, out, self.config["num_attention_heads"])
        norm1, norm2 = (self.norm(name + self.names[part]) for part in ("norm1", "norm2"))
        return Block(norm1, attention, scale(1), norm2, self.perceptron(f"{name}mlp."), scale(2))

    def pool(self, name: str) -> AttentionPool:
        weights = jnp.split(self.array(f"{name}attention.in_proj_weight").T, 3, axis=1)
        q, k, v = map(Linear, weights, jnp.split(self.array(f"{name}attention.in_proj_bias"), 3))
        attention = Attention(q, k, v, self.linear(f"{name}attention.out_proj"), self.config["num_attention_heads"])
        norm, perceptron = self.norm(f"{name}layernorm"), self.perceptron(f"{name}mlp.")
        return AttentionPool(self.array(f"{name}probe").reshape(-1), attention, norm, perceptron)

    def perceptron(self, name: str) -> Perceptron:
        return Perceptron(self.linear(f"{name}fc1"), self.linear(f"{name}fc2"), self.config["hidden_act"])

    def linear(self, name: str) -> Linear:
        return Linear(self.array(f"{name}.weight").T, self.array(f"{name}.bias"))

    def norm(self, name: str) -> LayerNorm:
        return LayerNorm(self.array(f"{name}.weight"), self.array(f"{name}.bias"), self.config["layer_norm_eps"])

    def array(self, name: str) -> Any:
        return jnp.asarray(self.arrays[name], jnp.float32)


def resized(positions: Any, side: int, *, antialias: bool) -> Any:
    """Positions (n * n, d) of a square of patches for one of side x side, by cubic convolution (Keys 1981).

    With the constant of the library that the models were trained with: -0.5 and a kernel as wide as the step where it
    is antialiased, -0.75 and borders repeated where it is not.
    """
    n = round(len(positions) ** 0.5)
    if n == side:
        return positions
    a, width = (-0.5, max(n / side, 1.0)) if antialias else (-0.75, 1.0)
    at = (np.arange(side) + 0.5) * n / side - 0.5
    reach = np.arange(0 if antialias else -2, n if antialias else n + 2)
    x = np.abs(at[:, None] - reach) / width
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
    weight = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
    matrix = np.zeros((side, n))
    np.add.at(matrix.T, np.clip(reach, 0, n - 1), weight.T)
    matrix /= matrix.sum(1, keepdims=True)
    grid = np.asarray(positions, np.float64).reshape(n, n, -1)
    return jnp.asarray(np.einsum("ih,jw,hwd->ijd", matrix, matrix, grid).reshape(side * side, -1), jnp.float32)

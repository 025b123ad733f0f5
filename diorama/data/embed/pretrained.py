"""An embedding by a published encoder: a folder of CLIP, SigLIP or DINOv2 as Hugging Face has it, without PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from diorama.core.errors import UserError
from diorama.data.embed.pictures import embed, picture
from diorama.data.embed.preprocess import Preprocess
from diorama.data.embed.vit import Attention, AttentionPool, VisionTransformer
from diorama.data.embed.weights import CLIP, DINO, Family, Weights, load
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
_FAMILIES = {
    "clip": Family(CLIP, {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}),
    "siglip": Family(CLIP, {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}),
    "dinov2": Family(DINO, {"hidden_act": "gelu", "layer_norm_eps": 1e-6}),
    "dinov2_with_registers": Family(DINO, {"hidden_act": "gelu", "layer_norm_eps": 1e-6}),
}


def load_vision(folder: Path, side: int) -> VisionTransformer:
    """The encoder of pictures in `folder`, for pictures of `side` pixels.

    Raises `UserError` where a file is missing or damaged, or the model is of another kind.
    """
    return load(folder, "vision", _FAMILIES, lambda kind, weights: _network(kind, weights, side))


def _network(kind: str, weights: Weights, side: int) -> VisionTransformer:
    dino = weights.names is DINO
    tower = "" if dino else "vision_model."
    patches = f"{tower}embeddings.{'patch_embeddings.projection' if dino else 'patch_embedding'}"
    kernel = weights.array(f"{patches}.weight")  # (d, 3, p, p)
    width, patch = kernel.shape[0], kernel.shape[-1]
    if side % patch:
        raise UserError(f"pictures of {side} pixels do not divide into patches of {patch}")
    bias = weights.array(f"{patches}.bias") if f"{patches}.bias" in weights.arrays else jnp.zeros(width)
    positions = weights.array(f"{tower}embeddings.position_embedding{'s' if dino else '.weight'}").reshape(-1, width)
    token = f"{tower}embeddings.{'cls_token' if dino else 'class_embedding'}"
    first = jnp.zeros((0, width))
    if token in weights.arrays:
        first, positions = weights.array(token).reshape(1, width) + positions[:1], positions[1:]
    if kind == "dinov2_with_registers":
        first = jnp.concatenate([first, weights.array("embeddings.register_tokens").reshape(-1, width)])
    projected = "visual_projection.weight" in weights.arrays
    return VisionTransformer(
        enter=Linear(kernel.transpose(2, 3, 1, 0).reshape(-1, width), bias),
        first=first,
        positions=resized(positions, side // patch, antialias=kind == "dinov2_with_registers"),
        before=weights.norm("vision_model.pre_layrnorm") if kind == "clip" else None,  # spelt so
        blocks=weights.blocks("encoder.layer.{}." if dino else "vision_model.encoder.layers.{}."),
        after=weights.norm("layernorm" if dino else "vision_model.post_layernorm"),
        pool=_pool(weights, "vision_model.head.") if kind == "siglip" else None,
        projection=weights.projection("visual_projection") if projected else None,
        patch=patch,
    )


def _pool(weights: Weights, name: str) -> AttentionPool:
    parts = jnp.split(weights.array(f"{name}attention.in_proj_weight").T, 3, axis=1)
    q, k, v = map(Linear, parts, jnp.split(weights.array(f"{name}attention.in_proj_bias"), 3))
    heads = weights.config["num_attention_heads"]
    attention = Attention(q, k, v, weights.linear(f"{name}attention.out_proj"), heads)
    norm, perceptron = weights.norm(f"{name}layernorm"), weights.perceptron(f"{name}mlp.")
    return AttentionPool(weights.array(f"{name}probe").reshape(-1), attention, norm, perceptron)


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

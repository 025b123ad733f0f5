"""Tiny models in the files of published ones: every weight from a formula of its name, so that none is kept here."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

WIDTH, DEPTH, PATCH, SIDE, REGISTERS, PROJECTED = 16, 2, 4, 16, 2, 12
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": 2, "image_size": SIDE,
         "patch_size": PATCH}  # fmt: skip
KINDS = ("clip", "siglip", "dinov2", "dinov2_with_registers")


def wave(name: str, shape: tuple[int, ...], scale: float = 0.4) -> np.ndarray:
    """Numbers between -scale and scale that depend on nothing but the name and the shape."""
    at = np.arange(np.prod(shape, dtype=int)) * 1.7 + zlib.crc32(name.encode()) % 97
    return (scale * np.sin(at)).reshape(shape).astype(np.float32)


def pictures(side: int) -> np.ndarray:
    """Three normalised pictures (3, side, side, 3)."""
    return wave("pictures", (3, side, side, 3), 2.0)


def arrays(kind: str) -> dict[str, np.ndarray]:
    """Names and shapes of the arrays of a published vision tower, with values by `wave`."""
    shapes = dict(_dino(kind) if kind.startswith("dino") else _clip(kind))
    found = {name: wave(name, shape) for name, shape in shapes.items()}
    gains = ("norm.weight", "norm1.weight", "norm2.weight", "layrnorm.weight", "lambda1")
    return {name: x + 1 if name.endswith(gains) else x for name, x in found.items()}


def _linear(name: str, i: int, o: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (o, i), f"{name}.bias": (o,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def _mlp(name: str, hidden: int) -> dict[str, tuple[int, ...]]:
    return _linear(f"{name}.fc1", WIDTH, hidden) | _linear(f"{name}.fc2", hidden, WIDTH)


def _clip(kind: str) -> dict[str, tuple[int, ...]]:
    tower, cells = "vision_model.", (SIDE // PATCH) ** 2
    out = {f"{tower}embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH)}
    out[f"{tower}embeddings.position_embedding.weight"] = (cells + (kind == "clip"), WIDTH)
    for k in range(DEPTH):
        layer = f"{tower}encoder.layers.{k}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            out |= _linear(f"{layer}self_attn.{part}", WIDTH, WIDTH)
        out |= _norm(f"{layer}layer_norm1") | _norm(f"{layer}layer_norm2") | _mlp(f"{layer}mlp", 2 * WIDTH)
    out |= _norm(f"{tower}post_layernorm")
    if kind == "clip":
        out |= {f"{tower}embeddings.class_embedding": (WIDTH,), "visual_projection.weight": (PROJECTED, WIDTH)}
        return out | _norm(f"{tower}pre_layrnorm")
    head = f"{tower}head."
    out |= {f"{tower}embeddings.patch_embedding.bias": (WIDTH,), f"{head}probe": (1, 1, WIDTH)}
    out |= {f"{head}attention.in_proj_weight": (3 * WIDTH, WIDTH), f"{head}attention.in_proj_bias": (3 * WIDTH,)}
    out |= _linear(f"{head}attention.out_proj", WIDTH, WIDTH)
    return out | _norm(f"{head}layernorm") | _mlp(f"{head}mlp", 2 * WIDTH)


def _dino(kind: str) -> dict[str, tuple[int, ...]]:
    out = {"embeddings.cls_token": (1, 1, WIDTH), "embeddings.mask_token": (1, WIDTH)}
    out["embeddings.position_embeddings"] = (1, (SIDE // PATCH) ** 2 + 1, WIDTH)
    out["embeddings.patch_embeddings.projection.weight"] = (WIDTH, 3, PATCH, PATCH)
    out["embeddings.patch_embeddings.projection.bias"] = (WIDTH,)
    if kind.endswith("registers"):
        out["embeddings.register_tokens"] = (1, REGISTERS, WIDTH)
    for k in range(DEPTH):
        layer = f"encoder.layer.{k}."
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            out |= _linear(f"{layer}attention.{part}", WIDTH, WIDTH)
        out |= _norm(f"{layer}norm1") | _norm(f"{layer}norm2") | _mlp(f"{layer}mlp", 4 * WIDTH)
        out |= {f"{layer}layer_scale{n}.lambda1": (WIDTH,) for n in (1, 2)}
    return out | _norm("layernorm")


def config(kind: str) -> dict[str, Any]:
    """A configuration as it is published; what it leaves out is usual in the family."""
    if kind.startswith("dino"):
        registers = {"num_register_tokens": REGISTERS} if kind.endswith("registers") else {}
        return {"model_type": kind, **SIZES, **registers}
    vision = {"model_type": f"{kind}_vision_model", "intermediate_size": 2 * WIDTH,
              "projection_dim": PROJECTED, **SIZES}  # fmt: skip
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vocab_size": 50, "max_position_embeddings": 8}  # fmt: skip
    return {"model_type": kind, "projection_dim": PROJECTED, "vision_config": vision, "text_config": text}


PREPROCESS: dict[str, Any] = {
    "do_resize": True, "size": {"height": SIDE, "width": SIDE}, "resample": 3, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7],
}  # fmt: skip


def write(folder: Path, kind: str) -> Path:
    """The three files of a model."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(arrays(kind), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config(kind)))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESS))
    return folder

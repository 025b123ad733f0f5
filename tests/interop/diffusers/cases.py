"""Autoencoders small enough to test, one for each thing that published ones differ in; weights made from names; and
the configurations of the published ones, whose names and shapes alone are compared."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from diorama.interop.diffusers.pretrained import ARCHITECTURES
from diorama.interop.tensors import Tensors

RECORDED = Path(__file__).parent / "recorded" / "image.json"


def kl(widths: tuple[int, ...], **more: Any) -> dict[str, Any]:
    levels = len(widths)
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": list(widths),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "norm_num_groups": 4,
        **more,
    }


def dc(blocks: str, widths: tuple[int, ...], **more: Any) -> dict[str, Any]:
    """`blocks` has a letter a level: R (residual) or E (EfficientViT), for encoder and decoder."""
    kinds = [{"R": "ResBlock", "E": "EfficientViTBlock"}[letter] for letter in blocks]
    none: list[list[int]] = [[] for _ in widths]
    return {
        "_class_name": "AutoencoderDC",
        "encoder_block_types": kinds,
        "decoder_block_types": kinds,
        "encoder_block_out_channels": list(widths),
        "decoder_block_out_channels": list(widths),
        "encoder_qkv_multiscales": none,
        "decoder_qkv_multiscales": none,
        **more,
    }


CASES: dict[str, dict[str, Any]] = {
    "sd": kl((8, 16, 16), scaling_factor=0.18215),
    "sdxl_statistics": kl(
        (16, 8), use_post_quant_conv=False, norm_num_groups=8, scaling_factor=0.5,
        latents_mean=[-1.6, 1.1, 0.3, 2.3], latents_std=[8.4, 5.9, 5.3, 4.5],
    ),
    "flux": kl(
        (8, 12), layers_per_block=2, latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159,
        use_quant_conv=False, use_post_quant_conv=False,
    ),
    "rgba_without_attention": kl(
        (8, 12), in_channels=4, out_channels=4, mid_block_add_attention=False, act_fn="mish", use_quant_conv=False
    ),
    "one_level": kl((12,), act_fn="gelu", norm_num_groups=2),
    "dc_f32": dc(
        "RREE", (8, 16, 16, 32), latent_channels=8, attention_head_dim=8,
        encoder_layers_per_block=[0, 2, 1, 1], decoder_layers_per_block=[0, 1, 2, 1],
        decoder_norm_types=["batch_norm", "batch_norm", "rms_norm", "rms_norm"],
        decoder_act_fns=["relu", "relu", "silu", "silu"],
    ),
    "dc_sana": dc(
        "REE", (8, 16, 32), latent_channels=8, attention_head_dim=4, encoder_layers_per_block=[1, 2, 1],
        decoder_layers_per_block=[2, 1, 1], encoder_qkv_multiscales=[[], [5], [5]],
        decoder_qkv_multiscales=[[], [5], [3, 5]], downsample_block_type="conv", upsample_block_type="interpolate",
        scaling_factor=0.41407,
    ),
    "dc_without_shortcuts": dc(
        "EE", (12, 24), latent_channels=6, attention_head_dim=5, encoder_layers_per_block=[0, 1],
        decoder_layers_per_block=[0, 1], decoder_norm_types="batch_norm", encoder_out_shortcut=False,
        decoder_in_shortcut=False, decoder_conv_act_fn="silu", downsample_block_type="conv",
        upsample_block_type="interpolate",
    ),
}  # fmt: skip

SD = kl((128, 256, 512, 512), layers_per_block=2, norm_num_groups=32)


def deep(lower: tuple[int, ...], channels: int) -> dict[str, Any]:
    """The family of f32c32, f64c128 and f128c512: levels below the third have two EfficientViT blocks each."""
    n = len(lower)
    return dc(
        "RRR" + "E" * n, (128, 256, 512, *lower), latent_channels=channels,
        encoder_layers_per_block=[0, 4, 8] + [2] * n, decoder_layers_per_block=[0, 5, 10] + [2] * n,
        decoder_norm_types=["batch_norm"] * 3 + ["rms_norm"] * n, decoder_act_fns=["relu"] * 3 + ["silu"] * n,
    )  # fmt: skip


PUBLISHED: dict[str, dict[str, Any]] = {
    "stable-diffusion": SD,
    "stable-diffusion-xl": SD | {"scaling_factor": 0.13025, "sample_size": 1024},
    "stable-diffusion-3": SD
    | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
    | {"scaling_factor": 1.5305, "shift_factor": 0.0609},
    "flux": SD
    | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
    | {"scaling_factor": 0.3611, "shift_factor": 0.1159},
    "dc-ae-f32c32": deep((512, 1024, 1024), 32),
    "dc-ae-f64c128": deep((512, 1024, 1024, 2048), 128),
    "dc-ae-f128c512": deep((512, 1024, 1024, 2048, 2048), 512),
    "dc-ae-f32c32-sana": dc(
        "RRREEE", (128, 256, 512, 512, 1024, 1024), encoder_qkv_multiscales=[[], [], [], [5], [5], [5]],
        decoder_qkv_multiscales=[[], [], [], [5], [5], [5]], downsample_block_type="conv",
        upsample_block_type="interpolate", scaling_factor=0.41407,
    ),
}  # fmt: skip


def media_of(options: dict[str, Any]) -> np.ndarray:
    """Two clips of two frames in [-1, 1], whole latent cells in size, not square."""
    levels = len(options.get("block_out_channels", options.get("encoder_block_out_channels")))
    cell, channels = 2 ** (levels - 1), options.get("in_channels", 3)
    return np.random.default_rng(0).uniform(-1, 1, (2, 2, 2 * cell, 3 * cell, channels)).astype(np.float32)


def latents_of(options: dict[str, Any], mean: np.ndarray) -> np.ndarray:
    """What is decoded: noise as wide as normal latents."""
    return np.random.default_rng(1).normal(size=mean.shape).astype(np.float32)


def made(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of that name in a file: random, the same always, and such that activations keep their size."""
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    noise = np.random.default_rng(seed).normal(size=shape)
    if name.endswith("running_var"):
        return np.exp(noise / 4).astype(np.float32)
    if len(shape) > 1:
        return (noise / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return np.asarray(noise / 8 + name.endswith("weight"), np.float32)


def shapes(options: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every array that we ask for in a file of that autoencoder, with its shape there."""
    config: Any = ARCHITECTURES[options["_class_name"]](options)
    return config.parameters()


def built(options: dict[str, Any]) -> Any:
    """That autoencoder, its weights made from names."""
    config: Any = ARCHITECTURES[options["_class_name"]](options)
    tensors = Tensors({name: made(name, shape) for name, shape in config.parameters().items()}, "made")
    model = config.build(tensors)
    tensors.finish()
    return model


def digest(named: dict[str, tuple[int, ...]]) -> str:
    """Of names and shapes."""
    lines = "".join(f"{name} {tuple(shape)}\n" for name, shape in sorted(named.items()))
    return f"{len(named)} {hashlib.blake2b(lines.encode(), digest_size=8).hexdigest()}"


def save(options: dict[str, Any], folder: Path, arrays: dict[str, np.ndarray] | None = None) -> Path:
    """A folder as diffusers writes it, with weights made from names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(options))
    arrays = {n: made(n, s) for n, s in shapes(options).items()} if arrays is None else arrays
    save_file(arrays, folder / "diffusion_pytorch_model.safetensors")
    return folder


encode, decode = jax.jit(lambda model, x: model.encode(x)), jax.jit(lambda model, x: model.decode(x))


def outputs(autoencoder: Any, options: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """What our autoencoder makes of `media_of` and `latents_of`: the mean of latents, and media."""
    with jax.default_matmul_precision("highest"):
        mean = np.asarray(encode(autoencoder, media_of(options)))
        return mean, np.asarray(decode(autoencoder, latents_of(options, mean)))


def recorded() -> dict[str, Any]:
    """What `record` wrote."""
    return json.loads(RECORDED.read_text())


def some(values: np.ndarray) -> list[float]:
    """At most 256 of them, evenly spread: what is recorded."""
    flat = np.asarray(values, np.float32).reshape(-1)
    return [float(f"{x:.8g}") for x in flat[:: max(1, -(-flat.size // 256))]]

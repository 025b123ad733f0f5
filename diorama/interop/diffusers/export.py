"""Autoencoders of ours in the folders that diffusers loads."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from diorama.codec import Codec
from diorama.core.errors import UserError
from diorama.core.files import write_aside
from diorama.core.module import paths
from diorama.interop.diffusers.image import AutoencoderKL, AutoencoderKLConfig
from diorama.interop.diffusers.pretrained import WEIGHTS, Pretrained


def export_kl(codec: Any, folder: Path | str) -> Path:
    """Write `codec` as `config.json` and safetensors, for `AutoencoderKL.from_pretrained(folder)`; returns the folder.

    `codec` is an `AutoencoderKL`, or the `Codec` that holds one (of a run, or `Pretrained`) and whose statistics of
    latents are then written: as they were read, or if they were measured, as `latents_mean` and `latents_std`. Numbers
    are written in float32. An existing `folder` that is an earlier export is replaced, whole or not at all.

    Raises:
        UserError: the codec is another architecture, has other than finite numbers, or `folder` holds other things.
    """
    kept = codec if isinstance(codec, Codec) else None
    model = codec.autoencoder if isinstance(codec, Codec) else codec
    if not isinstance(model, AutoencoderKL):
        raise UserError(
            f"{type(model).__name__} is not what diffusers calls AutoencoderKL, with its group norms and strided "
            "convolutions, and cannot be written as one: train an AutoencoderKLConfig if you need the export"
        )
    if wrong := [path for path, leaf in paths(model).items() if not np.isfinite(np.asarray(leaf, np.float32)).all()]:
        raise UserError(f"this codec has numbers that are not finite, in {wrong[0]}: nothing was written")
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and {p.name for p in folder.iterdir()} <= {"config.json", WEIGHTS}):
        raise UserError(f"{folder} holds other things than an exported codec: give a folder that is not there yet")
    config = model.config if kept is None else _told(model.config, kept)
    with write_aside(folder) as aside:
        aside.mkdir()
        (aside / "config.json").write_text(json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n")
        save_file(model.arrays(), aside / WEIGHTS, metadata={"format": "pt"})  # diffusers asks for it
    return folder


def _told(config: AutoencoderKLConfig, codec: Codec) -> AutoencoderKLConfig:
    """`config`, with the statistics of `codec` if they are not its own."""
    own = Pretrained.of(codec.autoencoder, config)
    if np.array_equal(own.mean, codec.mean) and np.array_equal(own.deviation, codec.deviation):
        return config
    mean, deviation = (tuple(np.asarray(x, np.float64).T.reshape(-1).tolist()) for x in (codec.mean, codec.deviation))
    return replace(config, scaling_factor=1.0, shift_factor=None, latents_mean=mean, latents_std=deviation)

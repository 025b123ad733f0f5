"""Release files: parameters as safetensors, by path. Nothing is ever unpickled."""

from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from diorama.core.errors import UserError
from diorama.core.files import write_aside
from diorama.core.module import from_paths, paths

T = TypeVar("T")


def save(tree: Any, path: Path) -> None:
    """Write every array of `tree` to `path`, whole or not at all."""
    with write_aside(path) as aside:
        save_file({name: np.asarray(jax.device_get(x), order="C") for name, x in paths(tree).items()}, str(aside))
        aside.chmod(aside.parent.stat().st_mode & 0o666)  # safetensors lets the owner alone read


def load(path: Path, like: T) -> T:
    """The tree of `like`'s structure (it may be abstract) that `save` wrote.

    Raises `UserError` when the file is missing or holds another model.
    """
    if not path.is_file():
        raise UserError(f"{path} is not there: train the run first")
    try:
        return from_paths(like, load_file(str(path)))
    except (ValueError, SafetensorError) as error:
        raise UserError(f"{path} does not fit its configuration: {error}") from None

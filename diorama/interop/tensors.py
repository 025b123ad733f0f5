"""The arrays of somebody else's file, each taken once by the name it has there, so that what is left over shows."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from diorama.core.array import Array
from diorama.core.errors import UserError

SHOWN = 20  # names of each kind that an error lists


class Tensors:
    """A file's arrays as a model is built of them.

    What is missing or of another shape is noted, and stands in as zeros, so that `finish` can say all of it at once.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], where: str) -> None:
        self.arrays, self.where = arrays, where
        self.taken: set[str] = set()
        self.missing: list[str] = []
        self.misshapen: list[str] = []

    @staticmethod
    def open(path: Path) -> "Tensors":
        """Those of a safetensors file, in float32; of an index (`*.index.json`), those of all the files it names.

        Raises `UserError` where one is missing or damaged.
        """
        files = parts(path) if path.name.endswith(".index.json") else [path]
        return Tensors({name: array for file in files for name, array in _read(file).items()}, str(path))

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """The array of that name (float32), which must have that shape."""
        self.taken.add(name)
        if name not in self.arrays:
            self.missing.append(name)
        elif self.arrays[name].shape != shape:
            self.misshapen.append(f"{name} {self.arrays[name].shape} instead of {shape}")
        else:
            return jnp.asarray(self.arrays[name], jnp.float32)
        return jnp.zeros(shape, jnp.float32)

    def finish(self) -> None:
        """Raises `UserError` that lists what was missing, of another shape, or taken by nobody."""
        left = sorted(set(self.arrays) - self.taken)
        wrong = [("missing", self.missing), ("of another shape", self.misshapen), ("not known", left)]
        if any(names for _, names in wrong):
            told = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in wrong if names)
            raise UserError(f"{self.where} is not what its configuration says: {told}")


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="flax") as file:  # numpy knows no bfloat16
            return {name: np.asarray(file.get_tensor(name), np.float32) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from None


def parts(index: Path) -> list[Path]:
    """The files that an index names, which lie beside it."""
    try:
        return [index.with_name(name) for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} cannot be read as an index of safetensors files: {error!r}") from None


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")

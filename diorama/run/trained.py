"""A codec from another run's folder, so that one codec serves many denoisers."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diorama.codec import Codec, PixelCodec
from diorama.core.errors import UserError
from diorama.core.files import hash_bytes, hash_file, write_aside

if TYPE_CHECKING:
    from diorama.run.folder import Folder


@dataclass(frozen=True)
class TrainedConfig:
    """In a recipe: the codec that another run has, whether it trained that or took it. There is nothing to learn.

    The run keeps a copy, and needs the other one no more. What one of them encoded, the other reads.

    Args:
        path: the other run's folder.
    """

    path: str = ""

    def load(self) -> Codec:
        """The codec. Raises `UserError` where there is no such run, or its codec is not trained or pixels."""
        codec = self._folder().codec()
        if isinstance(codec, PixelCodec):
            raise UserError(f"{self.path} is a run on pixels and has no codec: name another run, or PixelCodecConfig()")
        return codec

    def note(self) -> dict[str, Any]:
        """Which codec that is, to be written as JSON: the run's `path`, the `hash` of its parameters and configuration,
        and the `config` that it tells (`Folder.told`). Raises `UserError` where there is none."""
        folder = self._folder()
        told = folder.told()
        content = hash_bytes(f"{hash_file(folder.parameters)}\n{json.dumps(told)}".encode())
        return {"path": str(folder.path.resolve()), "hash": content, "config": told}

    def copy(self, path: Path) -> None:
        """Copy its release file, bit for bit: latents are known by its hash."""
        with write_aside(path) as aside:
            shutil.copyfile(self._folder().parameters, aside)

    def _folder(self) -> "Folder":
        from diorama.run.folder import Folder  # here, because a folder holds a run, and that may hold one of these

        if not self.path:
            raise UserError("TrainedConfig has no path: give the folder of a run, as codec.codec.path")
        return Folder.open(self.path)

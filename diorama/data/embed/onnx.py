"""An embedding by any encoder in an ONNX file, run by ONNX Runtime."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from diorama.core.errors import UserError
from diorama.data.embed.pictures import embed, whole
from diorama.data.stages.stage import Batch

FASTEST = ("CUDAExecutionProvider", "CPUExecutionProvider")  # of what is installed, in this order


@dataclass(frozen=True)
class Onnx:
    """Vectors of length 1 by the encoder in the file `path`, whose one input is a batch of pictures.

    A video's vector is the mean over its previews. Needs the stage `Preview`, and `pip install "diorama[onnx]"`.

    Args:
        path: of the model.
        side: of its pictures, in pixels; a preview is scaled to it, aspect or not.
        mean, std: a channel's value in [0, 1] goes in as (value - mean) / std.
        layout: "nchw" or "nhwc".
        output: name of the output to take, if not the first: of shape (batch, d), or (batch, tokens, d), whose tokens
            are averaged.
        batch: pictures at a time, where the model leaves that open.
    """

    path: str
    side: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    layout: Literal["nchw", "nhwc"] = "nchw"
    output: str | None = None
    batch: int = 32
    name: ClassVar[str] = "embedding"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"vector": np.ndarray}
    reads: ClassVar[tuple[str, ...]] = ("preview.images",)

    @property
    def weights(self) -> tuple[Path, ...]:
        """The model, and its weights where they lie in a file beside it."""
        beside = Path(f"{self.path}.data"), Path(self.path).with_suffix(".data")
        return (Path(self.path), *(data for data in beside if data.exists()))

    def prepare(self, models: Path, sample: Callable[[int], pa.Table]) -> Batch:
        """As `Derived.prepare`. Raises `UserError` for a model that does not take such pictures."""
        session = self._session()
        [entry] = session.get_inputs()
        output = self._output(session)
        fixed = entry.shape[0] if isinstance(entry.shape[0], int) else None
        kind = np.float16 if entry.type == "tensor(float16)" else np.float32

        def encode(pictures: np.ndarray) -> np.ndarray:
            x = (pictures.astype(np.float32) / 255 - np.asarray(self.mean, np.float32)) / np.asarray(
                self.std, np.float32
            )
            x = (x if self.layout == "nhwc" else x.transpose(0, 3, 1, 2)).astype(kind)
            if fixed:
                x = np.concatenate([x, np.zeros((fixed - len(x), *x.shape[1:]), kind)])
            [y] = session.run([output], {entry.name: np.ascontiguousarray(x)})
            y = np.asarray(y, np.float32)[: len(pictures)]
            return y.reshape(len(y), -1, y.shape[-1]).mean(1)

        read = partial(whole, side=self.side)
        return lambda table: embed(table["preview.images"], read, encode, fixed or self.batch)

    def _session(self) -> Any:
        try:
            import onnxruntime
        except ImportError:
            raise UserError('the stage Onnx needs ONNX Runtime: pip install "diorama[onnx]"') from None
        if not Path(self.path).is_file():
            raise UserError(f"{self.path} is not there: give the path of an ONNX model")
        providers = [name for name in FASTEST if name in onnxruntime.get_available_providers()]
        try:
            session = onnxruntime.InferenceSession(self.path, providers=providers)
        except Exception as error:  # ONNX Runtime has no common error of its own
            raise UserError(f"{self.path} is no model that ONNX Runtime {onnxruntime.__version__} can run: "
                            f"{str(error).splitlines()[0]}") from None  # fmt: skip
        self._check(session)
        return session

    def _check(self, session: Any) -> None:
        inputs = session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(entry.name for entry in inputs)
            raise UserError(f"{self.path} takes {len(inputs)} inputs ({names}): export the encoder of pictures alone")
        entry = inputs[0]
        want = (self.side, self.side, 3) if self.layout == "nhwc" else (3, self.side, self.side)
        given = tuple(entry.shape)
        fits = len(given) == 4 and all(not isinstance(g, int) or g == w for g, w in zip(given[1:], want, strict=True))
        if not fits:
            raise UserError(f"{self.path} takes {entry.name} of shape {given}, which {self.layout} pictures of side "
                            f"{self.side} are not: set side and layout")  # fmt: skip
        if entry.type not in ("tensor(float)", "tensor(float16)"):
            raise UserError(f"{self.path} takes {entry.name} as {entry.type}: export it to take floating-point numbers")

    def _output(self, session: Any) -> str:
        names = {entry.name: entry.shape for entry in session.get_outputs()}
        output = next(iter(names)) if self.output is None else self.output
        if output not in names:
            raise UserError(f"{self.path} has no output '{output}': there are {', '.join(names)}")
        if len(names[output]) not in (2, 3):
            raise UserError(f"{self.path} gives {output} of shape {tuple(names[output])}, not vectors: choose another")
        return output

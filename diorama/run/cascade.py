"""Cascades: a base run draws clips that are small and few in frames, and each run after it makes more of them.

Ho et al. 2022 (arXiv 2106.15282) for pictures, Imagen Video (2210.02303) for videos, where stages of more frames
(temporal super-resolution) and of more pixels (spatial) follow one another. A stage is a run like any other, with a
`LowResolutionConfig` among its conditions: it is trained on its own clips made smaller, and alone.

CASCADE/
    cascade.txt             the resolved cascade
    <a stage's name>/       that run's folder
    samples/  evaluation/   what was drawn through all stages, what was measured of it
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from diorama.codec import Codec, PixelCodec
from diorama.core.config import parse, to_text
from diorama.core.errors import UserError
from diorama.core.files import write_text
from diorama.data import Catalogue
from diorama.run.folder import CASCADE, Folder
from diorama.run.generate import Generator
from diorama.run.run import Bucket, Run, Sampling
from diorama.run.train import possible, train_run

APART = 2654435761  # between the seeds of stages: a stage's noise is not the beginning of another's


@dataclass(frozen=True)
class Cascade:
    """Runs that start from one another, the base first. The last one's `evaluation` says what is measured of all."""

    name: str
    stages: tuple[Run, ...]

    def __post_init__(self) -> None:
        if len(self.stages) < 2 or len({stage.name for stage in self.stages}) < len(self.stages):
            raise UserError(f"the cascade '{self.name}' takes two stages or more, each with a name of its own")
        for i, stage in enumerate(self.stages):
            if (stage.denoiser.denoiser.low is None) != (i == 0):
                wrong = "is the base, and takes no" if i == 0 else "comes after another, so its conditions want a"
                raise UserError(f"stage '{stage.name}' of '{self.name}' {wrong} LowResolutionConfig")
        for bucket in self.stages[-1].denoiser.buckets:
            self.way(bucket)

    def way(self, bucket: Bucket) -> list[Bucket]:
        """The shapes on the way to clips of `bucket`, one a stage. Raises `UserError` where a stage has no such one."""
        found = [bucket]
        for before, stage in reversed(list(zip(self.stages, self.stages[1:], strict=False))):
            after, (_, low) = found[0], stage.denoiser.denoiser.low  # type: ignore[misc]
            size = -(-after.frames // low.time), after.height // low.space, after.width // low.space
            step = after.stride * low.time
            fits = [b for b in before.denoiser.buckets if (b.frames, b.height, b.width) == size and b.stride == step]
            if not fits:
                wanted = f"{'x'.join(map(str, size))}, every {step}. frame"
                raise UserError(f"stage '{stage.name}' makes {after} of {wanted}, and '{before.name}' draws none such")
            found.insert(0, fits[0])
        return found

    def text(self) -> str:
        """The resolved configuration."""
        return to_text(self)


@dataclass(frozen=True)
class CascadeFolder(Folder):
    """A cascade's folder, seen as that of a run which draws what the last stage draws."""

    @staticmethod
    def holds(path: Path | str) -> bool:
        """Whether that is one."""
        return (Path(path) / CASCADE).exists()

    @staticmethod
    def put(path: Path | str, cascade: Cascade) -> "CascadeFolder":
        """The folder for `cascade`, made if new. Raises `UserError` where it holds another run or other stages."""
        folder = CascadeFolder(Path(path))
        if (folder.path / "config.txt").exists():
            raise UserError(f"{path} holds a run: use another folder")
        names = [stage.name for stage in cascade.stages]
        if folder.holds(path) and (old := [s.name for s in folder._written().stages]) != names:
            raise UserError(f"{path} holds the stages {', '.join(old)} and not {', '.join(names)}: use another folder")
        write_text(folder.config, cascade.text())
        return folder

    @staticmethod
    def at(path: Path | str) -> "CascadeFolder":
        """The folder of a cascade that exists. Raises `UserError` when it is none."""
        if not CascadeFolder.holds(path):
            raise UserError(f"{path} is no cascade: it has no cascade.txt; name the folder that `diorama train` wrote")
        return CascadeFolder(Path(path))

    def _written(self) -> Cascade:
        return parse(self.config.read_text(), Cascade, fill=True)

    def stages(self) -> list[Folder]:
        """The folders of all stages. Raises `UserError` where one is not begun."""
        return [Folder.open(self.path / stage.name) for stage in self._written().stages]

    def cascade(self) -> Cascade:
        """The cascade as its stages are now: settings of sampling and judging may have changed in a stage's folder."""
        return replace(self._written(), stages=tuple(stage.written() for stage in self.stages()))

    def changed(self, cascade: Cascade) -> "CascadeFolder":
        """The same folder with other settings of sampling and judging. Raises `UserError` for any other change."""
        for stage, folder in zip(cascade.stages, self.stages(), strict=True):
            Folder.claim(folder.path, stage, self.catalogue())
        return self.put(self.path, cascade)

    @property
    def config(self) -> Path:
        return self.path / CASCADE

    @property
    def manifest(self) -> Path:
        return self.stages()[-1].manifest

    def written(self) -> Run:
        return self.stages()[-1].written()

    def fitted(self, run: Run) -> Run:
        return self.stages()[-1].fitted(run)

    def drawn_by(self, how: Sampling) -> list[Path]:
        """The files that samples depend on, of all stages."""
        return [p for s in self.stages() for p in (s.config, *s.drawn_by(s.written().sampling))]


def train_cascade(cascade: Cascade, catalogue: Catalogue, path: Path | str) -> CascadeFolder:
    """Train all stages on `catalogue`, one after another, each in a folder of its name in `path`; see `train_run`."""
    for stage in cascade.stages:
        possible(stage, catalogue, Folder(Path(path) / stage.name))
    folder = CascadeFolder.put(path, cascade)
    for stage in cascade.stages:
        train_run(stage, catalogue, folder.path / stage.name)
    return folder


@dataclass(frozen=True)
class Cascaded:
    """A cascade ready to draw."""

    cascade: Cascade
    folder: CascadeFolder
    generators: tuple[Generator, ...]

    @staticmethod
    def load(path: Path | str) -> "Cascaded":
        """From a cascade's folder. Raises `UserError` when it is none or a stage is not trained yet."""
        folder = CascadeFolder.at(path)
        return Cascaded(folder.cascade(), folder, tuple(Generator.load(stage.path) for stage in folder.stages()))

    @property
    def run(self) -> Run:
        """The last stage, which says what is drawn and how it is judged."""
        return self.generators[-1].run

    @property
    def codec(self) -> Codec | PixelCodec:
        """That of the last stage."""
        return self.generators[-1].codec

    def draw(
        self,
        prompts: list[str],
        labels: np.ndarray | None = None,
        *,
        ids: np.ndarray,
        bucket: Bucket,
        sampling: Sequence[Sampling] | None = None,
        seed: int | None = None,
        quiet: bool = True,
    ) -> np.ndarray:
        """Media `(b, t, h, w, c)` uint8, one for each prompt and example id, as `Generator.draw`; of `bucket`, one of
        the last stage's.

        sampling: how, for every stage; their own if None. seed: in place of every stage's own.
        """
        media, ways = None, sampling or [each.run.sampling for each in self.generators]
        for i, (each, shape, how) in enumerate(zip(self.generators, self.cascade.way(bucket), ways, strict=True)):
            own = ((each.run.seed if seed is None else seed) + i * APART) % 2**32
            media = each.draw(prompts, labels, ids=ids, bucket=shape, sampling=how, low=media, seed=own, quiet=quiet)
        assert media is not None
        return media

"""Drawing samples from a run: prompts in, media out."""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.codec import Codec, PixelCodec, encode
from diorama.codec.codec import on_grid
from diorama.core.errors import UserError
from diorama.core.files import write_text
from diorama.core.progress import progress
from diorama.diffusion import Denoiser
from diorama.evaluate import quantise
from diorama.media import contact_sheet, write_gif, write_mp4, write_png
from diorama.run.against import guided
from diorama.run.examples import conditions
from diorama.run.folder import Folder
from diorama.run.resolution import signal
from diorama.run.run import Bucket, Run, Sampling
from diorama.sample import plan, sample
from diorama.sample.guidance import inpainted

SEEN = 96  # pixels a side that a picture should have on a contact sheet
SHOWN = 5  # frames of a clip on it


@dataclass(frozen=True)
class Known:
    """A part of a clip that is kept while the rest is drawn: `media` (t, h, w, c) uint8 where `kept` (t, h, w)."""

    media: np.ndarray
    kept: np.ndarray

    def encoded(self, codec: Codec | PixelCodec, shape: tuple[int, ...], b: int) -> tuple[Any, Any]:
        """Latents (b, t, h, w, c), and which of them (b, t, h, w, 1) are known: those of nothing but kept pixels."""
        latents = encode(codec, self.media[None] / np.float32(127.5) - 1)
        if isinstance(codec, PixelCodec):
            kept = self.kept
        elif on_grid(codec.config):
            time, space = codec.config.temporal, codec.config.spatial
            t, h, w = self.kept.shape
            rest = ((time - 1, -(t - 1) % time), (0, -h % space), (0, -w % space))  # the first frame stands alone
            cells = np.pad(self.kept, rest, mode="edge").reshape(shape[0], time, shape[1], space, shape[2], space)
            kept = np.asarray(cells.all((1, 3, 5)))
        else:
            raise UserError("a codec whose latents are a line of tokens has no place for what is kept: draw it whole")
        return jnp.broadcast_to(latents, (b, *shape)), jnp.broadcast_to(kept[None, ..., None], (b, *shape[:3], 1))


@dataclass(frozen=True)
class Generator:
    """A run ready to draw: its codec and its denoiser."""

    run: Run
    folder: Folder
    codec: Codec | PixelCodec
    denoiser: Denoiser

    @staticmethod
    def load(path: Path | str) -> "Generator":
        """From a run's folder. Raises `UserError` when it is no run or not trained yet."""
        folder = Folder.open(path)
        return Generator(folder.run(), folder, folder.codec(), folder.denoiser())

    def draw(
        self,
        prompts: list[str],
        labels: np.ndarray | None = None,
        *,
        ids: np.ndarray,
        bucket: Bucket,
        sampling: Sampling | None = None,
        first: np.ndarray | None = None,
        known: Known | None = None,
        low: np.ndarray | None = None,
        scales: np.ndarray | None = None,
        seed: int | None = None,
        quiet: bool = True,
    ) -> np.ndarray:
        """Media `(b, t, h, w, c)` uint8, one for each prompt and example id.

        Args:
            prompts: captions; "" draws without text.
            labels: classes, for models that have a label; -1 draws without.
            ids: example ids; the same id, prompt and seed give the same media in any company.
            bucket: the shape.
            sampling: how; the run's own if None.
            first: first frames `(b, h, w, c)` uint8 to go on from; None draws everything.
            known: what is not to be drawn, but kept; None draws everything.
            low: the clips at the lower resolution that the run starts from, `(b, n, h', w', c)` uint8; None draws
                without, as a prompt of "" does.
            scales: a guidance scale for each, in place of `sampling.guidance.scale`; one compilation serves them all.
            seed: the run's own if None.
        """
        how = self.folder.fitted(replace(self.run, sampling=sampling or self.run.sampling)).sampling
        labels = np.full(len(prompts), -1, np.int32) if labels is None else labels
        signals = conditions(self.run, self.folder, prompts, labels)
        shape = self.codec.latent_shape(bucket.frames, bucket.height, bucket.width)
        taus = how.taus(self.denoiser.process.of(shape))
        if low is not None and self.run.denoiser.denoiser.low is None:
            raise UserError(f"the run '{self.run.name}' starts from no lower resolution: leave out low")
        seed = self.run.seed if seed is None else seed
        matrix = plan.joint(taus, shape[0], given=0 if first is None else 1)
        static = _Static(replace(how, augmentation=0.0), matrix, shape, seed)  # that noise is in the batch
        _compiled = partial(_draw, how=static)
        weak = how.against.load(self.folder)
        region = None if known is None else known.encoded(self.codec, shape, how.batch)
        out = []
        named = "" if scales is None else f", guidance {' and '.join(f'{s:g}' for s in np.unique(scales))}"
        what = self.folder.called(f"sampling {bucket}{named}")
        with progress(len(prompts), what, "clips", show=not quiet) as bar:
            for start in range(0, len(prompts), how.batch):
                part = np.arange(start, min(start + how.batch, len(prompts)))
                take = np.resize(part, how.batch)  # filled up with repetitions: the shape never changes
                batch = {name: jnp.asarray(value[take]) for name, value in signals.items()}
                given = None
                if first is not None:
                    picture = encode(self.codec, first[take][:, None] / np.float32(127.5) - 1)
                    given = jnp.pad(picture, ((0, 0), (0, shape[0] - 1), (0, 0), (0, 0), (0, 0)))
                scale = None if scales is None else jnp.asarray(scales[take], jnp.float32)
                numbers = np.asarray(ids[take], np.uint32)
                smaller = None if low is None else low[take]
                batch |= signal(self.run, self.codec, bucket, smaller, numbers, how.augmentation, seed)
                media = _compiled(self.codec, self.denoiser, weak, numbers, batch, given, region, scale)
                out.append(quantise(media[: len(part), : bucket.frames, : bucket.height, : bucket.width]))
                bar.advance(len(part))
        drawn = np.concatenate(out)
        return drawn if known is None else np.where(known.kept[..., None], known.media, drawn)


class _Static:
    """What a compiled sampler depends on beside arrays, compared by value."""

    def __init__(self, how: Sampling, matrix: np.ndarray, shape: tuple[int, ...], seed: int):
        self.how, self.matrix, self.shape, self.seed = how, matrix, shape, seed
        self.key = (how, matrix.tobytes(), shape, seed)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and self.key == other.key


@partial(jax.jit, static_argnames="how")
def _draw(
    codec: Codec | PixelCodec, denoiser: Denoiser, weak: Denoiser | None, ids: Any, batch: dict[str, Any], given: Any,
    known: Any, scale: Any, how: _Static,
) -> jax.Array:  # fmt: skip
    """Noise to media in one program."""
    signals = denoiser.conditions.signals(batch)
    denoises, signals = guided(how.how, denoiser, weak, signals, len(ids), scale)
    if known is not None:
        denoises = inpainted(denoises, denoiser.process, *known)
    latents = sample(
        denoises, denoiser.process, how.how.solver, how.matrix, ids, how.shape,
        seed=how.seed, conditions=signals, given=given,
    )  # fmt: skip
    return codec.decode(latents)


def write_samples(
    media: np.ndarray, prompts: list[str], labels: np.ndarray, ids: np.ndarray, where: Path, rate: float,
    about: dict[str, Any],
) -> Path:  # fmt: skip
    """Write each clip as `<id>.png` or `<id>.mp4` and `.gif`, a contact sheet, and `samples.jsonl` last.

    Returns the contact sheet's path.
    """
    where.mkdir(parents=True, exist_ok=True)
    for clip, number in zip(media, ids, strict=True):
        stem = where / f"{int(number):06d}"
        if len(clip) == 1:
            write_png(stem.with_suffix(".png"), clip[0])
        else:
            write_mp4(stem.with_suffix(".mp4"), clip, rate)
            write_gif(stem.with_suffix(".gif"), clip, rate)
    return list_samples(list(media), prompts, labels, ids, where, about)


def list_samples(
    clips: list[np.ndarray], prompts: list[str], labels: np.ndarray, ids: np.ndarray, where: Path,
    about: dict[str, Any], changing: list[list[str]] | None = None,
) -> Path:  # fmt: skip
    """Write a contact sheet of clips, or of some of their frames, and `samples.jsonl`; returns the sheet's path.

    changing: of each clip, what stands below every frame, a clip a row, in place of the prompt below some of them.
    """
    sheet = where / "sheet.png"
    if changing:
        frames, below = [frame[None] for clip in clips for frame in clip], [text for each in changing for text in each]
        contact_sheet(frames, sheet, len(clips[0]), below, smallest=SEEN)
    else:
        contact_sheet(clips, sheet, captions=prompts, frames=min(SHOWN, len(clips[0])), smallest=SEEN)
    told = [
        json.dumps({"id": int(number), "prompt": prompt, "label": int(label), **about})
        for prompt, label, number in zip(prompts, labels, ids, strict=True)
    ]
    write_text(where / "samples.jsonl", "\n".join(told) + "\n")
    return sheet


def bucket_for(run: Run, frames: int | None = None) -> Bucket:
    """The run's bucket with that many frames; its longest if None.

    Raises `UserError` that lists the lengths that the run was trained on.
    """
    by_length = {b.frames: b for b in run.denoiser.buckets}
    chosen = by_length.get(max(by_length) if frames is None else frames)
    if chosen is None:
        known = ", ".join(map(str, sorted(by_length)))
        raise UserError(f"the run was trained on clips of {known} frames, not {frames}: choose one of them")
    return chosen

"""Drawing samples from a run: prompts in, media out."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.codec import Codec, PixelCodec, encode
from diorama.core.errors import UserError
from diorama.core.files import write_text
from diorama.core.progress import progress
from diorama.diffusion import Denoiser
from diorama.evaluate import quantise
from diorama.media import contact_sheet, write_gif, write_mp4, write_png
from diorama.net import null
from diorama.run.examples import conditions
from diorama.run.folder import Folder
from diorama.run.run import Bucket, Run, Sampling
from diorama.sample import classifier_free, plan, sample

SEEN = 96  # pixels a side that a picture should have on a contact sheet


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
            seed: the run's own if None.
        """
        how = sampling or self.run.sampling
        labels = np.full(len(prompts), -1, np.int32) if labels is None else labels
        signals = conditions(self.run, self.folder, prompts, labels)
        shape = self.codec.latent_shape(bucket.frames, bucket.height, bucket.width)
        taus = how.grid(self.run.denoiser.denoiser.process, how.steps)
        matrix = plan.joint(taus, shape[0], given=0 if first is None else 1)
        _compiled = partial(_draw, how=_Static(how, matrix, shape, self.run.seed if seed is None else seed))
        out = []
        with progress(len(prompts), f"sampling {bucket}", "clips", show=not quiet) as bar:
            for start in range(0, len(prompts), how.batch):
                part = np.arange(start, min(start + how.batch, len(prompts)))
                take = np.resize(part, how.batch)  # filled up with repetitions: the shape never changes
                batch = {name: jnp.asarray(value[take]) for name, value in signals.items()}
                given = None
                if first is not None:
                    picture = encode(self.codec, first[take][:, None] / np.float32(127.5) - 1)
                    given = jnp.pad(picture, ((0, 0), (0, shape[0] - 1), (0, 0), (0, 0), (0, 0)))
                media = _compiled(self.codec, self.denoiser, np.asarray(ids[take], np.uint32), batch, given)
                out.append(quantise(media[: len(part), : bucket.frames, : bucket.height, : bucket.width]))
                bar.advance(len(part))
        return np.concatenate(out)


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
    codec: Codec | PixelCodec, denoiser: Denoiser, ids: Any, batch: dict[str, Any], given: Any, how: _Static
) -> jax.Array:
    """Noise to media in one program."""
    signals = denoiser.conditions.signals(batch)
    guided = classifier_free(denoiser, null(signals), how.how.guidance, how.how.interval)
    latents = sample(
        guided, denoiser.process, how.how.solver, how.matrix, ids, how.shape,
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
    lines = []
    for clip, prompt, label, number in zip(media, prompts, labels, ids, strict=True):
        stem = where / f"{int(number):06d}"
        if len(clip) == 1:
            write_png(stem.with_suffix(".png"), clip[0])
        else:
            write_mp4(stem.with_suffix(".mp4"), clip, rate)
            write_gif(stem.with_suffix(".gif"), clip, rate)
        lines.append(json.dumps({"id": int(number), "prompt": prompt, "label": int(label), **about}))
    sheet = where / "sheet.png"
    contact_sheet(list(media), sheet, captions=prompts, frames=min(5, media.shape[1]), smallest=SEEN)
    write_text(where / "samples.jsonl", "\n".join(lines) + "\n")
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

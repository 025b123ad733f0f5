"""Drawing videos longer than those that a run was trained on, and writing them while they are made."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from diorama.codec import Codec, PixelCodec, decode, decode_chunks, encode
from diorama.codec.stream import chunked
from diorama.core.array import Latents, Media
from diorama.core.errors import UserError
from diorama.core.progress import progress
from diorama.evaluate import quantise
from diorama.media import write_mp4
from diorama.run.examples import conditions
from diorama.run.generate import SHOWN, Generator, list_samples
from diorama.run.run import Bucket, Sampling
from diorama.sample.rollout import Asked, Past, rollout, usual


def roll(
    generator: Generator, prompts: list[str], label: int = -1, *, number: int, bucket: Bucket, frames: int,
    sampling: Sampling | None = None, first: np.ndarray | None = None, seed: int | None = None,
) -> Iterator[np.ndarray]:  # fmt: skip
    """A video of `frames`, piece by piece `(n, h, w, 3)` uint8, in memory that does not grow with it.

    Args:
        prompts: what it shows, one after the other, each for an equal part of it.
        label: its class, -1 for none.
        number: its example id; the same id, prompts and seed give the same video. With one prompt, a longer one begins
            with it.
        bucket: clips as the run was trained on.
        sampling: how; the run's own if None. `sampling.rollout` says how pieces see those before them.
        first: its first frame (h, w, 3) uint8, if it is known.
        seed: the run's own if None.

    Raises `UserError` for a run that starts from a lower resolution, and codecs that code whole clips alone.
    """
    run, folder, codec, denoiser = generator.run, generator.folder, generator.codec, generator.denoiser
    if run.denoiser.denoiser.low is not None:
        raise UserError(f"the run '{run.name}' starts from a lower resolution, which a long video does not have")
    how = folder.fitted(replace(run, sampling=sampling or run.sampling)).sampling
    shape = codec.latent_shape(bucket.frames, bucket.height, bucket.width)
    past, length = how.rollout or usual(denoiser, shape[0]), _latents(codec, bucket, frames)
    weak = how.against.load(folder)

    def asked() -> Iterator[Asked]:
        said = conditions(run, folder, prompts, np.full(len(prompts), label, np.int32))
        for _, turn in _turns(past, length, len(prompts)):
            signals = denoiser.conditions.signals(
                {name: jnp.asarray(value[turn : turn + 1]) for name, value in said.items()}
            )
            strong, reference = how.against(denoiser, signals, weak, 1)
            yield strong, reference if weak is None else weak

    given = None if first is None else encode(codec, jnp.asarray(first[None, None] / np.float32(127.5) - 1))
    taus, ids = how.taus(denoiser.process.of(shape)), jnp.array([number], jnp.uint32)
    latents = rollout(
        denoiser, past, how.solver, taus, ids, shape, asked(),
        seed=run.seed if seed is None else seed, guidance=how.guidance, frames=length, given=given,
    )  # fmt: skip
    left = frames
    for media in _decoded(codec, latents):
        yield quantise(np.asarray(media)[0, :left, : bucket.height, : bucket.width])
        left -= media.shape[1]


def prompts_of(
    generator: Generator, prompts: list[str], *, bucket: Bucket, frames: int, sampling: Sampling | None = None
) -> list[str]:
    """Which of the `prompts` each frame of `roll`'s video is made for: it changes where a piece begins."""
    how, codec = sampling or generator.run.sampling, generator.codec
    past = how.rollout or usual(generator.denoiser, _latents(codec, bucket, bucket.frames))
    turns = _turns(past, _latents(codec, bucket, frames), len(prompts))
    at = [_latents(codec, bucket, frame + 1) - 1 for frame in range(frames)]
    return [prompts[max(turn for begin, turn in turns if begin <= latent)] for latent in at]


def _turns(past: Past, length: int, prompts: int) -> list[tuple[int, int]]:
    """Of every piece of `length` latent frames, where it begins, and which of so many prompts it is made for."""
    begins = (0, *range(past.beside + past.chunk, length, past.chunk))
    return [(begin, begin * prompts // length) for begin in begins]


def _latents(codec: Codec | PixelCodec, bucket: Bucket, frames: int) -> int:
    """How many latent frames so many frames are."""
    return codec.latent_shape(frames, bucket.height, bucket.width)[0]


def _decoded(codec: Codec | PixelCodec, latents: Iterator[Latents]) -> Iterator[Media]:
    """Media of pieces of latents, one after the other. Codecs of pictures do not see beyond a frame."""
    if isinstance(codec, PixelCodec) or (codec.config.temporal == 1 and not chunked(codec)):
        yield from (decode(codec, piece) for piece in latents)
    else:
        yield from decode_chunks(codec, latents)


def write_rolls(
    videos: list[Iterator[np.ndarray]], frames: int, prompts: list[list[str]], labels: np.ndarray, ids: np.ndarray,
    where: Path, rate: float, about: dict[str, Any], quiet: bool = True,
) -> Path:  # fmt: skip
    """Write videos of `frames`, each while it is made, as `<id>.mp4`; a contact sheet, and `samples.jsonl` last.

    prompts: of each video, that of every frame (see `prompts_of`). Where they change, each frame of the contact sheet
    has its own below, and there are as many, evenly spread, as prompts at least.

    Returns the contact sheet's path.
    """
    where.mkdir(parents=True, exist_ok=True)
    most = max(1 + sum(a != b for a, b in pairwise(each)) for each in prompts)
    wanted = np.unique(np.linspace(0, frames - 1, max(SHOWN, most)).round().astype(int))
    shown: list[list[np.ndarray]] = [[] for _ in videos]

    with progress(frames * len(videos), "rolling out", "frames", show=not quiet) as bar:

        def watched(pieces: Iterator[np.ndarray], kept: list[np.ndarray]) -> Iterator[np.ndarray]:
            done = 0
            for piece in pieces:
                kept += [piece[i - done] for i in wanted if done <= i < done + len(piece)]
                done += len(piece)
                bar.advance(len(piece))
                yield piece

        for pieces, kept, number in zip(videos, shown, ids, strict=True):
            write_mp4(where / f"{int(number):06d}.mp4", watched(pieces, kept), rate)
    first, below = [each[0] for each in prompts], [[each[i] for i in wanted] for each in prompts]
    clips = [np.stack(kept) for kept in shown]
    return list_samples(clips, first, labels, ids, where, about, below if most > 1 else None)

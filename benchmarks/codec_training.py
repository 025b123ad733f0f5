"""What the benchmarks of codecs share: real pictures and videos, and training a codec on arrays that lie in memory."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq

from benchmarks.planted.copies import decode as picture
from diorama.codec import Codec, CodecConfig, CodecLoss, autoencoder_of, decode, encode
from diorama.codec.loss import Learner, NetworkConfig, Views
from diorama.core import release
from diorama.core.layout import Layout
from diorama.core.random import stream
from diorama.evaluate import quantise
from diorama.media import read
from diorama.media.resize import center_crop, resize, scale
from diorama.train import Cosine, Train
from diorama.train.state import Objective, State, Tally, fault_names
from diorama.train.step import make_step, metric_names

HELD = 256  # stills that nothing is trained on
CLIPS_HELD = 20  # and videos
WINDOWS = 2  # of each held-back video


def stills(folder: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Flowers and clothing (`images/*_128px.parquet`), uint8 `(n, 1, side, side, 3)`: training, and held back."""
    files = sorted((folder / "images").glob("*_128px.parquet"))
    if not files:
        raise SystemExit(f"{folder}/images has no *_128px.parquet")
    data = [bytes_ for file in files for bytes_ in pq.read_table(file)["image"].to_pylist()]
    pictures = np.stack([scale(picture(x)[None], side, side) for x in data])
    order = np.random.default_rng(0).permutation(len(pictures))
    return pictures[order[HELD:]], pictures[order[:HELD]]


class Videos:
    """Windows of `frames` frames of the clips in `video/panda70m`, from the middle square; some clips held back."""

    def __init__(self, folder: Path, frames: int, side: int) -> None:
        files = sorted((folder / "video" / "panda70m").glob("*.mp4"))
        if not files:
            raise SystemExit(f"{folder}/video/panda70m has no videos")
        clips = [center_crop(resize(read(file, short_side=side).frames, side, side), side, side) for file in files]
        order = np.random.default_rng(0).permutation(len(clips))
        clips = [clips[i] for i in order if len(clips[i]) >= WINDOWS * frames]
        self.frames, self.train = frames, clips[CLIPS_HELD:]
        starts = [np.linspace(0, len(clip) - frames, WINDOWS).astype(int) for clip in clips[:CLIPS_HELD]]
        self.held = np.stack([c[s : s + frames] for c, at in zip(clips, starts, strict=False) for s in at])

    def batches(self, size: int, seed: int) -> Iterator[np.ndarray]:
        """Windows drawn anew for every batch, without end."""
        rng = np.random.default_rng(seed)
        while True:
            chosen = [self.train[i] for i in rng.integers(len(self.train), size=size)]
            starts = [rng.integers(len(clip) - self.frames + 1) for clip in chosen]
            yield np.stack([clip[s : s + self.frames] for clip, s in zip(chosen, starts, strict=True)])


def batches(data: np.ndarray, size: int, seed: int) -> Iterator[np.ndarray]:
    """Batches of all of `data` in a new order each time round, without end."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(data))
        for start in range(0, len(data) - size + 1, size):
            yield data[order[start : start + size]]


def schedule(steps: int, batch: int, rate: float, **how: Any) -> Train:
    """A twentieth of the steps to rise, then a cosine down to zero."""
    return Train(examples=steps * batch, learning_rate=rate, warmup=steps * batch // 20, decay=Cosine(), **how)


class Fit:
    """One training, step by step, as the loop of `diorama train` compiles it."""

    def __init__(
        self, init: Callable[..., Any], objective: Objective, train: Train, first: np.ndarray, seed: int
    ) -> None:
        self.layout, self.count = Layout(), 0
        batch = self._batch(first)  # its shape alone is wanted
        model = jax.jit(init)(stream(seed, "init"))
        born = partial(State.init, config=train)
        shardings = self.layout.shardings(jax.eval_shape(born, model))
        self.state = jax.jit(born, out_shardings=shardings)(model)
        names = metric_names(objective, model, batch, train.roles)
        self._tally = jax.device_put(Tally.blank(names, len(fault_names(model))), self.layout.sharding())
        self._step = make_step(train, objective, shardings, seed, self.layout)

    def step(self, media: np.ndarray) -> None:
        """One step on uint8 clips; it returns when that is done."""
        self.state, self._tally = self._step(self.state, self._tally, self._batch(media))
        jax.block_until_ready(self.state)

    def _batch(self, media: np.ndarray) -> dict[str, Any]:
        ids = np.arange(self.count, self.count + len(media), dtype=np.uint32)
        self.count += len(media)
        return self.layout.put({"media": media / np.float32(127.5) - 1, "id": ids})


def fit_codec(config: CodecConfig, loss: CodecLoss, train: Train, feed: Iterator[np.ndarray], seed: int) -> Codec:
    """A trained codec with the statistics of its latents; its first average if `train` keeps one."""
    first = next(feed)
    objective = loss.objective(config)
    fit = Fit(objective.init, objective, train, first, seed)
    for _ in range(train.examples // len(first)):
        fit.step(next(feed))
    return codec_of(fit, config, feed)


def codec_of(fit: Fit, config: CodecConfig, feed: Iterator[np.ndarray]) -> Codec:
    """What was trained, with the statistics of 16 batches of latents."""
    model = fit.state.ema[0] if fit.state.ema else fit.state.model
    blank = Codec.blank(autoencoder_of(model), config)
    parts = (next(feed) / np.float32(127.5) - 1 for _ in range(16))
    return blank.measured(np.asarray(encode(blank, jnp.asarray(x))) for x in parts)


def own_network(data: np.ndarray, path: Path, steps: int, seed: int) -> Path:
    """The perceptual network that `OwnPerceptual` would fit to these pictures first, in the file `path`."""
    if not path.exists():
        feed = batches(data, 16, seed)
        first = next(feed)
        fit = Fit(partial(Learner.init, config=NetworkConfig()), Views(), schedule(steps, 16, 1e-3), first, seed)
        for _ in range(steps):
            fit.step(next(feed))
        release.save(fit.state.ema[0].network, path)
    return path


def latents_of(codec: Codec, media: np.ndarray, size: int = 32) -> np.ndarray:
    """Latents of uint8 clips."""
    parts = [media[i : i + size] / np.float32(127.5) - 1 for i in range(0, len(media), size)]
    return np.concatenate([np.asarray(encode(codec, jnp.asarray(x))) for x in parts])


def media_of(codec: Codec, latents: np.ndarray, size: int = 32) -> np.ndarray:
    """What latents decode to, uint8."""
    parts = [np.asarray(latents[i : i + size], np.float32) for i in range(0, len(latents), size)]
    return quantise(np.concatenate([np.asarray(decode(codec, jnp.asarray(x))) for x in parts]))

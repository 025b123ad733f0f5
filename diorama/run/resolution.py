"""Lower resolutions of clips: how a stage of a cascade is trained on its own clips, and draws from the stage before.

A clip is made smaller as media are brought to any bucket's size, so what a stage is trained on looks like the clips of
the stage before. It is brought back to size by the two plain ways, bicubic in space and linear in time: what the
stage has to beat. Then the stage's codec encodes it as it does clips.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diorama.codec import Codec, PixelCodec, encode
from diorama.core.array import Array
from diorama.core.random import stream
from diorama.media.resize import scale
from diorama.net import LowResolutionConfig
from diorama.net.condition import noised
from diorama.run.examples import whole
from diorama.run.run import Bucket, Run


def lowered(frames: np.ndarray, config: LowResolutionConfig) -> np.ndarray:
    """Frames (t, h, w, 3) uint8 as the stage before would draw them."""
    return scale(frames[:: config.time], frames.shape[1] // config.space, frames.shape[2] // config.space)


def raised(low: np.ndarray, config: LowResolutionConfig, t: int, h: int, w: int) -> np.ndarray:
    """`low` (n, h', w', 3) uint8 at the size (t, h, w, 3): bicubic, with a linear blend between frames that are known
    and the last one held."""
    frames = scale(low, h, w)
    if config.time == 1:
        return frames
    place = np.minimum(np.arange(t) / config.time, len(low) - 1)
    before = place.astype(int)
    after, part = np.minimum(before + 1, len(low) - 1), (place - before)[:, None, None, None]
    return np.rint((1 - part) * frames[before] + part * frames[after]).astype(np.uint8)


def repeated(low: np.ndarray, config: LowResolutionConfig, t: int) -> np.ndarray:
    """The plainest way to bring `low` to size: every pixel and frame again and again."""
    return low.repeat(config.time, 0)[:t].repeat(config.space, 1).repeat(config.space, 2)


def beside(codec: Codec | PixelCodec, bucket: Bucket, config: LowResolutionConfig) -> np.ndarray:
    """What a signal has beside its latents (t, h, w, 2): the share of each latent frame that is known, and 0 noise."""
    known = (np.arange(bucket.frames) % config.time == 0).astype(np.float32)
    shape, each = codec.latent_shape(bucket.frames, bucket.height, bucket.width), 1
    if isinstance(codec, Codec):
        each = codec.config.temporal  # the first frame stands alone
        known = np.pad(known, (0, 1 + (shape[0] - 1) * each - len(known)), mode="edge")
    share = np.concatenate([known[:1], known[1:].reshape(-1, each).mean(1)])
    return np.stack([np.broadcast_to(share[:, None, None], shape[:3]), np.zeros(shape[:3], np.float32)], axis=-1)


def low_of(run: Run, media: np.ndarray) -> np.ndarray | None:
    """The low resolution of true clips (n, t, h, w, 3), to be drawn from; None if the run starts from none."""
    low = run.denoiser.denoiser.low
    return np.stack([lowered(clip, low[1]) for clip in media]) if low else None


def signal(
    run: Run, codec: Codec | PixelCodec, bucket: Bucket, low: np.ndarray | None, ids: np.ndarray, level: float,
    seed: int,
) -> dict[str, Array]:  # fmt: skip
    """The low resolution of a batch under its name, with noise of (seed, id) at `level`; nothing if the run starts
    from none. Without `low` it is absent."""
    if run.denoiser.denoiser.low is None:
        return {}
    name, config = run.denoiser.denoiser.low
    t, h, w = bucket.frames, bucket.height, bucket.width
    if low is None:
        shape = codec.latent_shape(t, h, w)
        return {name: jnp.zeros((len(ids), *shape[:3], shape[3] + 2))}
    media = np.stack([raised(clip, config, t, h, w) for clip in low]) / np.float32(127.5) - 1
    return {name: _signal(encode(codec, media), beside(codec, bucket, config), np.uint32(ids), np.float32(level), seed)}


@partial(jax.jit, static_argnames="seed")
def _signal(latents: Array, beside: Array, ids: Array, level: Array, seed: int) -> Array:
    value = jnp.concatenate([latents, jnp.broadcast_to(beside, (*latents.shape[:-1], 2))], axis=-1)
    return noised(value, jnp.broadcast_to(level, ids.shape), stream(seed, "low/noise"), ids)


def signals_of(
    run: Run, codec: Codec | PixelCodec, bucket: Bucket, media: np.ndarray, ids: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The signal of true clips (n, t, h, w, 3) as the run samples with it, in batches of one size.

    ids: of the noise, as those are drawn; None adds none.
    """
    low = low_of(run, media)
    if low is None:
        return {}
    found: dict[str, list[np.ndarray]] = {}
    level, numbers = (0.0, np.arange(len(low))) if ids is None else (run.sampling.augmentation, ids)
    for start in range(0, len(low), bucket.batch):
        part = slice(start, start + bucket.batch)
        n, clips, own = len(low[part]), *(whole(each[part], bucket.batch) for each in (low, numbers))
        for name, value in signal(run, codec, bucket, clips, own, level, run.seed).items():
            found.setdefault(name, []).append(np.asarray(value)[:n])
    return {name: np.concatenate(parts) for name, parts in found.items()}

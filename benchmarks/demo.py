"""The demo's denoiser as benchmarks run it: sizes from the recipe, parameters and data random."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from diorama.codec import latent_shape
from diorama.core.layout import Layout
from diorama.core.memory import keep_memory
from diorama.core.random import stream
from diorama.diffusion import Denoiser
from diorama.net import TransformerConfig, UNetConfig, null
from diorama.run import Bucket
from diorama.sample import ClassifierFree, Euler, grid, plan, sample
from diorama.train import Train
from diorama.train.state import State, Tally, fault_names
from diorama.train.step import Batch, make_step, metric_names
from recipes.digits import recipe

SEED = 0


class Demo:
    """The recipe, a denoiser whose every parameter is random (none zero, as some are at the start), and its shapes."""

    def __init__(self, net: UNetConfig | TransformerConfig | None = None) -> None:
        keep_memory()  # as training does; PyTorch takes its memory from the same allocator
        self.run = recipe()
        denoiser = self.run.denoiser.denoiser
        self.stage = replace(self.run.denoiser, denoiser=replace(denoiser, net=net or denoiser.net))
        start = self.init(stream(SEED, "init"))
        leaves, structure = jax.tree.flatten(start)
        keys = jax.random.split(stream(SEED, "shake"), len(leaves))
        shaken = [x + 0.03 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
        self.model: Denoiser = jax.tree.unflatten(structure, shaken)

    def init(self, key: Any) -> Denoiser:
        return self.stage.denoiser.init(key, self.run.codec.codec.channels)

    def columns(self, bucket: Bucket, n: int) -> dict[str, np.ndarray]:
        """`n` examples: latents, ids, and half to all of a caption's tokens."""
        rng = np.random.default_rng(SEED)
        shape = latent_shape(self.run.codec.codec, bucket.frames, bucket.height, bucket.width)
        [(name, text)] = self.stage.denoiser.conditions.items()
        words = rng.integers(1, text.vocabulary, (n, text.length), np.int32)
        length = rng.integers(text.length // 2, text.length + 1, (n, 1))
        words[np.arange(text.length) >= length] = 0
        return {
            "media": rng.standard_normal((n, *shape), np.float32),
            "id": np.arange(n, dtype=np.uint32),
            name: words,
        }

    def batch(self, bucket: Bucket) -> Batch:
        """One batch on the device."""
        return Layout().put(self.columns(bucket, bucket.batch))

    def step(self, bucket: Bucket, config: Train) -> Callable[[], None]:
        """One training step as the loop compiles it, on data that lie on the device; waits until it is done."""
        objective, layout = self.stage.objective, Layout()
        born = partial(State.init, config=config)
        shardings = layout.shardings(jax.eval_shape(born, self.model))
        state, batch = jax.jit(born, out_shardings=shardings)(self.model), self.batch(bucket)
        names = metric_names(objective, self.model, batch)
        tally = jax.device_put(Tally.blank(names, len(fault_names(self.model))), layout.sharding())
        step = make_step(config, objective, shardings, SEED, layout)

        def once() -> None:
            nonlocal state, tally
            state, tally = step(state, tally, batch)
            jax.block_until_ready(state)

        return once

    def taus(self, steps: int) -> np.ndarray:
        """The noise times of `steps` even steps."""
        return grid.Uniform()(self.stage.denoiser.process, steps)

    @property
    def scale(self) -> float:
        """Of the recipe's guidance."""
        return self.run.sampling.guidance.scale

    def sampler(self, steps: int, shape: tuple[int, ...]) -> Callable[..., jax.Array]:
        """`draw(model, ids, batch) -> latents`: Euler with classifier-free guidance, in one compiled program."""
        matrix = plan.joint(self.taus(steps), shape[0])

        @jax.jit
        def draw(model: Denoiser, ids: jax.Array, batch: Batch) -> jax.Array:
            signals = model.conditions.signals(batch)
            guided = ClassifierFree(self.scale)(model, model.process, null(signals))
            return sample(guided, model.process, Euler(), matrix, ids, shape, seed=SEED, conditions=signals)

        return draw

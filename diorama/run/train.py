"""Training a run: tokenizer, codec, latents, denoiser. Each step is skipped when done and goes on when half done."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from diorama.codec import Codec, PixelCodec, PixelCodecConfig, autoencoder_of, decode, encode
from diorama.codec.loss import Learner, Views
from diorama.core import release
from diorama.core.errors import UserError
from diorama.core.files import write_text
from diorama.data import ArraySource, Catalogue, loader
from diorama.diffusion.align import denoiser_of
from diorama.evaluate import quantise
from diorama.media import contact_sheet
from diorama.net import LowResolutionConfig, text
from diorama.net.condition import Context, aligned
from diorama.run.by_source import with_sources
from diorama.run.examples import clips, conditions, media_of, some, sources, whole
from diorama.run.features import check, features, learned
from diorama.run.folder import Folder, codec_like
from diorama.run.generate import Generator
from diorama.run.latents import Cache, draw, fingerprint, views
from diorama.run.packing import turns
from diorama.run.plan.lints import undivided
from diorama.run.resolution import beside, low_of
from diorama.run.run import Bucket, CodecStage, Learned, Run, Taken
from diorama.run.trained import TrainedConfig
from diorama.run.validation import held
from diorama.train import Preview, State, Train, load_model, train
from diorama.train.by_source import BySource


def train_run(run: Run, catalogue: Catalogue, path: Path | str) -> Folder:
    """Take `run` through all its training on `catalogue`, in the folder `path`; go on where an earlier call stopped.

    Raises:
        UserError: the folder holds another run, the data do not fit, or training met a non-finite value.
        Stopped: after SIGTERM or Ctrl-C, with a checkpoint saved.
    """
    possible(run, catalogue, Folder(Path(path)))
    with _first_process_first():
        folder = Folder.claim(path, run, catalogue)
    learn_tokenizer(run, catalogue, folder)
    train_codec(run, catalogue, folder)
    train_denoiser(run, catalogue, folder)
    return folder


def possible(run: Run, catalogue: Catalogue, folder: Folder) -> None:
    """Raises `UserError` for what cannot be trained, before a folder is made for it."""
    run.layout.sharding()  # are there so many devices?
    for said in undivided(run, ("denoiser",) if folder.parameters.exists() else ("codec", "denoiser")):
        raise UserError(said)
    codec = _codec(run.codec.codec, folder)
    if run.codec.learned:
        buckets = [bucket for bucket, _ in sources(catalogue, run.codec.buckets)]
        for bucket in buckets:
            _codes(codec, bucket)
        if not folder.parameters.exists():
            _learns(run.codec, min(buckets, key=lambda bucket: min(bucket.height, bucket.width)))
    shapes = dict.fromkeys(_codes(codec, bucket) for bucket, _ in sources(catalogue, run.denoiser.buckets))
    init = partial(run.denoiser.denoiser.init, channels=codec.config.channels)
    net, extra = _born(init, run.denoiser.train).net, aligned(run.denoiser.denoiser.conditions, codec.config.channels)
    for shape in shapes:  # conditions change none of them
        sizes = shape, shape[:2], *([(*shape[:-1], extra)] if extra else [])
        x, level, *more = (jax.ShapeDtypeStruct(size, np.float32) for size in sizes)
        jax.eval_shape(lambda net, x, level, *more: net(x, level, Context(aligned=next(iter(more), None))),
                       net, x, level, *more)  # fmt: skip
    check(run.denoiser, codec.config, [shape[1:] for shape in shapes])
    if run.denoiser.train.validate and not any(clips(catalogue, b, "test") for b in run.denoiser.buckets):
        raise UserError("denoiser.train.validate is set and nothing is held back: curate anew, or set it to None")
    if run.denoiser.packing:
        run.denoiser.packing.fits([shape[1:] for shape in shapes])


def _codec(config: Learned | Taken | PixelCodecConfig, folder: Folder) -> Codec | PixelCodec:
    """The codec of a recipe; all that is asked of it are shapes.

    Raises `UserError` where a codec that it takes is not there or not known, or another than the run of `folder` took.
    That run has a copy of its own and goes on without what it took.
    """
    if not isinstance(config, Taken):
        return codec_like(config)
    if not folder.weights.exists():
        return config.load()
    if Path(config.path).exists() and config.note()["hash"] != folder.note()["hash"]:
        raise UserError(
            f"{folder.path} was trained on latents of other weights than {config.path} holds now: use another folder"
        )
    return folder.codec_like()


def _learns(stage: CodecStage, bucket: Bucket) -> None:
    """Raises `UserError` where files, parts or roles of what a codec is trained for do not fit it, or the smallest
    clips."""
    assert stage.learned is not None
    assert stage.train is not None
    with TemporaryDirectory() as where:
        own = Path(where) / "perceptual.safetensors" if stage.perceptual else None
        if own and stage.loss.own:  # it is trained later: zeros stand for it
            like = jax.eval_shape(stage.loss.own.init, jax.random.key(0))
            release.save(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like), own)
        objective = stage.loss.objective(stage.learned, own)
    model = _born(objective.init, stage.train)
    batch = {"media": _clip(bucket), "id": jax.ShapeDtypeStruct((1,), np.uint32)}
    jax.eval_shape(lambda *given: objective(*given), model, batch, jax.random.key(0))


def _born(init: Callable[[Any], Any], how: Train) -> Any:
    """What is trained, as shapes. Raises `UserError` for sizes that do not fit, and roles that nothing has."""
    return jax.eval_shape(lambda key: State.init(init(key), how), jax.random.key(0)).model


def _codes(codec: Codec | PixelCodec, bucket: Bucket) -> tuple[int, ...]:
    """The shape of the latents of one clip. Raises `UserError` where a codec cannot code clips of a bucket's shape and
    give them back in three channels."""
    try:
        latents = jax.eval_shape(encode, codec, _clip(bucket))
        again = jax.eval_shape(decode, codec, latents)
    except (TypeError, ValueError) as error:  # of an array's shape
        raise UserError(f"codec.codec cannot code RGB clips of {bucket}: {str(error).splitlines()[0]}") from None
    if (latents.shape[-1], again.shape[-1]) != (codec.config.channels, 3):
        raise UserError("codec.codec is made for media of other than three channels, and clips are RGB")
    return latents.shape


def _clip(bucket: Bucket) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, bucket.frames, bucket.height, bucket.width, 3), np.float32)


@contextmanager
def _first_process_first() -> Iterator[None]:
    """With several processes (on a shared file system) the first does the block, then the others, who find it done."""
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices("first process")
    yield
    if jax.process_index() == 0 and jax.process_count() > 1:
        multihost_utils.sync_global_devices("first process")


def _once(path: Path, make: Callable[[], None]) -> None:
    """Make the file `path` if it is not there, by the first process alone."""
    with _first_process_first():
        if not path.exists():
            make()


def learn_tokenizer(run: Run, catalogue: Catalogue, folder: Folder) -> None:
    """`tokenizer.json` from the training captions, if the model reads text."""
    config, path = folder.text_config(), folder.path / "tokenizer.json"
    if config:
        captions = catalogue.clips("train")["caption"].to_pylist()
        _once(path, lambda: text.save(text.learn((c for c in captions if c), config.vocabulary), path))


def train_codec(run: Run, catalogue: Catalogue, folder: Folder) -> None:
    """`codec.safetensors`: the first average of codec training, or weights that are taken as they are; and the
    statistics of their latents."""
    stage, path, config = run.codec, folder.parameters, run.codec.learned
    if stage.taken:
        _take(stage.taken, run, catalogue, folder)
    if config is None or stage.train is None or path.exists():
        return
    found = sources(catalogue, stage.buckets)
    show = found[0][1]
    look = media_of(show, some(len(show), 8, run.seed))

    def preview(model: object, examples: int, where: Path) -> None:
        codec = Codec.blank(autoencoder_of(model), config)
        _, t, h, w, _ = look.shape
        again = decode(codec, encode(codec, look / np.float32(127.5) - 1))[:, :t, :h, :w]
        pairs = [np.concatenate(pair, axis=1) for pair in zip(look, quantise(again), strict=True)]
        contact_sheet(pairs, where / f"{examples:09d}.png", columns=8, smallest=64)

    batches = loader([(s, b.batch, b.weight) for b, s in found], seed=run.seed, **run.layout.share._asdict())
    objective = stage.loss.objective(config, train_perceptual(run, catalogue, folder))
    train(
        stage.train, objective.init, objective, batches, folder.path / "codec",
        seed=run.seed, layout=run.layout, preview=_alone(preview), name=folder.called("codec"),
    )  # fmt: skip

    def keep() -> None:
        codec = Codec.blank(autoencoder_of(load_model(folder.path / "codec", objective.init)), config)
        release.save(codec.measured(_some_latents(codec, catalogue, run)), path)

    _once(path, keep)


def _take(config: Taken, run: Run, catalogue: Catalogue, folder: Folder) -> None:
    """`codec.json` and `codec.safetensors`: what was trained elsewhere, so that the run needs nothing outside of it."""

    def keep() -> None:
        if isinstance(config, TrainedConfig):
            return config.copy(folder.parameters)
        codec = config.load()
        measured = codec if codec.told else codec.measured(_some_latents(codec, catalogue, run))
        return release.save(measured, folder.parameters)

    _once(folder.weights, lambda: write_text(folder.weights, json.dumps(config.note(), indent=1) + "\n"))
    _once(folder.parameters, keep)


def train_perceptual(run: Run, catalogue: Catalogue, folder: Folder) -> Path | None:
    """`perceptual.safetensors`: the run's own network that its codec's loss asks for; None if it asks for none."""
    stage, path = run.codec, folder.path / "perceptual.safetensors"
    if stage.loss.own is None or stage.perceptual is None:
        return None
    if not path.exists():
        found = [(s, b.batch, b.weight) for b, s in sources(catalogue, stage.buckets)]
        batches = loader(found, seed=run.seed + 2, **run.layout.share._asdict())
        init = partial(Learner.init, config=stage.loss.own)
        train(stage.perceptual, init, Views(), batches, folder.path / "perceptual",
              seed=run.seed, layout=run.layout, name=folder.called("perceptual network"))  # fmt: skip
        _once(path, lambda: release.save(load_model(folder.path / "perceptual", init).network, path))
    return path


def _some_latents(codec: Codec, catalogue: Catalogue, run: Run) -> Iterator[np.ndarray]:
    """Latents of 16 batches a bucket, drawn from all its clips."""
    for bucket, source in sources(catalogue, run.denoiser.buckets):
        rows = some(len(source), 16 * bucket.batch, run.seed)
        for start in range(0, len(rows), bucket.batch):
            media = media_of(source, rows[start : start + bucket.batch]) / np.float32(127.5) - 1
            yield np.asarray(encode(codec, whole(media, bucket.batch)))[: len(media)]


def latents(run: Run, catalogue: Catalogue, folder: Folder, bucket: Bucket, split: str = "train") -> ArraySource | None:
    """The latents of a bucket's clips in a split, with their conditions: read from the cache, or encoded first.

    They lie with the catalogue, for every run with this codec; with the run where they are pixels, or where the
    catalogue may not be written to. A note in the run's `latents/` says where, and the spectrum of those that train.
    None if the bucket has no clips.
    """
    source = clips(catalogue, bucket, split)
    if source is None:
        return None
    codec, variants = folder.codec(), run.denoiser.latents

    def filled(low: LowResolutionConfig | None = None) -> Cache:
        cache = Cache(catalogue.path, fingerprint(folder), source, bucket, variants, low)
        shared = os.access(catalogue.path, os.W_OK) or not len(cache.index().missing)
        if isinstance(codec, PixelCodec) or not shared:
            cache = Cache(folder.path, fingerprint(folder), source, bucket, variants, low)
        cache.fill(codec, run.layout, folder.called(f"{'low ' if low else ''}latents {bucket}"))
        return cache

    cache = filled()
    note = folder.path / "latents" / f"{run.denoiser.buckets.index(bucket)}.{bucket}.json"

    def tell() -> None:
        spectrum = [float(np.mean(channels)) for channels in cache.statistics()["spectrum"]]
        about = {"path": str(cache.path.resolve()), "examples": len(source), "spectrum": spectrum}
        write_text(note, json.dumps(about) + "\n")

    if split == "train":
        _once(note, tell)
    columns: dict[str, Any] = {"media": cache.rows(), "id": source.ids}
    if run.denoiser.denoiser.low:
        name, config = run.denoiser.denoiser.low
        columns[name] = filled(config).rows(beside(codec, bucket, config))
    if run.denoiser.features and split == "train":
        columns["features"] = features(run, folder, source, bucket)
    return ArraySource(columns | conditions(run, folder, source.captions, source.labels), source.weights)


def train_denoiser(run: Run, catalogue: Catalogue, folder: Folder) -> None:
    """`denoiser.safetensors`: the first average of denoiser training."""
    stage, path = run.denoiser, folder.path / "denoiser.safetensors"
    if path.exists():
        return
    fitting = [bucket for bucket, _ in sources(catalogue, stage.buckets)]
    given = [(b, s) for b in fitting if (s := latents(run, catalogue, folder, b))]
    names, given = with_sources(catalogue, given)
    back = [(b, s, latents(run, catalogue, folder, b, "test")) for b, s in given] if stage.train.validate else []
    run = folder.fitted(run)
    several = len(views(stage.latents)) > 1
    init, objective = learned(run, folder)
    found, objective = turns(run.denoiser, given, objective, run.seed, folder.called("denoiser"))
    batches = loader(found, seed=run.seed + 1, **run.layout.share._asdict(), augment=draw if several else None)
    objective = BySource(objective, names) if names else objective
    train(
        stage.train, init, objective, batches, folder.path / "denoiser",
        seed=run.seed, layout=run.layout, preview=_alone(_preview(run, catalogue, folder)),
        held=held(run, back) if back else None, name=folder.called("denoiser"),
    )  # fmt: skip
    _once(path, lambda: release.save(denoiser_of(load_model(folder.path / "denoiser", init)), path))


def _alone(preview: Preview) -> Preview | None:
    """Previews need the whole model in one process; with several there are none."""
    return preview if jax.process_count() == 1 else None


def _preview(run: Run, catalogue: Catalogue, folder: Folder) -> Preview:
    """Draws the same few held-back prompts again and again while training."""
    bucket = next(b for b in run.denoiser.buckets if clips(catalogue, b, "train"))
    source = clips(catalogue, bucket, "test") or clips(catalogue, bucket, "train")
    assert source is not None
    captions, labels = source.captions[:8], source.labels[:8]
    low = low_of(run, media_of(source, np.arange(len(captions))))

    def preview(model: Any, examples: int, where: Path) -> None:
        generator = Generator(run, folder, folder.codec(), denoiser_of(model))
        with run.layout.ambient():  # the weights lie as they train
            media = generator.draw(captions, labels, ids=np.arange(len(captions)), bucket=bucket, low=low)
        contact_sheet(
            list(media),
            where / f"{examples:09d}.png",
            columns=4,
            captions=captions,
            frames=min(4, media.shape[1]),
            smallest=64,
        )

    return preview

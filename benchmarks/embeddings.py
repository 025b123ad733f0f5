"""What embeddings know of pictures that nobody labelled, and what a score learns from 40 judgements.

Command:   python -m benchmarks.embeddings --images IMAGES [--set cifar10_train-01-of-05] [--clips 4000] [--seed 0]
           python -m benchmarks.embeddings --parity          (needs torch and transformers)
Hardware:  two CPU cores, about 3 minutes.

IMAGES holds Parquet files with columns `image` and `label`. An encoder learns from the pictures of a set alone; then
each picture is given the class of its NEIGHBOURS nearest others, weighted by exp(cosine / 0.07) (Wu et al. 2018,
"Unsupervised feature learning via non-parametric instance discrimination"), and the figure is how many classes are
right. Beside it: principal components of the pixels, and the same encoder with random filters and projection. What was
chosen in `diorama.data.embed.patches` was chosen on the first 3,000 of cifar10_train-00-of-05. Then a score learns
vehicles against animals from 40 judged pictures, twenty of each, of ten draws; its figure is the AUC on all others.
With --parity, published architectures at tiny sizes and random weights are compared with `transformers`.
The last line is JSON.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from diorama.data.embed import SelfSupervised
from diorama.data.embed.patches import Encoder
from diorama.data.embed.pictures import unit, whole
from diorama.data.embed.pretrained import load_vision
from diorama.data.embed.score import fit
from diorama.data.stages.preview import Preview
from diorama.media import Media, read

NEIGHBOURS = 20
JUDGED = 20  # of each kind
DRAWS = 10
VEHICLES = {0, 1, 8, 9}  # of CIFAR-10: airplane, automobile, ship, truck


def pictures(path: Path, clips: int) -> tuple[pa.Table, np.ndarray]:
    """Previews as a derived stage reads them, and labels (n,)."""
    table = pq.read_table(path, columns=["image", "label"]).slice(0, clips)
    preview = Preview()
    images = [preview(Media(read(image.as_py()).frames))["images"] for image in table["image"]]
    ids = [f"{k:06d}" for k in range(len(images))]
    return pa.table({"id": ids, "preview.images": images}), table["label"].to_numpy()


def neighbours(vectors: np.ndarray, labels: np.ndarray) -> float:
    """The share of pictures whose class their nearest others tell, themselves left out."""
    vectors = unit(vectors)
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -2)
    near = np.argpartition(-alike, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    weight = np.exp(np.take_along_axis(alike, near, 1) / 0.07)
    votes = np.zeros((len(labels), labels.max() + 1))
    np.add.at(votes, (np.arange(len(labels))[:, None], labels[near]), weight)
    return float((votes.argmax(1) == labels).mean())


def random_encoder(stage: SelfSupervised, seed: int) -> Encoder:
    """An encoder of the same shape whose filters and projection are drawn at random."""
    keys = jax.random.split(jax.random.key(seed), 2)
    blank = Encoder.blank(stage.filters, stage.width)
    filters = jax.random.normal(keys[0], blank.filters.shape) / np.sqrt(len(blank.filters))
    return replace(blank, filters=filters, projection=jax.random.normal(keys[1], blank.projection.shape))


def judged(vectors: np.ndarray, good: np.ndarray, seed: int) -> list[float]:
    """AUC on all others of a score that learns from JUDGED of each kind, for each draw."""
    found = []
    for draw in range(DRAWS):
        rng = np.random.default_rng((seed, draw))
        known = np.concatenate([rng.choice(np.flatnonzero(good == kind), JUDGED, replace=False) for kind in (0, 1)])
        weight, bias, _ = fit(vectors[known], good[known].astype(float), seed, "benchmark")
        others = np.setdiff1d(np.arange(len(good)), known)
        found.append(float(roc_auc_score(good[others], vectors[others] @ weight + bias)))
    return found


def compare(path: Path, clips: int, seed: int) -> dict[str, Any]:
    """Every embedding of one set."""
    table, labels = pictures(path, clips)
    stage = SelfSupervised(seed=seed)
    pixels = np.stack([whole(images[0], stage.side) for images in table["preview.images"].to_pylist()])
    flat = pixels.reshape(len(pixels), -1) / 255
    vectors = {"pixels (64 principal components)": PCA(64, random_state=seed).fit_transform(flat)}
    encoder = random_encoder(stage, seed)
    encode = jax.jit(lambda x: encoder(x.astype(jnp.float32) / 255))
    random = np.concatenate([np.asarray(encode(pixels[k : k + 250])) for k in range(0, len(pixels), 250)])
    vectors["random encoder"] = random - random.mean(0)
    with tempfile.TemporaryDirectory() as models:
        start = time.process_time()
        function = stage.prepare(Path(models), lambda n: table.slice(0, n))
        learning = time.process_time() - start
        start = time.process_time()
        vectors["self-supervised"] = np.stack(function(table)["vector"])
        embedding = time.process_time() - start
    report: dict[str, Any] = {"set": path.stem, "n": len(labels), "seed": seed, "neighbours": NEIGHBOURS,
                              "learning_cpu_s": round(learning, 1), "embedding_cpu_s": round(embedding, 1)}  # fmt: skip
    report["accuracy"] = {name: round(neighbours(x, labels), 4) for name, x in vectors.items()}
    for name, accuracy in report["accuracy"].items():
        print(f"{name:<34} {accuracy:.3f}", flush=True)
    if path.stem.startswith("cifar10"):
        good = np.isin(labels, list(VEHICLES)).astype(int)
        draws = {name: judged(unit(x), good, seed) for name, x in vectors.items()}
        report["auc"] = {name: [round(float(f(x)), 4) for f in (np.mean, np.min)] for name, x in draws.items()}
    return report


def published() -> Iterator[tuple[str, Any, int]]:
    """Tiny models of every family by `transformers`, and the side of the pictures that they get."""
    import transformers as hf

    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 4}
    vision = size | {"intermediate_size": 32}
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vocab_size": 50, "max_position_embeddings": 8}  # fmt: skip
    yield "CLIP", hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)), 16
    yield "SigLIP", hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=vision)), 16
    for side in (16, 12, 24):
        yield f"DINOv2 at {side}", hf.Dinov2Model(hf.Dinov2Config(**size)), side
        with_registers = hf.Dinov2WithRegistersConfig(num_register_tokens=2, **size)
        yield f"DINOv2 with registers at {side}", hf.Dinov2WithRegistersModel(with_registers), side


def parity() -> dict[str, float]:
    """The largest difference between vectors of ours and of `transformers`, by model."""
    import torch

    found = {}
    for name, model, side in published():
        torch.manual_seed(0)
        with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            for parameter in model.eval().parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
            model.save_pretrained(folder)
            x = torch.rand(3, 3, side, side) * 4 - 2
            vision: Callable = getattr(model, "get_image_features", model)
            theirs = vision(pixel_values=x)
            theirs = getattr(theirs, "pooler_output", theirs).numpy()
            ours = np.asarray(load_vision(Path(folder), side)(jnp.asarray(x.permute(0, 2, 3, 1).numpy())))
        found[name] = float(np.abs(ours - theirs).max())
        print(f"{name:<32} {found[name]:.1e} of {np.abs(theirs).max():.2f}", flush=True)
    return found


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--set", default="cifar10_train-01-of-05")
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parity", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if options.parity:
        report: dict[str, Any] = {"largest difference": parity()}
    elif options.images is None:
        parser.error("give --images or --parity")
    else:
        report = compare(options.images / f"{options.set}.parquet", options.clips, options.seed)
    print(json.dumps(report))


if __name__ == "__main__":
    main()

"""Published encoders: golden numbers of `transformers` for weights that a formula makes, and what is refused.

Made by transformers 5.23.0 and torch 2.13.0 on a CPU from the files that `published.write` makes: the first three
numbers of the first vector and the last three of the last. `benchmarks/embeddings.py --parity` compares anew.
"""

import json

import cv2
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from diorama.core.errors import UserError
from diorama.data.embed import Pretrained
from diorama.data.embed.pictures import picture, unit
from diorama.data.embed.preprocess import Preprocess
from diorama.data.embed.pretrained import load_vision, resized
from tests.data.embed.published import KINDS, PREPROCESS, SIDE, pictures, write

GOLDEN = {
    ("clip", 16): (1.105983, -0.482493, -0.646342, 1.054608, -0.404721, -0.669057),
    ("siglip", 16): (-0.002434, 0.836859, -0.870025, 0.677187, -0.106772, -0.476893),
    ("dinov2", 16): (-0.511733, -0.802703, 1.418118, -1.265731, 1.294552, 0.807532),
    ("dinov2", 12): (-0.516917, -0.780869, 1.422912, -1.292013, 1.326080, 0.812774),
    ("dinov2", 24): (-0.444559, -0.870049, 1.406597, -1.274647, 1.184537, 0.768862),
    ("dinov2_with_registers", 16): (-0.510446, -0.802829, 1.419039, -1.248192, 1.231833, 0.600784),
    ("dinov2_with_registers", 12): (-0.541901, -0.760715, 1.436233, -1.292409, 1.351802, 0.806061),
    ("dinov2_with_registers", 24): (-0.416948, -0.897942, 1.389793, -1.282974, 1.179068, 0.776336),
}


@pytest.mark.parametrize(("kind", "side"), GOLDEN, ids=str)
def test_vectors_are_those_of_transformers(kind, side, tmp_path):
    vectors = np.asarray(load_vision(write(tmp_path, kind), side)(jnp.asarray(pictures(side))))
    np.testing.assert_allclose([*vectors[0, :3], *vectors[2, -3:]], GOLDEN[kind, side], atol=2e-5)


def test_the_stage_is_the_network_on_prepared_previews(tmp_path):
    rng = np.random.default_rng(0)
    images = [[cv2.imencode(".jpg", rng.integers(0, 256, (20, 30, 3), np.uint8))[1].tobytes()] for _ in range(5)]
    stage = Pretrained(str(write(tmp_path / "m", "siglip")), batch=2)
    function = stage.prepare(tmp_path, pytest.fail)
    found = np.stack(function(pa.table({"id": list("abcde"), "preview.images": images}))["vector"])
    prepare = Preprocess.read(tmp_path / "m" / "preprocessor_config.json")
    x = np.stack([prepare(picture(each[0])) for each in images])
    np.testing.assert_allclose(found, unit(np.asarray(load_vision(tmp_path / "m", SIDE)(x))), atol=1e-5)
    assert {path.name for path in stage.weights} == {path.name for path in (tmp_path / "m").iterdir()}


def test_positions_keep_planes_and_corners():
    y, x = np.mgrid[:8, :8] / 8 + 1 / 16
    plane = np.stack([y, x, np.ones_like(x)], -1).reshape(64, 3)
    assert resized(plane, 8, antialias=False) is plane
    for antialias in (False, True):
        half = np.asarray(resized(plane, 4, antialias=antialias)).reshape(4, 4, 3)
        inner = np.mgrid[:4, :4][:, 1:3, 1:3] / 4 + 1 / 8
        np.testing.assert_allclose(half[1:3, 1:3, :2], np.moveaxis(inner, 0, -1), atol=0.01)
        np.testing.assert_allclose(half[..., 2], 1, atol=1e-6)


def config(folder, **changes) -> Preprocess:
    (folder / "p.json").write_text(json.dumps(PREPROCESS | changes))
    return Preprocess.read(folder / "p.json")


def test_pictures_are_scaled_cropped_and_normalised(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    square = config(tmp_path)(levels)
    scaled = np.asarray(Image.fromarray(levels).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(square, (scaled / 255 - [0.5, 0.4, 0.3]) / [0.5, 0.6, 0.7], atol=1e-6)
    old = {"size": 20, "do_center_crop": True, "crop_size": SIDE}
    new = {"size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}}
    for said in (old, new):  # the picture keeps its size
        cropped = config(tmp_path, **said, do_normalize=False)(levels)
        np.testing.assert_allclose(cropped, levels[2:18, 7:23] / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_resize": False}, "neither scales"),
        ({"rescale_factor": 1.0}, "neither scales"),
        ({"size": {"longest_edge": 20}}, "no fixed size"),
        ({"size": {"shortest_edge": 20}}, "no fixed size"),
        ({"size": {"height": 16, "width": 20}}, "a square"),
        ({"size": 12, "do_center_crop": True, "crop_size": 16}, "a square"),
    ],
)
def test_other_preprocessing_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        config(tmp_path, **changes)


def test_other_models_and_damaged_folders_are_refused(tmp_path):
    def refused(message: str) -> None:
        with pytest.raises(UserError, match=message):
            load_vision(folder, SIDE)

    folder = write(tmp_path / "m", "clip")
    arrays, text = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    lacking = {name: x for name, x in arrays.items() if name != "vision_model.post_layernorm.bias"}
    save_file(lacking, folder / "model.safetensors")
    refused(r"lacks 'vision_model\.post_layernorm\.bias'")
    (folder / "model.safetensors").write_bytes(b"damaged")
    refused("is no folder of an encoder")
    save_file(arrays, folder / "model.safetensors")
    for changes, message in (({"model_type": "bert"}, "of type 'bert': known are clip"),
                             ({"vision_config": {"hidden_act": "swish"}}, "perceptrons")):  # fmt: skip
        (folder / "config.json").write_text(json.dumps(text | changes))
        refused(message)
    (folder / "config.json").unlink()
    refused("is no folder of an encoder")
    with pytest.raises(UserError, match="cannot be read"):
        Pretrained(str(tmp_path / "none")).prepare(tmp_path, pytest.fail)


@pytest.mark.parametrize("kind", KINDS)
def test_a_side_that_patches_do_not_divide_is_refused(kind, tmp_path):
    with pytest.raises(UserError, match="patches of 4"):
        load_vision(write(tmp_path, kind), 15)

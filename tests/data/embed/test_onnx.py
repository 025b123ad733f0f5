"""An encoder in an ONNX file against the same in NumPy, and every way in which a file does not fit."""

import sys

import cv2
import numpy as np
import pyarrow as pa
import pytest

from diorama.core.errors import UserError
from diorama.data.embed import Onnx
from diorama.data.embed.pictures import unit, whole

MEAN, STD, SIDE = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 8
WEIGHT = np.random.default_rng(0).standard_normal((3 * SIDE * SIDE, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def clips() -> pa.Table:
    rng = np.random.default_rng(1)
    images = [[cv2.imencode(".jpg", rng.integers(0, 256, (12, 12, 3), np.uint8))[1].tobytes()] for _ in range(7)]
    return pa.table({"id": [f"{k}" for k in range(7)], "preview.images": images})


def model(path, shape=("n", 3, SIDE, SIDE), inputs: int = 1, kind: str = "FLOAT") -> str:
    """Flatten, times WEIGHT; then also the mean over rows, as an output of one axis."""
    onnx = pytest.importorskip("onnx", reason="onnx makes the models of these tests")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    number = getattr(onnx.TensorProto, kind)
    entries = [helper.make_tensor_value_info(f"x{k}", number, list(shape)) for k in range(inputs)]
    nodes = [
        helper.make_node("Cast", ["x0"], ["x"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w"], ["vectors"]),
        helper.make_node("Unsqueeze", ["vectors", "axis"], ["tokens"]),
        helper.make_node("ReduceMean", ["vectors"], ["mean"], keepdims=0),
    ]
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size)
               for name, size in (("vectors", [shape[0], 5]), ("tokens", [shape[0], 1, 5]), ("mean", []))]  # fmt: skip
    size = int(np.prod(shape[1:])) if all(isinstance(side, int) for side in shape[1:]) else len(WEIGHT)
    weight = WEIGHT if size == len(WEIGHT) else np.zeros((size, 5), np.float32)
    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array([1]), "axis")]
    graph = helper.make_graph(nodes, "encoder", entries, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return str(path)


def stage(path, **options) -> Onnx:
    pytest.importorskip("onnxruntime")
    return Onnx(str(path), side=SIDE, mean=MEAN, std=STD, **options)


def truth(clips: pa.Table, layout: str) -> np.ndarray:
    x = np.stack([whole(images[0], SIDE) for images in clips["preview.images"].to_pylist()])
    x = (x / 255.0 - MEAN) / STD
    x = x if layout == "nhwc" else x.transpose(0, 3, 1, 2)
    return unit(x.reshape(len(x), -1).astype(np.float32) @ WEIGHT)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        (("n", 3, SIDE, SIDE), {}),
        (("n", 3, SIDE, SIDE), {"batch": 2, "output": "tokens"}),
        ((4, 3, SIDE, SIDE), {}),  # seven clips fill it twice, less one
        (("n", "c", "h", "w"), {}),
        (("n", SIDE, SIDE, 3), {"layout": "nhwc"}),
    ],
)
def test_vectors_are_those_of_numpy(clips, tmp_path, shape, options):
    function = stage(model(tmp_path / "m.onnx", shape), **options).prepare(tmp_path, pytest.fail)
    found = np.stack(function(clips)["vector"])
    np.testing.assert_allclose(found, truth(clips, options.get("layout", "nchw")), atol=1e-5)


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        ({"shape": ("n", 3, 9, 9)}, {}, r"of shape \('n', 3, 9, 9\), which nchw pictures of side 8 are not"),
        ({"shape": ("n", SIDE, SIDE, 3)}, {}, "set side and layout"),
        ({"shape": ("n", 3 * SIDE * SIDE)}, {}, "set side and layout"),
        ({"inputs": 2}, {}, r"takes 2 inputs \(x0, x1\)"),
        ({"kind": "UINT8"}, {}, r"takes x0 as tensor\(uint8\)"),
        ({}, {"output": "vector"}, "has no output 'vector': there are vectors, tokens, mean"),
        ({}, {"output": "mean"}, "not vectors"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(tmp_path, made, options, message):
    with pytest.raises(UserError, match=message):
        stage(model(tmp_path / "m.onnx", **made), **options).prepare(tmp_path, pytest.fail)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    for name, message in (("m.onnx", "is no model that ONNX Runtime"), ("none.onnx", "is not there")):
        with pytest.raises(UserError, match=message):
            stage(tmp_path / name).prepare(tmp_path, pytest.fail)


def test_weights_beside_the_model_count(tmp_path):
    for name in ("m.onnx", "m.onnx.data"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in Onnx(str(tmp_path / "m.onnx")).weights] == ["m.onnx", "m.onnx.data"]


def test_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r'pip install "diorama\[onnx\]"'):
        Onnx(str(tmp_path / "m.onnx")).prepare(tmp_path, pytest.fail)

"""Networks on eight simulated devices give the loss and gradients of one, and send what they should and no more.

Run as a program, it compiles and computes every network in every layout, and prints what it found as JSON.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import Layout
from diorama.core.collectives import collectives
from diorama.core.module import paths
from diorama.net import MagnitudeUNetConfig, TransformerConfig, UNetConfig, attend
from diorama.net.condition import Context
from diorama.net.head import HeadConfig
from diorama.net.places import Reach
from diorama.train.step import _gradient
from tests.net.tiny import CHANNELS, net_of
from tests.shared import simulated

ROOT = Path(__file__).resolve().parents[2]
B, T, SIDE, WIDTH, WORDS, DEPTH = 8, 2, 8, 32, 3, 3

NETS: dict[str, Any] = {
    "transformer": TransformerConfig(width=WIDTH, depth=DEPTH, heads=4, mixing=False, previous=False),
    "pieces": TransformerConfig(width=WIDTH, depth=DEPTH, heads=4, mixing=False, previous=False, attention="chunked"),
    "joint": TransformerConfig(  # its two heads go round in a ring where they do not divide
        width=WIDTH, depth=2, heads=2, text="joint", registers=2, activation="swiglu", modulation="shared",
        reach=(Reach(future=0), Reach()),
    ),
    "head": TransformerConfig(  # two heads, which `tensor` does not divide either
        width=WIDTH, depth=3, heads=2, head=HeadConfig(2 * WIDTH, 1),
        reach=(Reach(past=0, future=0), Reach(rows=0, columns=0), Reach(past=1, rows=1, columns=1)),
    ),
    "unet": UNetConfig(widths=(16, WIDTH), heads=4, width=WIDTH),
    "magnitude": MagnitudeUNetConfig(widths=(16, WIDTH), heads=4, width=WIDTH),
}  # fmt: skip
LAYOUTS = {
    "data8": {"data": 8},
    "fsdp8": {"fsdp": 8},
    "tensor4": {"tensor": 4},
    "sequence4": {"sequence": 4},
    "data2-fsdp2-tensor2": {"data": 2, "fsdp": 2, "tensor": 2},
    "fsdp4-sequence2": {"fsdp": 4, "sequence": 2},
    "data2-sequence4": {"data": 2, "sequence": 4},
    "fsdp2-tensor2-sequence2": {"fsdp": 2, "tensor": 2, "sequence": 2},
    "data2-tensor2-sequence2": {"data": 2, "tensor": 2, "sequence": 2},
}
CASES = {
    "transformer": ("data8", "fsdp8", "tensor4", "sequence4", "data2-fsdp2-tensor2", "data2-sequence4"),
    "pieces": ("sequence4",),
    "joint": ("sequence4", "fsdp2-tensor2-sequence2"),
    "head": ("tensor4", "data2-sequence4"),
    "unet": ("data8", "fsdp4-sequence2", "fsdp2-tensor2-sequence2", "data2-tensor2-sequence2"),
    "magnitude": ("fsdp2-tensor2-sequence2",),
}
PARTS = {("unet", "data2-tensor2-sequence2"): B}  # of a batch, computed in turn: `data` does not divide one example


def layout_of(name: str) -> Layout:
    return Layout(**LAYOUTS[name], smallest=64)


def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "x": (B, T, SIDE, SIDE, CHANNELS), "target": (B, T, SIDE, SIDE, CHANNELS),
        "broadcast": (B, WIDTH), "tokens": (B, WORDS, WIDTH),
    }  # fmt: skip
    normal = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    level = rng.uniform(size=(B, T)).astype(np.float32)
    return normal | {"level": level, "mask": np.arange(WORDS) < rng.integers(WORDS + 1, size=(B, 1))}


def loss(net: Any, batch: dict[str, Any]) -> Any:
    context = Context(broadcast=batch["broadcast"], tokens=batch["tokens"], mask=batch["mask"])
    return jnp.square(net(batch["x"], batch["level"], context).value - batch["target"]).mean()


def compute(net: Any, layout: Layout, parts: int = 1) -> tuple[float, dict[str, np.ndarray], Any]:
    """The loss, its gradient by path, and the compiled program; of a batch in so many parts."""

    def both(net: Any, batch: dict[str, Any]) -> Any:
        with layout.ambient():
            value, _, gradient = _gradient(lambda net, part: (loss(net, part), {}), net, batch, parts)
        return value.mean(), gradient

    shardings = layout.shardings(net)
    net, given = jax.device_put(net, shardings), layout.put(batch())
    program = jax.jit(both, out_shardings=(layout.sharding(), shardings)).lower(net, given).compile()
    value, gradient = program(net, given)
    return float(value), {path: np.asarray(x) for path, x in paths(gradient).items()}, program


def main(name: str, layouts: list[str]) -> None:
    net = net_of(NETS[name])
    if name == "pieces":
        attend.PIECE = 5 * B * T * (SIDE // 2) ** 2  # five queries in one head of all clips, of 32
    value, gradient, alone = compute(net, Layout())
    memory = alone.memory_analysis().temp_size_in_bytes
    found = {}
    for layout in layouts:
        other, theirs, program = compute(net, layout_of(layout), PARTS.get((name, layout), 1))
        apart = {path: float(np.abs(theirs[path] - g).max() / np.abs(g).max()) for path, g in gradient.items()}
        sent = collectives(program.as_text(), layout_of(layout).mesh.size, 8)
        found[layout] = {
            "loss": abs(other / value - 1),
            "gradient": max((size, path) for path, size in apart.items()),
            "sent": {c.kind: [c.count, c.bytes] for c in sent},
            "memory": program.memory_analysis().temp_size_in_bytes / memory,
        }
        print(name, layout, found[layout], file=sys.stderr, flush=True)
    print(json.dumps(found))


@cache
def found(name: str) -> dict[str, Any]:
    """What `main` says of a network."""
    command = [sys.executable, "-m", "tests.sharded.test_nets", name, *CASES[name]]
    done = subprocess.run(command, cwd=ROOT, env=simulated(8), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_losses_and_gradients_equal_those_of_one_device(name):
    for layout, result in found(name).items():
        print(name, layout, result)
        assert result["loss"] < 1e-5, layout
        assert result["gradient"][0] < 1e-5, layout


@pytest.mark.slow
def test_a_transformer_sends_what_it_should_and_no_more():
    sent = {layout: result["sent"] for layout, result in found("transformer").items()}
    assert counts(sent["data8"]) == {"all-reduce": 1}  # the gradient
    # eight weights a block, forward and backward, and six outside of blocks; sums of each block's gradient
    # (reduce-scatters on accelerators) and of the rest
    assert counts(sent["fsdp8"]) == {"all-gather": 2 * 8 * DEPTH + 6, "all-reduce": DEPTH + 1}
    # attention, cross-attention, perceptron, forward and backward; gradients of embedding and text together; and each
    # block's modulation, of frames and not of tokens
    assert counts(sent["tensor4"]) == {"all-reduce": 2 * 3 * DEPTH + 1, "all-gather": DEPTH}
    assert sent["tensor4"]["all-gather"][1] == DEPTH * B * T * 6 * WIDTH * 4 * 3 / 4
    # queries, keys, values and what attention gave, forward and backward, each a quarter of the tokens but its own part
    assert counts(sent["sequence4"]) == {"all-to-all": 2 * 4 * DEPTH, "all-reduce": 1}
    tokens = B * T * (SIDE // 2) ** 2
    assert sent["sequence4"]["all-to-all"][1] == 2 * 4 * DEPTH * tokens * WIDTH * 4 // 4 * 3 / 4


@pytest.mark.slow
def test_attention_in_pieces_sends_what_the_whole_does():
    assert found("pieces")["sequence4"]["sent"] == found("transformer")["sequence4"]["sent"]


def counts(sent: dict[str, list[int]]) -> dict[str, int]:
    return {kind: count for kind, (count, _) in sent.items()}


@pytest.mark.slow
def test_memory_falls_with_the_devices():
    result = found("transformer")
    assert result["data8"]["memory"] < 0.2
    assert result["fsdp8"]["memory"] < 0.25
    assert result["sequence4"]["memory"] < 0.3
    assert found("unet")["fsdp4-sequence2"]["memory"] < 0.25


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

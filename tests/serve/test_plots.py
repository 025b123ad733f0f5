"""The report's figures say what is in them."""

import numpy as np

from diorama.process.peers import PEERS
from diorama.serve import plots


def test_the_runs_weight_stands_among_those_of_others():
    logsnr = np.linspace(-12.0, 12.0, 97)
    drawn = plots.weights({"logsnr": logsnr, "effective": np.exp(-logsnr / 2)})
    for name in (*PEERS, "this run"):
        assert name in drawn
    nowhere = plots.weights({"logsnr": logsnr, "effective": np.where(logsnr > 2, 1.0, 0.0)})  # not at logsnr 0
    assert "this run" in nowhere


def test_a_loss_below_zero_is_drawn_too():
    """With a learned uncertainty a loss is the logarithm of an error, and no logarithm is taken of it."""
    lines = [{"examples": i, "loss": 1.0 - i, "loss_tau0": 0.5} for i in range(3)]
    assert "weighted loss" in plots.curves([], lines[:1])
    whole = plots.curves([], lines)
    assert whole.count("weighted loss") == 1  # of the panel by noise time


def test_validation_is_drawn_where_there_was_any():
    lines = [{"examples": i, "loss": 1.0, "loss_tau0": 0.5} for i in range(1, 5)]
    assert "held-back clips" not in plots.curves([], lines)
    lines[1] |= {"validation": 1.1, "validation_train": 1.0}
    drawn = plots.curves([], lines)
    assert "held-back clips" in drawn
    assert "training clips, same noise" in drawn

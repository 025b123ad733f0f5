"""What docs/adding.md shows is run as it stands there."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.process import EDM, LinearVP, Process
from diorama.sample import Euler, Solver, grid
from diorama.sample.guidance import Guidance
from tests.sample.truths import gaussian, gaussian_map, march, order

TEXT = (Path(__file__).parents[1] / "docs" / "adding.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)


def made(base):
    """The class under `base` that the page shows."""
    for block in BLOCKS:
        names: dict = {"__name__": "shown"}
        exec(block, names)
        for value in names.values():
            if isinstance(value, type) and issubclass(value, base) and value.__module__ == "shown":
                return value
    raise AssertionError(f"the page shows no {base.__name__}")


@pytest.mark.parametrize("block", BLOCKS)
def test_each_takes_under_forty_lines(block):
    assert block.count("\n") < 40


def test_the_solver_reaches_its_order(x64):
    process, errors, steps = LinearVP(), [], [40, 80, 160]  # rectified flow of a Gaussian lets its error vanish
    x = jax.random.normal(jax.random.key(0), (8, 1, 1, 1, 1), float)
    exact = gaussian_map(process, x, 0.9, 0.4, 0.3, 0.5)
    solver = made(Solver)()
    for n in steps:
        found = march(solver, process, gaussian(process, 0.3, 0.5), np.linspace(0.9, 0.4, n + 1), x)
        errors.append(float(jnp.abs(found - exact).max()))
    assert order(steps, errors) == pytest.approx(solver.order, abs=0.3)


def test_the_process_is_sampled(x64):
    process, x = made(Process)(), jax.random.normal(jax.random.key(0), (8, 1, 1, 1, 1), float)
    exact = gaussian_map(process, x, 1.0, 0.0, 0.3, 0.5)
    found = march(Euler(), process, gaussian(process, 0.3, 0.5), grid.Karras()(process, 400), x)
    np.testing.assert_allclose(found, exact, atol=0.01)


def test_the_guidance_changes_nothing_at_scale_one_and_keeps_pairs():
    process, x, tau = EDM(), jnp.ones((2, 1, 2, 2, 1)), jnp.full((2, 1), 0.6)
    rule, denoiser = made(Guidance), gaussian(process)
    assert rule(1.0)(denoiser, process, jnp.full((1,), 2.0)) is denoiser
    pair, at = rule(3.0)(denoiser, process, jnp.full((1,), 2.0))(x, tau, jnp.ones(2)), process.at(tau, 5)
    np.testing.assert_allclose(at.alpha * pair.x0 + at.sigma * pair.epsilon, x, rtol=1e-5)

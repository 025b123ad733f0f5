import jax.numpy as jnp
import numpy as np
import pytest

from diorama.evaluate.lab.march import abreast, march, marcher, order, rows
from diorama.evaluate.truth import Gaussian
from diorama.process import RectifiedFlow
from diorama.sample import DDIM, DPMSolver, grid

PROCESS, LAW = RectifiedFlow(), Gaussian(0.3, 0.25)


@pytest.mark.parametrize("solver", [DPMSolver(2), DDIM(eta=1.0)], ids=str)
def test_grids_abreast_are_each_by_itself(solver):
    """Shorter grids wait, and the wait changes nothing: neither history nor noise."""
    grids = [grid.Uniform()(PROCESS, 3), grid.Cosine()(PROCESS, 7)]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 1, 1, 2)), jnp.float32)
    ids = jnp.asarray([4, 4, 9, 9], jnp.uint32)
    columns = abreast(grids)
    assert columns.shape == (8, 2)
    run = marcher(solver, PROCESS, LAW.denoiser(PROCESS))
    both = run(jnp.repeat(x, 2, 0), rows(np.tile(columns, 2), jnp.zeros((4, 1))), ids)
    for i, taus in enumerate(grids):
        alone = march(solver, PROCESS, LAW.denoiser(PROCESS), taus, x, ids[::2])
        np.testing.assert_allclose(both[i::2], alone, rtol=1e-5, atol=1e-6)


def test_the_order_is_the_slope():
    assert order([10, 20, 40], [3.0, 0.75, 0.1875]) == pytest.approx(2)

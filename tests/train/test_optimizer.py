import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diorama.train import Muon, Train, train
from tests.train.toy import OBJECTIVE, Net, data


def direction(optimizer, parameters, gradient):
    transform = optimizer.transform()
    return transform.update(gradient, transform.init(parameters), parameters)[0]


@pytest.mark.parametrize("shape", [(32, 64), (3, 32, 64), (3, 3, 16, 32)], ids=["matrix", "stack", "convolution"])
def test_muon_moves_every_direction_of_a_matrix_alike(shape):
    gradient = jax.random.normal(jax.random.key(0), shape)
    gradient = gradient * jnp.linspace(0.5, 10, shape[-1])  # far from orthogonal
    moved = np.asarray(direction(Muon(), {"w": jnp.zeros(shape)}, {"w": gradient})["w"])
    matrices = moved if len(shape) == 3 else moved.reshape(1, -1, shape[-1])
    for matrix in matrices:
        sizes = np.linalg.svd(matrix, compute_uv=False)
        assert sizes.min() > 0.5 * sizes.max()
        assert np.sqrt(np.square(matrix).mean()) == pytest.approx(0.2, rel=0.25)  # the size of Adam's step
    assert np.sum(moved * gradient) > 0  # up the gradient: the step is minus this


def test_muon_gives_vectors_and_thin_matrices_adams_direction_with_nesterovs_momentum():
    gradient = {"bias": jnp.array([1.0, -2.0, 0.5]), "thin": jnp.full((64, 4), -3.0)}
    zeros = jax.tree.map(jnp.zeros_like, gradient)
    adam = optax.scale_by_adam(0.9, 0.99, nesterov=True)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        direction(Muon(), zeros, gradient), adam.update(gradient, adam.init(zeros))[0],
    )  # fmt: skip


def test_muon_goes_on_from_a_checkpoint(tmp_path):
    def run(examples, folder):
        config = Train(examples, optimizer=Muon(), checkpoint_every=256)
        return train(config, Net.init, OBJECTIVE, data(), folder, seed=0)

    straight = run(1024, tmp_path / "a")
    run(512, tmp_path / "b")
    resumed = run(1024, tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, straight, resumed)

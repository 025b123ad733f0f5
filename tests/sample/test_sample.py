import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.core.random import normal, stream
from diorama.evaluate.truth import ring
from diorama.process import EDM, Prediction, RectifiedFlow, rapsd
from diorama.process.spectrum import radius
from diorama.sample import DDIM, Euler, Heun, grid, plan, sample
from diorama.sample.solver.adaptive import Adaptive
from diorama.sample.solver.edm import Churn
from diorama.sample.solver.exponential import SEEDS
from tests.process.test_gaussian import FEW
from tests.sample.truths import field, gaussian, gaussian_map

SHAPE = (3, 4, 4, 2)
STD = 0.2
RING = ring(6, 1.0, STD)
IDS = jnp.asarray([7, 1, 4_000_000_000, 12, 3], jnp.uint32)


def drawer(solver=None, process=None, steps=6, matrix=None, **kw):
    """A compiled `sample` from ids (and a seed) to clips."""
    process, solver = process or RectifiedFlow(), solver or Euler()
    matrix = plan.joint(grid.Uniform()(process, steps), SHAPE[0]) if matrix is None else matrix
    denoiser = kw.pop("denoiser", gaussian(process, 0.3, 0.25))
    return jax.jit(lambda ids, seed=0: sample(denoiser, process, solver, matrix, ids, SHAPE, seed=seed, **kw))


def draw(**kw):
    return drawer(**kw)(IDS)


@pytest.mark.parametrize("process", FEW, ids=lambda p: type(p).__name__)
def test_samples_are_the_exact_map_of_their_noise(process, x64):
    found = draw(process=process, solver=Heun(), matrix=plan.joint(grid.Karras()(process, 100), 3))
    noise = normal(stream(0, "sample/start"), IDS, SHAPE) * process.sigma(1.0)
    np.testing.assert_allclose(found, gaussian_map(process, noise, 1.0, 0.0, 0.3, 0.25), atol=3e-3)


@pytest.mark.parametrize("solver", [Heun(), Churn(gamma=0.2), DDIM(eta=1.0), SEEDS(), Adaptive(1e-2)], ids=str)
def test_a_clip_belongs_to_its_id(solver):
    """Alone or in any batch, in any order: bit for bit, for a denoiser that treats examples alike."""
    run = drawer(solver=solver)
    whole = run(IDS)
    for i in range(len(IDS)):
        np.testing.assert_array_equal(run(IDS[i : i + 1])[0], whole[i])
    np.testing.assert_array_equal(run(IDS[::-1]), whole[::-1])
    assert jnp.abs(run(IDS, seed=1) - whole).max() > 0.1
    assert len(np.unique(whole.round(5))) > 0.9 * whole.size


def test_every_step_has_noise_of_its_own():
    """A denoiser that believes in nothing: an ancestral step then leaves fresh noise and little else."""

    def ends(*taus):
        believes_nothing = lambda x, tau, conditions: Prediction(0 * x, 0 * x)  # noqa: E731
        found = draw(solver=DDIM(eta=1.0), denoiser=believes_nothing, matrix=plan.joint(np.asarray(taus), 3))
        return np.ravel(found) / found.std()

    first = ends(1.0, 0.5)
    assert np.mean(first * ends(1.0, 0.2)) == pytest.approx(np.sqrt(0.5 / 0.8), abs=0.1)  # a part of one motion
    assert abs(np.mean(first * ends(1.0, 0.5, 0.1))) < 0.2


@pytest.mark.parametrize("solver", [Euler(), Churn(gamma=0.3), DDIM(eta=1.0)], ids=str)
@pytest.mark.parametrize("make", [plan.joint, plan.autoregressive, plan.pyramid])
def test_given_frames_are_kept_exactly(solver, make):
    given = jax.random.normal(jax.random.key(1), (5, *SHAPE))
    found = draw(solver=solver, matrix=make(grid.Uniform()(RectifiedFlow(), 4), 3, given=1), given=given)
    np.testing.assert_array_equal(found[:, 0], given[:, 0])
    assert jnp.isfinite(found).all()
    assert jnp.abs(found[:, 1:] - given[:, 1:]).max() > 0.1


@pytest.mark.parametrize("make", [plan.joint, plan.autoregressive, plan.pyramid])
def test_other_frames_see_given_ones_as_they_are(make):
    """In the second evaluation of a step too, and of a network that predicts x0, whose own x0 differs."""
    given, seen = jax.random.normal(jax.random.key(1), (5, *SHAPE)), []

    def network(x, tau, conditions):
        jax.debug.callback(lambda x: seen.append(x), x[:, 0])
        return Prediction.of("x0", 0.5 * x, x, RectifiedFlow().at(tau, x.ndim))

    draw(denoiser=network, solver=Heun(), matrix=make(grid.Uniform()(RectifiedFlow(), 2), 3, given=1), given=given)
    jax.effects_barrier()
    assert seen
    for shown in seen:
        np.testing.assert_array_equal(shown, given[:, 0])


def test_given_frames_that_are_made_anew_leak_nothing():
    """EDM keeps alpha = 1 to the end, so what is `given` in a frame to be made must not be added to its noise."""
    matrix = plan.joint(grid.Karras()(EDM(), 4), 3, given=1)
    a, b = (draw(process=EDM(), matrix=matrix, given=jnp.zeros((5, *SHAPE)).at[:, 1:].set(v)) for v in (0.0, 9.0))
    np.testing.assert_array_equal(a, b)


def test_the_denoiser_sees_the_plan():
    """Known frames at 0, waiting frames at 1, and one frame at a time on its way."""
    matrix, seen = plan.autoregressive(grid.Uniform()(RectifiedFlow(), 2), 3, given=1), []

    def watching(x, tau, conditions):
        jax.debug.callback(lambda t: seen.append(np.asarray(t)), tau, ordered=True)
        assert tau.shape == x.shape[:2]
        assert conditions == "any"
        return Prediction(0 * x, 0 * x)

    draw(denoiser=watching, matrix=matrix, given=jnp.zeros((5, *SHAPE)), conditions="any")
    jax.effects_barrier()
    np.testing.assert_array_equal([tau[0] for tau in seen], matrix[:-1].astype(np.float32))


@pytest.mark.parametrize("solver", [Euler(), Heun(), DDIM(eta=0.7), Churn(gamma=0.1)], ids=str)
def test_frames_that_do_not_see_each_other_are_the_same_under_every_deterministic_plan(solver):
    taus = grid.Uniform()(RectifiedFlow(), 5)
    a, b = draw(solver=solver, matrix=plan.joint(taus, 3)), draw(solver=solver, matrix=plan.autoregressive(taus, 3))
    np.testing.assert_allclose(a[:, 0], b[:, 0], rtol=1e-5, atol=1e-6)
    if solver in (Euler(), Heun()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_media_can_be_varied_from_halfway(x64):
    """A plan that starts at tau = 0.5 starts from the given media, noised that far."""
    given = jnp.full((5, *SHAPE), 2.0)
    taus = np.linspace(0.5, 0, 60)
    found = draw(matrix=plan.joint(taus, 3), given=given, solver=Heun())
    start = 0.5 * given + 0.5 * normal(stream(0, "sample/start"), IDS, SHAPE)
    np.testing.assert_allclose(found, gaussian_map(RectifiedFlow(), start, 0.5, 0.0, 0.3, 0.25), atol=1e-3)


def test_one_compilation_serves_every_model_and_seed():
    traces = []

    def denoiser(scale):
        def denoise(x, tau, conditions):
            traces.append(1)
            return Prediction(scale * x, x)

        return denoise

    matrix = plan.joint(grid.Uniform()(RectifiedFlow(), 4), 3)

    @jax.jit
    def run(scale, ids, seed):
        return sample(denoiser(scale), RectifiedFlow(), Euler(), matrix, ids, SHAPE, seed=seed)

    first = run(0.5, IDS, 0)
    n = len(traces)
    assert jnp.abs(run(0.7, IDS + 1, 3) - first).max() > 0
    assert len(traces) == n


def test_plans_that_cannot_be_are_refused():
    taus = grid.Uniform()(RectifiedFlow(), 4)
    with pytest.raises(UserError, match=r"3 frames is \(steps \+ 1, 3\), not \(5, 2\)"):
        draw(matrix=plan.joint(taus, 2))
    with pytest.raises(UserError, match=r"from 0 to 1\.5"):
        draw(matrix=plan.joint(1.5 * taus, 3))
    with pytest.raises(UserError, match="from nan to nan"):
        draw(matrix=np.full((5, 3), np.nan))
    with pytest.raises(UserError, match="starts frames 0, 1 below tau = 1, so pass `given`"):
        draw(matrix=plan.joint(taus, 3, given=2))


def spread(solver, taus):
    """Of 2000 samples of six Gaussians in the plane: their root mean square, and that about the nearest mean."""
    run = jax.jit(
        lambda ids: sample(RING.denoiser(RectifiedFlow()), RectifiedFlow(), solver, plan.joint(taus, 1), ids,
                           (1, 1, 1, 2), seed=0)
    )  # fmt: skip
    points = np.asarray(run(jnp.arange(2000, dtype=jnp.uint32))).reshape(-1, 2)
    means = np.asarray(RING.means)
    nearest = means[np.linalg.norm(points[:, None] - means, axis=-1).argmin(1)]
    return np.sqrt(np.mean(points**2)), np.sqrt(np.mean((points - nearest) ** 2))


def test_a_restart_keeps_the_law_and_mends_what_a_crude_solver_did():
    """arXiv 2306.14878: fresh noise forgets the errors made at high noise, here of eight steps of Euler."""
    truth, taus = np.sqrt((1 + 2 * STD**2) / 2), grid.Uniform()(RectifiedFlow(), 8)
    fine = plan.Restart(0.1, 0.5, times=2, steps=20)(grid.Uniform()(RectifiedFlow(), 40))
    assert spread(Heun(), fine) == pytest.approx((truth, STD), abs=0.012)
    crude, _ = spread(Euler(), taus)
    mended, _ = spread(Euler(), plan.Restart(0.1, 0.5, times=3, steps=6)(taus))
    assert abs(mended - truth) < 0.7 * abs(crude - truth)


def test_nobody_is_asked_where_times_rise():
    calls = []

    def watching(x, tau, conditions):
        jax.debug.callback(lambda: calls.append(1))
        return Prediction(0 * x, 0 * x)

    taus = plan.Restart(0.2, 0.6, times=3, steps=2)(grid.Uniform()(RectifiedFlow(), 5))
    draw(denoiser=watching, matrix=plan.joint(taus, 3))
    jax.effects_barrier()
    assert len(calls) == 5 + 3 * 2


@pytest.mark.parametrize(
    ("process", "solver", "steps"),
    [*((process, Heun(), 40) for process in FEW), (RectifiedFlow(), DDIM(eta=1.0), 400)],
    ids=lambda case: type(case).__name__,
)
def test_images_with_an_exact_score(process, solver, steps):
    """Samples of a Gaussian random field with power k^-2, whose denoiser is a Wiener filter, have its spectrum."""
    h = w = 32
    power = 4.0 / np.maximum(radius(h, w), 1.0) ** 2
    matrix = plan.joint(grid.Karras(sigma_min=0.02)(process, steps), 1)
    run = jax.jit(lambda ids: sample(field(process, power), process, solver, matrix, ids, (1, h, w, 1), seed=2))
    found = rapsd(run(jnp.arange(128, dtype=jnp.uint32))).mean((0, 1))[:, 0]
    ring = np.rint(radius(h, w)).astype(int)
    truth = np.asarray([power[ring == k].mean() for k in range(1, 17)])
    np.testing.assert_allclose(found, truth, rtol=0.12)

"""A rollout is what the whole clip would be: the same plan, the same noise, without a memory."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.core.random import per_example, stream
from diorama.diffusion import DenoiserConfig
from diorama.net import Perturbed, Signal
from diorama.net.head import HeadConfig
from diorama.net.places import Reach
from diorama.process import Coloured, CosineVP, RectifiedFlow
from diorama.process.noise import Brownian
from diorama.sample import DDIM, ClassifierFree, Euler, Heun, plan
from diorama.sample.rollout import Cached, Recomputed, _piece, per_frame, rollout, usual
from diorama.sample.sample import descend
from tests.net.tiny import CHANNELS, LABEL, TEXT, TRANSFORMER, UNET, made

IDS = jnp.asarray([7, 4_000_000_000], jnp.uint32)
SHAPE = (6, 4, 4, CHANNELS)
TAUS = np.linspace(1, 0, 4)
SEED = 5
CAUSAL = replace(TRANSFORMER, reach=(Reach(future=0),))
LABELS = {"label": Signal(jnp.asarray([1, 3]), jnp.ones(2, bool))}
WORDS = {"text": Signal(jnp.asarray([[5, 6, 7, 0, 0], [8, 9, 0, 0, 0]]), jnp.ones(2, bool))}


def model(net=CAUSAL, seed=0, **more):
    return made(lambda key: DenoiserConfig(net, {"label": LABEL} | more).init(key, CHANNELS), seed)


def rolled(denoiser, past, asked=((LABELS, None),), solver=None, ids=IDS, frames=SHAPE[0], **more):
    pieces = rollout(denoiser, past, solver or Euler(), TAUS, ids, SHAPE, asked, seed=SEED, frames=frames, **more)
    return np.concatenate([np.asarray(piece) for piece in pieces], axis=1)


def whole(denoiser, matrix, conditions=LABELS, reference=None, solver=None, guidance=None, given=None):
    """All frames in one program, with the noise of a rollout."""
    shape, process = (matrix.shape[1], *SHAPE[1:]), denoiser.process
    start = per_frame(process.noise, stream(SEED, "rollout/start"), IDS, 0, shape)
    motion = Brownian(per_example(stream(SEED, "rollout/step"), IDS), shape, process.noise)
    taus = jnp.broadcast_to(jnp.asarray(matrix, jnp.float32)[:, None], (len(matrix), 2, shape[0]))

    @jax.jit
    def draw(denoiser, conditions, reference, given):
        ask = guidance(denoiser, process, reference) if guidance else denoiser
        return descend(ask, process, solver or Euler(), matrix, taus, start, motion, conditions, given)[0]

    return draw(denoiser, conditions, reference, given)


def close(a, b):
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert np.abs(b).max() > 0.1


TURNS = (Reach(past=0, future=0), Reach(future=0, rows=0, columns=0))
ALL = {
    "space and time in turn, joint text": (
        replace(CAUSAL, reach=TURNS, text="joint", registers=2, modulation="shared"), 1, WORDS,
    ),
    "blocks": (replace(CAUSAL, reach=(Reach(future=0, block=2), Reach(past=1, future=0))), 2, {}),
    "patches of time": (replace(CAUSAL, patch=(2, 2, 2), skip=True, mixing=False, head=HeadConfig(16, 1)), 2, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_a_memory_of_all_frames_is_the_whole_clip(name):
    net, chunk, words = ALL[name]
    denoiser = model(net, **({"text": TEXT} if words else {}))
    said = LABELS | words
    truth = whole(denoiser, plan.autoregressive(TAUS, SHAPE[0], chunk=chunk), said)
    close(rolled(denoiser, Cached(window=6, chunk=chunk), ((said, None),)), truth)


DENOISER = model()


def silent(signals):
    return DENOISER.conditions.silent(signals)


def test_solvers_that_draw_and_guidance_by_conditions():
    """Blocks of several frames each, one after the other (a hybrid of joint and autoregressive); two memories."""
    denoiser = replace(DENOISER, process=CosineVP())
    guidance, solver = ClassifierFree(3.0), DDIM(eta=1.0)
    truth = whole(denoiser, plan.autoregressive(TAUS, 6, chunk=3), LABELS, silent(LABELS), solver, guidance)
    found = rolled(denoiser, Cached(window=6, chunk=3), ((LABELS, silent(LABELS)),), solver, guidance=guidance)
    close(found, truth)
    assert np.abs(found - rolled(denoiser, Cached(window=6, chunk=3), solver=solver)).max() > 0.1


def test_guidance_by_a_disturbed_network_and_by_a_worse_one():
    none = jnp.zeros((2, 2), bool)
    mild, disturbed = Perturbed(LABELS, none), Perturbed(LABELS, none.at[:, 1].set(True))
    matrix, guidance = plan.autoregressive(TAUS, 6, chunk=2), ClassifierFree(2.0)
    truth = whole(DENOISER, matrix, mild, disturbed, guidance=guidance)
    close(rolled(DENOISER, Cached(window=6, chunk=2), ((mild, disturbed),), guidance=guidance), truth)
    weak = model(replace(CAUSAL, width=8), seed=1)
    truth = whole(DENOISER, matrix, LABELS, weak, guidance=guidance)
    close(rolled(DENOISER, Cached(window=6, chunk=2), ((LABELS, weak),), guidance=guidance), truth)


def test_given_frames_are_held_and_what_follows_fits():
    """A piece of given ones, then one given in a piece with a new one, as where a picture is gone on from."""
    given = np.random.default_rng(0).normal(size=(2, 3, *SHAPE[1:])).astype(np.float32)
    start = jnp.pad(given, ((0, 0), (0, 3), (0, 0), (0, 0), (0, 0)))
    truth = whole(DENOISER, plan.delayed(TAUS, np.array([0, 3, 3]), 3), given=start)
    found = rolled(DENOISER, Cached(window=6, chunk=2), given=given)
    np.testing.assert_array_equal(found[:, :3], given)
    close(found, truth)


@pytest.mark.parametrize("chunk", [1, 3, 4], ids="in chunks of {}".format)
def test_a_window_as_long_as_layers_see_is_as_good_as_all(chunk):
    """The window has wrapped several times by then; a chunk may be longer than it."""
    denoiser = model(replace(CAUSAL, reach=(Reach(past=2, future=0), Reach(past=1, future=0)), previous=True))
    truth = whole(denoiser, plan.autoregressive(TAUS, 12, chunk=chunk))
    found = rolled(denoiser, Cached(window=2, chunk=chunk), frames=12)
    close(found, truth)
    short = rolled(denoiser, Cached(window=2, chunk=chunk), frames=5)
    np.testing.assert_array_equal(short, found[:, :5])


def test_one_layer_sees_in_its_memory_what_it_sees_beside_it():
    """Keys of a single layer know of no other frames, so a window kept is the window computed anew."""
    denoiser = model(replace(CAUSAL, depth=1, previous=False))
    given = np.random.default_rng(0).normal(size=(2, 4, *SHAPE[1:])).astype(np.float32)
    both = [
        rolled(denoiser, past, frames=14, given=given)
        for past in (Cached(window=4, chunk=2, noise=0.1), Recomputed(window=4, chunk=2, noise=0.1))
    ]
    close(*both)
    assert np.abs(rolled(denoiser, Cached(window=4, chunk=2, sink=2), frames=14, given=given) - both[0]).max() > 1e-3


@pytest.mark.parametrize("net", [UNET, TRANSFORMER], ids=["unet", "transformer"])
@pytest.mark.parametrize("window", [4, 2])
def test_joint_networks_go_on_by_their_last_frames(net, window):
    """Each piece is a clip of which the first frames are given, as `plan.joint` makes it."""
    denoiser, begin = model(net), 6 - window
    found = rolled(denoiser, Recomputed(window, chunk=begin), solver=Heun(), frames=6 + begin)

    @jax.jit
    def draw(denoiser, taus, begin, given):
        start = per_frame(denoiser.process.noise, stream(SEED, "rollout/start"), IDS, begin, SHAPE)
        motion = Brownian(per_example(stream(SEED, "rollout/step"), IDS), SHAPE, denoiser.process.noise, first=begin)
        taus = jnp.broadcast_to(taus[:, None], (4, 2, 6))
        return descend(denoiser, denoiser.process, Heun(), plan.joint(TAUS, 6), taus, start, motion, LABELS, given)[0]

    close(found[:, :6], draw(denoiser, plan.joint(TAUS, 6), 0, jnp.zeros((2, *SHAPE))))
    given = jnp.pad(found[:, begin:6], ((0, 0), (0, begin), (0, 0), (0, 0), (0, 0)))
    close(found[:, 6:], draw(denoiser, plan.joint(TAUS, 6, given=window), begin, given)[:, window:])


def test_one_program_serves_every_piece_and_an_id_has_its_own_video():
    """Text changes on the way; guidance remembers what it leads away from."""
    other = {"label": Signal(jnp.asarray([2, 2]), jnp.ones(2, bool))}
    asked = [(LABELS, silent(LABELS)), (other, silent(other))]
    run = partial(rolled, DENOISER, Cached(window=3, sink=1), guidance=ClassifierFree(2.0))
    _piece.clear_cache()
    found = run(asked, frames=9)
    assert _piece._cache_size() == 1
    same = run(asked[:1], frames=9)
    np.testing.assert_array_equal(found[:, :1], same[:, :1])
    assert np.abs(found[:, 1:] - same[:, 1:]).max((0, 2, 3, 4)).min() > 1e-2
    np.testing.assert_array_equal(found[:, :4], run(asked, frames=4))
    assert _piece._cache_size() == 1
    for i in range(2):
        alone = jax.tree.map(lambda x, i=i: x[i : i + 1], asked)
        close(run(alone, ids=IDS[i : i + 1], frames=9)[0], found[i])
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_an_endless_rollout_asks_as_late_as_it_can():
    told = []

    def asked():
        for label in range(4):
            told.append(label)
            yield {"label": Signal(jnp.asarray([label, label]), jnp.ones(2, bool))}, None

    pieces = rollout(DENOISER, Cached(window=6, chunk=2), Euler(), TAUS, IDS, SHAPE, asked(), seed=SEED)
    for label in range(2):
        assert next(pieces).shape == (2, 2, *SHAPE[1:])
        assert told == list(range(label + 1))


def test_what_does_not_go_together_is_refused():
    def refused(match, denoiser, past, **more):
        with pytest.raises(UserError, match=match):
            rolled(denoiser, past, **more)

    refused("Recomputed", model(UNET), Cached())
    refused("Recomputed", model(TRANSFORMER), Cached())
    blocks = model(replace(CAUSAL, reach=(Reach(future=0, block=2),)))
    refused("multiples", blocks, Cached(window=4, chunk=1))
    refused("multiples", blocks, Recomputed(window=3, chunk=2))
    joined = replace(DENOISER, process=RectifiedFlow(noise=Coloured(time=1.0)))
    refused("time=0", joined, Cached())
    for sizes in ({"window": 0}, {"chunk": 0}):
        with pytest.raises(UserError, match="window"):
            Recomputed(**sizes)
    with pytest.raises(UserError, match="sink"):
        Cached(sink=-1)


def test_what_is_usual_is_whole_tokens():
    config = DenoiserConfig(replace(TRANSFORMER, patch=(2, 1, 1)), {})
    denoiser = jax.eval_shape(lambda key: config.init(key, CHANNELS), jax.random.key(0))
    found = {frames: usual(denoiser, frames) for frames in (4, 5, 6, 8)}
    assert {n: (past.window, past.chunk) for n, past in found.items()} == {4: (2, 2), 5: (2, 2), 6: (4, 2), 8: (4, 4)}

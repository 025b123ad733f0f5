"""The codec's objective: sums of terms, and two roles in one gradient."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.codec import KL, CodecLoss, ConvCodecConfig, Patch, Reconstruction, Roles
from diorama.codec.codec import pad
from diorama.codec.loss import (
    L1,
    L2,
    Adversary,
    Alignment,
    Balanced,
    Charbonnier,
    CriticConfig,
    Equivariance,
    Fixed,
    LatentNoise,
    LatentSpectrum,
    MultiScale,
    NetworkConfig,
    OwnFeatures,
    OwnPerceptual,
    Perceptual,
    TrunkFeatures,
    Wavelet,
)
from diorama.codec.loss.critic import hinge, r1
from diorama.core import Layout, UserError, release
from diorama.core.config import override, parse, to_text
from diorama.core.module import Policy, paths
from diorama.train import Role, Train
from diorama.train.state import State, Tally, fault_names
from diorama.train.step import make_step, metric_names
from tests.net.tiny import made

CONFIG = ConvCodecConfig(spatial=4, temporal=2, channels=3, front=Patch(4), widths=(8,), bottleneck=KL(1e-3))
CRITIC = Adversary(CriticConfig(widths=(8,)), pull=Fixed(0.1))
RNG = np.random.default_rng(0)


def batch(b=4, t=3, h=8, w=8, c=3, seed=0):
    media = np.random.default_rng(seed).uniform(-1, 1, (b, t, h, w, c)).astype(np.float32)
    return {"media": media, "id": np.arange(b, dtype=np.uint32)}


def gradient(objective, model, data=None, key=0):
    def value(m):
        loss = objective(m, data or batch(), jax.random.key(key))
        return loss.value, loss.metrics

    return jax.jit(jax.value_and_grad(value, has_aux=True))(model)


def near(a, b, **how):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **how), a, b)


@pytest.fixture(scope="module")
def model():
    """Both roles, moved from where they start, for zeros hide mistakes."""
    return made(Reconstruction(CONFIG, adversary=CRITIC).init)


def test_by_default_it_is_the_mean_square_and_what_the_bottleneck_asks(model):
    """Bit for bit what is written out here."""

    def plain(m):
        media = pad(batch()["media"], CONFIG)
        drawn = m.draw(media, batch()["id"], jax.random.key(0))
        return jnp.mean(jnp.square((m.decode(drawn.latents) - media).astype(jnp.float32))) + drawn.penalty

    value, slope = jax.jit(jax.value_and_grad(plain))(model.autoencoder)
    (same, metrics), same_slope = gradient(Reconstruction(CONFIG), model.autoencoder)
    assert float(same) == float(value)
    jax.tree.map(np.testing.assert_array_equal, same_slope, slope)
    assert set(metrics) == {"mse", "kl", "psnr"}


def test_terms_add_up_and_are_logged_by_name(model):
    terms = (L1(weight=0.5), Wavelet(weight=0.25), LatentNoise(weight=2.0))
    (value, metrics), _ = gradient(Reconstruction(CONFIG, terms), model.autoencoder)
    assert set(metrics) == {"l1", "wavelet", "latent_noise", "mse", "psnr", "kl"}
    total = 0.5 * metrics["l1"] + 0.25 * metrics["wavelet"] + 2 * metrics["latent_noise"] + 1e-3 * metrics["kl"]
    np.testing.assert_allclose(value, total, rtol=1e-6)


def test_each_role_gets_the_gradient_of_its_own_loss(model):
    """Beside the codec's loss and the critic's loss, each differentiated alone with the other held."""
    data, key = batch(), jax.random.key(0)
    objective = Reconstruction(CONFIG, adversary=CRITIC)
    (_, metrics), both = gradient(objective, model)

    def codec(ae):
        drawn = ae.draw(data["media"], data["id"], key)
        again = ae.decode(drawn.latents)
        return jnp.mean(jnp.square(again - data["media"])) + drawn.penalty - 0.1 * jnp.mean(model.critic(again))

    def critic(c):
        again = model.autoencoder.decode(model.autoencoder.draw(data["media"], data["id"], key).latents)
        noise = r1(c, data["media"], data["id"], jax.random.fold_in(key, 0), CRITIC.step)
        return hinge(c(data["media"]), c(again)) + CRITIC.penalty * noise

    near(both.autoencoder, jax.jit(jax.grad(codec))(model.autoencoder), atol=1e-6, rtol=1e-4)
    near(both.critic, jax.jit(jax.grad(critic))(model.critic), atol=1e-6, rtol=1e-4)
    assert {"adversarial", "adversarial_weight", "critic", "critic_penalty"} <= set(metrics)
    assert {name for name, g in paths(both).items() if not np.any(np.asarray(g))} <= {"critic.leave.bias"}  # +1 - 1


def test_a_balanced_critic_pulls_as_hard_as_its_share(model):
    share = replace(CRITIC, pull=Balanced(0.5))
    still = jax.random.normal(jax.random.key(3), (2, 3, 8, 8, 3))
    slope = jax.random.normal(jax.random.key(4), still.shape)
    wish, metrics = share.ask(model.critic, still, slope, jnp.uint32(0))
    assert float(jnp.linalg.norm(wish)) == pytest.approx(0.5 * float(jnp.linalg.norm(slope)), rel=1e-5)
    direction = jax.grad(lambda y: -jnp.mean(model.critic(y)))(still)
    np.testing.assert_allclose(wish, metrics["adversarial_weight"] * direction, rtol=1e-4, atol=1e-6)


HOW = Train(examples=1000, learning_rate=3e-3, ema_std=(0.1,))
WITH = replace(HOW, roles=(Role("critic", learning_rate=1e-2),))


def trained(objective, config, steps=4):
    """The states after each step, and what was logged."""
    layout, data, states = Layout(), batch(), []
    state = jax.jit(lambda model: State.init(model, config))(made(objective.init))
    names = metric_names(objective, state.model, data, config.roles)
    tally = Tally.blank(names, len(fault_names(state.model)))
    step = make_step(config, objective, layout.shardings(state), 0, layout)
    for i in range(steps):
        state, tally = step(state, tally, layout.put(batch(seed=i)))
        states.append(jax.device_get(state))
    return states, tally


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def alone():
    return trained(Reconstruction(CONFIG), HOW)[0]


def test_a_critic_that_never_starts_changes_nothing(alone, model):
    """The gradient bit for bit; the steps to the rounding of what the compiler fuses."""
    late = Reconstruction(CONFIG, adversary=replace(CRITIC, start=1000, pull=Balanced()))
    _, with_critic = gradient(late, model)
    same(with_critic.autoencoder, gradient(Reconstruction(CONFIG), model.autoencoder)[1])
    assert not any(map(np.any, jax.tree.leaves(with_critic.critic)))
    states, tally = trained(late, WITH)
    near(states[-1].model.autoencoder, alone[-1].model, atol=1e-6)
    near(states[-1].ema[0].autoencoder, alone[-1].ema[0], atol=1e-6)
    same(states[-1].model.critic, made(late.init).critic)
    assert float(tally.weights["critic"]) == float(tally.weights["adversarial"]) == 0  # not in the log either


def test_the_critic_leads_and_the_codec_follows(alone):
    """Steps at 0, 4, 8, 12 examples: the critic learns from 4 on, the codec hears of it from 12 on."""
    objective = Reconstruction(CONFIG, adversary=replace(CRITIC, start=12, lead=8))
    states, tally = trained(objective, WITH)
    near(states[2].model.autoencoder, alone[2].model, atol=1e-6)
    critics = [state.model.critic.leave.weight for state in states]
    assert not np.array_equal(critics[1], critics[0])
    moved = states[3].model.autoencoder.decoder.leave.weight - alone[3].model.decoder.leave.weight
    assert np.abs(moved).max() > 1e-5
    assert float(tally.weights["critic"]) == 12
    assert float(tally.weights["adversarial"]) == 4


def test_accumulation_equals_the_full_batch():
    objective = Reconstruction(CONFIG, adversary=CRITIC)
    (whole,), _ = trained(objective, WITH, 1)
    (parts,), _ = trained(objective, replace(WITH, accumulate=2), 1)
    near(parts.model, whole.model, atol=1e-4)


EVERY = (
    L1(),
    L2(),
    Charbonnier(),
    MultiScale(),
    Wavelet(),
    Equivariance(scales=(0.5,), turns=(1, 2)),
    LatentNoise(),
    LatentSpectrum(),
    Alignment(),
    OwnPerceptual(network=NetworkConfig((8, 8), 3)),
)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "perceptual.safetensors"

    def make(channels):
        at = path.with_name(f"{channels}.safetensors")
        release.save(made(NetworkConfig((8, 8), channels).init), at)
        return at

    return make


@pytest.mark.parametrize(
    ("channels", "t", "h", "w", "compute"),
    [(1, 1, 17, 22, "float32"), (4, 3, 16, 16, "bfloat16")],
)
def test_every_term_takes_any_media(own, channels, t, h, w, compute):
    """Grey stills of odd sides, and videos with alpha in bfloat16: finite float32 values, a gradient everywhere."""
    network = NetworkConfig((8, 8), channels)
    codec = replace(CONFIG, media_channels=channels, front=Patch(4))
    terms = tuple(
        replace(x, network=network) if isinstance(x, OwnPerceptual)
        else replace(x, features=OwnFeatures(network)) if isinstance(x, Alignment) else x for x in EVERY
    )  # fmt: skip
    loss = CodecLoss(terms, replace(CRITIC, pull=Balanced()))
    assert loss.own == network
    objective = loss.objective(codec, own(channels))
    model = made(objective.init)
    data = batch(2, t, h, w, channels)
    run = lambda m: gradient(objective, Policy(compute).enter(m), data)  # noqa: E731
    (value, metrics), slope = run(model)
    assert value.dtype == jnp.float32
    assert {v.dtype for v in metrics.values()} == {jnp.dtype(jnp.float32)}
    assert all(np.isfinite(v) for v in metrics.values())
    assert isinstance(model, Roles)
    assert {k for k, g in paths(slope).items() if not np.any(np.asarray(g, np.float32))} <= {"critic.leave.bias"}
    assert all(np.isfinite(np.asarray(g, np.float32)).all() for g in jax.tree.leaves(slope))


def test_losses_survive_as_text():
    loss = CodecLoss(
        (
            *EVERY[:5],
            Perceptual(weights="vgg.safetensors", heads="lin.safetensors", trunk="alexnet", weight=0.3),
            Equivariance(of=OwnPerceptual(network=NetworkConfig((4,), 1)), scales=(0.5, 1.0), turns=(0,), weight=0.2),
            LatentNoise(of=Charbonnier(epsilon=0.1), most=0.3),
            LatentSpectrum(exponent=3.0),
            Alignment(features=TrunkFeatures(weights="vgg.safetensors"), near=0.1, weight=0.7),
            OwnPerceptual(weights="own.safetensors"),
        ),
        Adversary(CriticConfig((8, 16), 2), start=100, lead=10, pull=Fixed(0.2), penalty=1.0, step=0.1),
    )
    text = to_text(loss)
    again = parse(text, CodecLoss)
    assert to_text(again) == text
    assert again.terms[6].of.network.widths == (4,)
    assert again.terms[5].weight == 0.3
    assert parse(to_text(CodecLoss()), CodecLoss) == CodecLoss()
    assert override(loss, ["terms.6.weight=0.9", "adversary.start=7"]).terms[6].weight == 0.9
    assert override(loss, ["adversary.start=7"]).adversary.start == 7
    assert override(loss, ["terms.0=Charbonnier", "terms.2=L1"]).terms[0].epsilon == 1e-3


def test_losses_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(UserError, match="several terms called 'l1'"):
        CodecLoss((L1(), L1(weight=2.0)))
    with pytest.raises(UserError, match="compares the decoded media with nothing"):
        CodecLoss((LatentSpectrum(),))
    with pytest.raises(UserError, match=r"give codec\.perceptual, or weights"):
        CodecLoss((OwnPerceptual(),)).objective(CONFIG)
    with pytest.raises(UserError, match="several sizes"):
        CodecLoss((OwnPerceptual(), Alignment(features=OwnFeatures(NetworkConfig((4,)))))).own  # noqa: B018
    with pytest.raises(UserError, match="is not there"):
        CodecLoss((OwnPerceptual(weights=str(tmp_path / "none")),)).objective(CONFIG)

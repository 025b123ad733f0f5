"""Plans by what can be counted by hand, and by compiled programs of a tiny run."""

from dataclasses import asdict, replace
from functools import cache

import jax
import pytest

from diorama.core import Layout
from diorama.core.chips import chip
from diorama.core.collectives import Collective
from diorama.core.errors import UserError
from diorama.core.flops import flops
from diorama.core.layout import AXES
from diorama.core.module import UNROLLED, Policy, count
from diorama.core.random import stream
from diorama.data.embed.dense import OwnPlaces
from diorama.diffusion import Denoising
from diorama.diffusion.align import REPA, SelfAlignment
from diorama.net import TransformerConfig
from diorama.process.density import FromSpectrum
from diorama.run.features import grid_of
from diorama.run.plan.compiled import Compiled, Job, Memory, codec_of, compiled, shapes
from diorama.run.plan.plan import Step, _hours, axes, layouts, plan, size
from diorama.run.plan.roofline import seconds
from diorama.train import State, Train
from tests.cli.tiny import recipe
from tests.run.conftest import RUN, VIDEO

H100 = chip("h100")
ONE = Compiled(
    Job("denoiser", 0, {}), Memory(4, 8, 4, 2, 1, 10),
    (Collective("all-gather", False, 2, 450), Collective("all-reduce", True, 1, 100)),
    flops=989.4e12, done=2 * 989.4e12, moved=3.35e12, seconds=0.0,
)  # fmt: skip


def test_a_roofline_by_hand():
    took = seconds(ONE, H100, 4, "bfloat16")
    assert took.compute == pytest.approx(0.5)
    assert took.memory == pytest.approx(0.25)
    assert took.communication == pytest.approx(450 / 450e9 + 100 / 50e9)
    assert took.total == pytest.approx(0.5 + took.communication)
    assert took.bound == "compute"
    step = Step("denoiser", VIDEO, ONE, took, "bfloat16")
    assert step.utilisation(H100, 4) == pytest.approx(0.5, rel=1e-6)  # half is computed twice
    assert seconds(ONE, H100, 4, "float32").compute == pytest.approx(1.0)


def test_buckets_take_turns_by_weight():
    took = replace(seconds(ONE, H100, 4, "bfloat16"), communication=0.0)
    often, seldom = (
        Step("denoiser", replace(VIDEO, batch=n, weight=w), ONE, replace(took, compute=t), "bfloat16")
        for n, w, t in ((10, 3.0, 1.0), (30, 1.0, 5.0))
    )
    # of four steps three take a second and one five, on 60 examples
    assert _hours(Train(examples=3600), [often, seldom]) == pytest.approx(3600 / 60 * 8 / 3600)


def test_layouts_are_all_products():
    found = layouts(8)
    assert len(found) == len({tuple(each.values()) for each in found}) == 20  # ways to share three twos among four axes
    assert all(set(each) == set(AXES) for each in found)
    assert layouts(1) == [dict.fromkeys(AXES, 1)]


def test_a_layout_is_read():
    assert axes("data=2, fsdp=4") == {"data": 2, "fsdp": 4}
    for wrong in ("data", "data=0", "rows=2", "data=x"):
        with pytest.raises(UserError, match="is not a layout"):
            axes(wrong)


@pytest.mark.parametrize(("count", "said"), [(1234, "1.23 kB"), (5e6, "5 MB"), (81.6e9, "81.6 GB"), (2e12, "2 TB")])
def test_sizes_are_told(count, said):
    assert size(count) == said


def test_a_compiled_step_survives_json():
    assert Compiled.read(asdict(ONE)) == ONE


@cache
def tiny(stage="denoiser", **more):
    return compiled(recipe(), Job(stage, 0, {}), node=1, **more)


def test_the_state_is_what_training_holds():
    run, found = recipe(), tiny()
    codec = run.codec.codec
    state = State.init(run.denoiser.denoiser.init(jax.random.key(0), codec.channels), run.denoiser.train)
    assert found.memory.parameters == found.memory.averages == 4 * count(state.model)
    assert found.memory.optimizer == 4 * count(state.optimizer)
    b, t, h, w = 4, 3, 4, 4
    assert found.memory.batch == 2 * (b * t * h * w * codec.channels * 4 + b * 4 + b * 8 * 4 + b * 4)
    assert found.memory.temporary > 0
    assert found.collectives == ()
    assert found.done >= found.flops > 0  # the optimiser's products are done too


def test_a_state_that_does_not_fit_is_not_compiled():
    with pytest.raises(UserError, match="the state alone takes"):
        compiled(recipe(), Job("denoiser", 0, {}), node=1, memory=1000)


def test_a_batch_that_does_not_divide():
    with pytest.raises(UserError, match="a batch of 4 does not divide over 3 devices and 1 parts"):
        compiled(recipe(), Job("denoiser", 0, {"data": 3}), node=1)


def test_terms_on_layers_are_trained_too():
    stage = replace(RUN.denoiser, align=(REPA(1, hidden=8),), features=OwnPlaces(side=16, filters=4, width=3))
    again = replace(stage, align=(REPA(1, hidden=8), SelfAlignment(0, 1)))
    plain, one, two = (
        shapes(replace(RUN, denoiser=each), "denoiser", VIDEO, Layout(), True) for each in (RUN.denoiser, stage, again)
    )
    head = 16 * 8 + 8 + 8 * 8 + 8 + 8 * 3 + 3  # of the second level's width
    assert count(one.state.model) - count(plain.state.model) == head
    assert count(two.state.model) - count(one.state.model) == 8 * 8 + 8 + 8 * 16 + 16
    grid = grid_of(stage, codec_of(RUN).latent_shape(9, 32, 32))
    assert one.batch["features"].shape == (VIDEO.batch, *grid, 3)
    assert "features" not in plain.batch

    def forward(given):
        return flops(lambda m, b: given.objective(m, b, stream(0, "objective")).value, given.state.model, given.batch)

    assert forward(plain) < forward(one)
    assert forward(two) - forward(one) > 0.25 * forward(plain)  # the second pass, which goes as far as the later layer


class Answers:
    """Takes the place of compiling: of data=2 the step takes half the time of any other layout."""

    def __init__(self, monkeypatch, codec):
        self.codec, self.asked = codec, []
        monkeypatch.setitem(plan.__globals__, "compile_all", self.all)  # its module has its name

    def all(self, run, jobs, devices, chip, what):
        for job in jobs:
            self.asked.append(job)
            quick = replace(ONE, job=job, done=ONE.done if job.layout["data"] == 2 else 2 * ONE.done)
            yield job, self.codec(job, quick) if job.stage == "codec" else quick


LARGE = replace(ONE.memory, temporary=10**12)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda quick: "a batch of 4 does not divide", "codec 9x32x32: a batch of 4 does not divide"),
        (lambda quick: replace(quick, memory=LARGE), "codec 9x32x32: it takes 1 TB of a device"),
    ],
    ids=["refused", "too large"],
)
def test_a_layout_that_another_step_does_not_go_on_is_not_chosen(answer, said, monkeypatch):
    answers = Answers(monkeypatch, lambda job, quick: answer(quick) if job.layout["data"] == 2 else quick)
    found = plan(recipe(), 2, H100)
    assert {step.found.job.layout["data"] for step in found.steps} == {found.run.layout.data} == {1}
    assert found.tried[-1].layout["data"] == 2
    assert found.tried[-1].refused == said
    assert len(found.tried) == len(layouts(2))
    never = Answers(monkeypatch, lambda job, quick: answer(quick))
    found = plan(recipe(), 2, H100)
    assert not found.steps
    assert {each.refused for each in found.tried} == {said}
    assert len(never.asked) == 2 * len(found.tried) > len(answers.asked)  # no more than it takes to know


def test_axes_that_are_not_named_have_one_device(monkeypatch):
    answers = Answers(monkeypatch, lambda job, quick: quick)
    found = plan(replace(recipe(), layout=Layout(data=8, smallest=2)), 4, H100, {"fsdp": 4})
    assert {tuple(job.layout.values()) for job in answers.asked} == {(1, 4, 1, 1)}
    assert found.run.layout == Layout(fsdp=4, smallest=2)
    with pytest.raises(UserError, match="the layout fsdp=4 is not of 8 devices"):
        plan(recipe(), 8, H100, {"fsdp": 4})


@pytest.mark.slow
def test_layouts_are_compared_on_four_devices():
    found = plan(recipe(), 4, H100, {"fsdp": 4})
    assert [(step.stage, str(step.bucket)) for step in found.steps] == [
        ("codec", "9x32x32"), ("denoiser", "9x32x32"), ("denoiser", "1x32x32"),
    ]  # fmt: skip
    assert {each.kind for each in found.steps[1].found.collectives} >= {"all-gather", "all-reduce"}
    assert not any(each.across for each in found.steps[1].found.collectives)
    assert found.steps[1].found.memory.batch * 4 == tiny().memory.batch
    assert found.steps[1].found.memory.parameters < tiny().memory.parameters
    assert found.run.layout.fsdp == 4
    assert found.device_hours == pytest.approx(4 * sum(found.hours.values()))
    assert found.told(price=2.0)["cost"] == pytest.approx(2 * found.device_hours)


@pytest.mark.slow
def test_bfloat16_takes_less_room_and_a_spectrum_need_not_be_known():
    run = recipe()
    net = TransformerConfig(width=48, depth=UNROLLED + 1, heads=2, mixing=False, previous=False)
    stage = replace(
        run.denoiser,
        denoiser=replace(run.denoiser.denoiser, net=net),  # in a loop, which keeps what it hands to the backward pass
        objective=Denoising(density=FromSpectrum()),
        train=replace(run.denoiser.train, policy=Policy(compute="bfloat16")),
    )
    narrow = compiled(replace(run, denoiser=stage), Job("denoiser", 0, {}), node=1)
    wide = compiled(replace(run, denoiser=stage), Job("denoiser", 0, {}), node=1, halved=False)
    assert narrow.memory.temporary < 0.8 * wide.memory.temporary
    assert narrow.flops == wide.flops

"""Back to the last good checkpoint and past the bad batch: as a run that never met it."""

import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.train import Guard, Loss, Train, read_log, train
from diorama.train.checkpoint import Checkpoints
from diorama.train.guard import Event, Events, Watch
from tests.train.test_loop import Listed, rows, same, timeless
from tests.train.toy import OBJECTIVE, Net

GUARD = Guard(window=8, factor=4.0)
CONFIG = Train(640, log_every=80, checkpoint_every=96, ema_std=(0.05,), guard=GUARD)


def objective(model, batch, key):
    """Targets far away are a spike; the metrics of the toy."""
    return Loss(OBJECTIVE(model, batch, key).value, {})


def batches(*bad, by=np.nan, n=60):
    made = [rows(range(16 * i, 16 * i + 16)) for i in range(n)]
    for i in bad:
        made[i]["y"] = made[i]["y"] + np.float32(by)
    return made


def run(folder, given, config=CONFIG):
    return train(config, Net.init, objective, Listed(given), folder, seed=0)


def events(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def without(first, last):
    """The batches but these."""
    return [batch for i, batch in enumerate(batches()) if not first <= i <= last]


def equal(a, b, a_folder, b_folder):
    same(a, b)
    assert timeless(a_folder) == timeless(b_folder)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((a.model, a.ema)))


@pytest.fixture(scope="module")
def never(tmp_path_factory):
    """A run that has not met batches 12 to 15 (its checkpoint before is of step 12)."""
    folder = tmp_path_factory.mktemp("never")
    return run(folder, without(12, 15)), folder


@pytest.mark.parametrize("by", [np.nan, 1e3], ids=["nan", "spike"])
def test_a_bad_batch_is_as_one_that_was_never_met(tmp_path, never, by):
    state = run(tmp_path, batches(15, by=by))
    equal(state, never[0], tmp_path, never[1])
    [event] = events(tmp_path)
    assert (event["step"], event["back_to"], event["skipped"]) == (15, 192, 4)
    assert ("not finite" if np.isnan(by) else "the loss spikes and the gradient norm spikes") in event["what"]
    work = [line["flops_per_second"] / line["examples_per_second"] for line in read_log(tmp_path)]
    np.testing.assert_allclose(work, work[0], rtol=1e-6)  # none is of steps that are not in the log
    same(run(tmp_path, []), state)  # finished


def test_killed_after_going_back_it_is_the_same(tmp_path, never, monkeypatch):
    """Killed between the event and the next checkpoint; and after an additional checkpoint, as by SIGTERM."""

    def kill(folder, moment):
        with monkeypatch.context() as patch:
            real = getattr(Checkpoints, moment)

            def die(self, *given, **more):
                if (self.folder / "events.jsonl").exists():
                    raise KeyboardInterrupt
                return real(self, *given, **more)

            patch.setattr(Checkpoints, moment, die)
            with pytest.raises(KeyboardInterrupt):
                run(folder, batches(15))

    kill(tmp_path, "restore")
    kill(tmp_path, "save")
    assert len(events(tmp_path)) == 1
    equal(run(tmp_path, batches(15)), never[0], tmp_path, never[1])
    assert len(events(tmp_path)) == 1


def test_what_was_saved_when_told_to_stop_is_not_gone_back_to(tmp_path, never):
    """The end of a shorter run lies between the checkpoint and the bad batch."""
    run(tmp_path, batches(15), replace(CONFIG, examples=224))
    assert (tmp_path / "checkpoints" / "224").is_dir()
    equal(run(tmp_path, batches(15)), never[0], tmp_path, never[1])


def test_several_faults_and_one_before_any_checkpoint(tmp_path):
    """Batch 2 leads back to the start; 19 to the checkpoint of step 12; 24 is met soon after that one again."""
    state = run(tmp_path / "a", batches(2, 19, 20))
    found = [(e["step"], e["back_to"], e["skipped"]) for e in events(tmp_path / "a")]
    assert found == [(2, 0, 3), (16, 192, 5), (12, 192, 1)]
    left = [batch for i, batch in enumerate(batches()) if i > 2 and not 15 <= i <= 20]
    equal(state, run(tmp_path / "b", left), tmp_path / "a", tmp_path / "b")


def test_it_gives_up(tmp_path):
    with pytest.raises(UserError, match=r"not finite at step 15; .* it had gone back 1 times before"):
        run(tmp_path, batches(15, 19), replace(CONFIG, guard=replace(GUARD, times=1)))
    assert len(events(tmp_path)) == 1
    with pytest.raises(UserError, match=r"keep to 2 or more"):
        replace(CONFIG, keep=1)


def test_a_checkpoint_within_a_spike_is_not_good(tmp_path):
    """Two steps above the limit, and a checkpoint after the first of them (step 18)."""
    config = replace(CONFIG, guard=replace(GUARD, patience=2))
    state = run(tmp_path / "a", batches(17, 18, by=1e3), config)
    assert [(e["step"], e["back_to"], e["skipped"]) for e in events(tmp_path / "a")] == [(18, 192, 7)]
    equal(state, run(tmp_path / "b", without(12, 18), config), tmp_path / "a", tmp_path / "b")
    single = run(tmp_path / "c", batches(17, by=1e3), config)  # one step alone is borne
    assert not (tmp_path / "c" / "events.jsonl").exists()
    assert int(single.step) == 40


def test_a_spike_longer_than_what_is_kept_is_gone_back_before(tmp_path):
    """Fourteen steps in a row from step 20 on, and a checkpoint every six, of which two are kept."""
    config = replace(CONFIG, guard=replace(GUARD, patience=14))
    state = run(tmp_path / "a", batches(*range(20, 34), by=1e3), config)
    assert [(e["step"], e["back_to"], e["skipped"]) for e in events(tmp_path / "a")] == [(33, 288, 16)]
    equal(state, run(tmp_path / "b", without(18, 33), config), tmp_path / "a", tmp_path / "b")


def test_it_does_not_begin_anew_where_no_checkpoint_is_good(tmp_path):
    """Those of an earlier version note no step."""
    run(tmp_path, batches(), replace(CONFIG, examples=192))
    noted = [tmp_path / "checkpoints" / name / "progress" / "metadata" for name in ("96", "192")]
    for path in noted:
        progress = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in progress.items() if k not in ("step", "due")}))
    with pytest.raises(UserError, match="no checkpoint that is known to be from before step 15"):
        run(tmp_path, batches(15))
    assert all(path.exists() for path in noted)


def test_a_run_that_stopped_goes_on_with_a_guard_and_with_more_times(tmp_path, never):
    with pytest.raises(UserError, match="not finite at step 15"):
        run(tmp_path / "a", batches(15), replace(CONFIG, guard=None))
    equal(run(tmp_path / "a", batches(15)), never[0], tmp_path / "a", never[1])
    with pytest.raises(UserError, match="had gone back 1 times"):
        run(tmp_path / "b", batches(15, 20), replace(CONFIG, guard=replace(GUARD, times=1)))
    state = run(tmp_path / "b", batches(15, 20))
    equal(state, run(tmp_path / "c", without(12, 20)), tmp_path / "b", tmp_path / "c")


def test_without_faults_a_guard_changes_nothing(tmp_path, never):
    plain = run(tmp_path, without(12, 15), replace(CONFIG, guard=None))
    equal(plain, never[0], tmp_path, never[1])


class TestWatch:
    def look(self, values, guard):
        """Which of a sequence of losses (the gradient norms with them) complete a spike."""
        step = jax.jit(Watch.look)
        watch, found = Watch.blank(guard), []
        for value in values:
            watch, spikes = step(watch, jnp.array([value, value], jnp.float32))
            found.append(bool(spikes[0]))
        return watch, np.flatnonzero(found)

    def test_the_limit_is_as_it_says(self):
        guard = Guard(window=100, quantile=0.9, factor=2.0)
        values = np.random.default_rng(0).permutation(np.arange(100))
        q, m = np.quantile(values, 0.9), np.median(values)
        limit = q + 2 * (q - m)
        assert list(self.look([*values, limit - 0.01], guard)[1]) == []
        watch, found = self.look([*values, limit + 0.01, limit + 0.01, limit - 0.01], guard)
        assert list(found) == [100, 101]
        np.testing.assert_allclose(np.sort(watch.recent[0])[-2:], [99, limit - 0.01], rtol=1e-6)

    def test_gaussian_and_seldom_higher_losses_are_no_spikes(self):
        rng = np.random.default_rng(1)
        values = rng.normal(1, 0.1, 600) + 5 * (rng.random(600) < 0.1)  # another bucket
        assert not len(self.look(values, Guard())[1])
        assert list(self.look([*values, 60.0, np.nan, 1.0], Guard())[1]) == [600]

    def test_a_loss_that_hardly_moves_has_no_spikes(self):
        assert not len(self.look([1.0] * 10 + [1.03], GUARD)[1])
        assert len(self.look([-1.0] * 10 + [-0.9], GUARD)[1])

    def test_it_is_saved_exactly(self):
        watch, _ = self.look(np.random.default_rng(2).normal(size=11), GUARD)
        again = Watch.blank(GUARD).restored(json.loads(json.dumps(watch.saved())))
        for a, b in zip(jax.tree.leaves(watch), jax.tree.leaves(again), strict=True):
            assert np.array_equal(a, b)
        other = Watch.blank(replace(GUARD, window=9))
        assert other.restored(watch.saved()) is other


def test_events_are_known_by_the_checkpoint_that_they_led_to(tmp_path):
    kept = Events(tmp_path)
    for event in (Event(5, "x", 64, 3), Event(9, "x", 128, 2), Event(12, "x", 64, 7)):
        kept.add(event)
    shutil.copy(kept.path, tmp_path / "all")

    def after(examples, known):
        shutil.copy(tmp_path / "all", kept.path)
        left = Events(tmp_path).go_on(examples, known)
        return left, len(Events(tmp_path).all)

    assert after(64, 0) == (12, 3)
    assert after(128, 1) == (2, 2)  # the third will happen again
    assert after(256, 3) == (0, 3)
    assert after(32, 0) == (0, 0)  # what they led back to is lost


def test_the_log_of_a_run_with_a_guard_is_that_of_any_other(never):
    assert {"loss", "gradient_norm", "learning_rate"} <= read_log(never[1])[-1].keys()

import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.data import ArraySource, Catalogue, ClipSource, RandomCrop, curate, in_order, loader
from diorama.media import write_png
from tests.data.make import media_folder, picture, video


def numbers(count: int, name: str = "x") -> ArraySource:
    """Examples that know who they are."""
    values = np.arange(count, dtype=np.uint32)
    media = np.repeat(values.astype(np.float32)[:, None, None, None, None], 3, axis=-1)
    return ArraySource({"media": media, "id": values, "caption": [f"{name} {i}" for i in range(count)]})


def take(batches, count: int) -> list[dict]:
    return [next(batches) for _ in range(count)]


def same(a: list[dict], b: list[dict]) -> bool:
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x) for x, y in zip(a, b, strict=True)
    )


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("feed")
    curate([media_folder(folder / "media", 6, 3)], folder / "c")
    return Catalogue(folder / "c")


def test_every_epoch_shows_every_example_once_in_a_new_order():
    ids = np.concatenate([b["id"] for b in take(loader([(numbers(40), 8, 1.0)], seed=3), 15)]).reshape(3, 40)
    assert all(sorted(epoch) == list(range(40)) for epoch in ids.tolist())
    assert not np.array_equal(ids[0], ids[1])
    assert not np.array_equal(ids[1], ids[2])


def test_the_stream_is_a_function_of_the_seed():
    def stream(seed, **options):
        return take(loader([(numbers(40), 8, 2.0), (numbers(10), 4, 1.0)], seed=seed, **options), 9)

    assert same(stream(0), stream(0, threads=0, ahead=0))
    assert same(stream(0), stream(0, threads=4, ahead=16))
    assert not same(stream(0), stream(1))


@pytest.mark.parametrize("position", [0, 1, 4, 7, 23])
def test_resumes_where_it_stood(position):
    def start():
        return loader([(numbers(40), 8, 2.0), (numbers(10), 4, 1.0)], seed=5, augment=_jitter)

    straight = start()
    take(straight, position)
    state = straight.get_state()
    resumed = start()
    take(resumed, 3)
    resumed.set_state(state)
    assert same(take(resumed, 10), take(straight, 10))


def _jitter(example, rng):
    return example | {"media": example["media"] + rng.normal(size=example["media"].shape).astype(np.float32)}


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_every_batch(hosts):
    def start(**share):
        return loader([(numbers(37), 8, 3.0), (numbers(10), 4, 1.0)], seed=5, augment=_jitter, **share)

    whole, parts = start(), [start(host=h, hosts=hosts) for h in range(hosts)]
    for _ in range(12):
        batch, shares = next(whole), [next(part) for part in parts]
        for name, values in batch.items():
            joined = np.empty_like(values)
            for h, share in enumerate(shares):
                joined[h::hosts] = share[name]
            np.testing.assert_array_equal(joined, values)


def test_each_batch_is_of_one_source_and_sources_take_turns_by_weight():
    sources = [(numbers(64), 8, 3.0), (numbers(16), 4, 1.0)]
    sizes = [len(b["id"]) for b in take(loader(sources, seed=0), 40)]
    assert sizes.count(8) == 30
    assert sizes.count(4) == 10


def test_one_example_is_enough():
    batch = next(loader([(numbers(1), 4, 1.0)], seed=0))
    assert batch["id"].tolist() == [0, 0, 0, 0]


def test_text_becomes_what_the_transform_makes_of_it():
    def tokens(example):
        return example | {"tokens": np.frombuffer(example["caption"].encode().ljust(8), np.uint8).astype(np.int32)}

    batch = next(loader([(numbers(9), 4, 1.0)], seed=0, transform=tokens))
    assert set(batch) == {"media", "id", "tokens"}
    assert bytes(batch["tokens"][0].astype(np.uint8)).decode().strip() == f"x {batch['id'][0]}"


def test_what_cannot_be_served_is_said():
    with pytest.raises(UserError, match="does not divide over 3 hosts"):
        loader([(numbers(8), 4, 1.0)], seed=0, hosts=3)
    with pytest.raises(UserError, match="weight 0"):
        loader([(numbers(8), 4, 0.0)], seed=0)
    with pytest.raises(UserError, match="at least one source"):
        loader([], seed=0)
    with pytest.raises(ValueError, match="differ in length"):
        ArraySource({"a": [1], "b": [1, 2]})


def test_clips_come_as_they_were_written(catalogue):
    source = ClipSource(catalogue, "test", 5, 16, 16)
    assert len(source) == 3
    for i in range(3):
        number = int(source.captions[i].split()[1])
        example = source[i]
        np.testing.assert_array_equal(example["media"], video(number + 1))
        np.testing.assert_array_equal(example["actions"], [0, 1, 2, 3, 4])
        assert example["caption"] == f"video {number}"
        assert example["label"] == -1
        assert example["id"] == source.ids[i]
    assert not source[0]["media"].flags.writeable


def test_batches_are_floats_in_minus_one_to_one(catalogue):
    source = ClipSource(catalogue, "test", 5, 16, 16)
    (batch,) = in_order(source, 8)
    assert batch["media"].dtype == np.float32
    assert batch["caption"] == source.captions
    back = np.rint((batch["media"] + 1) * 127.5).astype(np.uint8)
    np.testing.assert_array_equal(back[1], source[1]["media"])
    assert batch["media"].min() == -1.0
    assert batch["media"].max() == 1.0


def test_in_order_gives_every_example_once():
    batches = list(in_order(numbers(10), 4))
    assert [len(b["id"]) for b in batches] == [4, 4, 2]
    assert [i for b in batches for i in b["id"]] == list(range(10))
    assert batches[2]["caption"] == ["x 8", "x 9"]


def test_windows_of_longer_videos(catalogue):
    source = ClipSource(catalogue, "test", 2, 16, 16, stride=2, hop=1)
    assert len(source) == 9  # three windows of three frames in each
    number = int(source.captions[1].split()[1])
    np.testing.assert_array_equal(source[1]["media"], video(number + 1)[1:4:2])
    np.testing.assert_array_equal(source[1]["actions"], [0, 3])
    assert len(np.unique(source.ids)) == 9
    assert source.ids[0] == ClipSource(catalogue, "test", 5, 16, 16).ids[0]


def test_stills_and_frames_of_videos(catalogue):
    assert len(ClipSource(catalogue, None, 1, 16, 16)) == 6
    assert len(ClipSource(catalogue, None, 1, 16, 16, kind="any")) == 9
    assert len(ClipSource(catalogue, None, 1, 16, 16, kind="video", hop=1)) == 15
    with pytest.raises(UserError, match="of kind 'video' with 6 frames"):
        ClipSource(catalogue, "test", 6, 16, 16)


def test_sizes_keep_the_aspect_and_crops_stay_inside(tmp_path):
    for i in range(4):
        write_png(tmp_path / f"{i}.png", picture(i, 40, 20))
    curate([tmp_path], tmp_path / "c")
    catalogue = Catalogue(tmp_path / "c")
    assert ClipSource(catalogue, None, 1, 10, 10)[0]["media"].shape == (1, 10, 10, 3)
    tall = ClipSource(catalogue, None, 1, 10, 10, crop=False)
    assert tall[0]["media"].shape == (1, 20, 10, 3)
    batches = take(loader([(tall, 4, 1.0)], seed=0, augment=RandomCrop(10, 10, flip=0.5)), 8)
    assert {b["media"].shape for b in batches} == {(4, 1, 10, 10, 3)}
    assert len({b["media"].tobytes() for b in batches}) == 8


def test_the_cache_is_shared_and_keeps_to_its_room(catalogue):
    small = Catalogue(catalogue.path, cache_bytes=2 * 5 * 16 * 16 * 3)
    source = ClipSource(small, "test", 5, 16, 16)
    media = [source[i]["media"] for i in range(3)]
    assert small.frames.room == 0
    again = ClipSource(small, None, 2, 16, 16)
    shared = [np.shares_memory(again[i]["media"], m) for i, m in enumerate(media)]
    assert shared == [True, True, False]
    np.testing.assert_array_equal(source[2]["media"], media[2])


def weighed(weights) -> ArraySource:
    weights = np.asarray(weights, float)
    return ArraySource(numbers(len(weights)).columns, weights / weights.mean())


def test_equal_weights_are_the_stream_without():
    def start(source):
        return take(loader([(source, 8, 2.0), (numbers(10), 4, 1.0)], seed=3, augment=_jitter), 12)

    assert same(start(weighed(np.full(37, 0.1))), start(numbers(37)))
    # drawn by weights that differ by less than any draw can tell, it is that stream too
    nearly = np.ones(37)
    nearly[0] += 1e-12
    assert same(start(weighed(nearly)), start(numbers(37)))


def test_every_epoch_shows_an_example_its_weight_rounded_down_or_up_times():
    weights = np.random.default_rng(0).pareto(1.5, 200) + 0.05
    source = weighed(weights)
    batches = take(loader([(source, 20, 1.0)], seed=1), 10 * 64)
    epochs = np.concatenate([b["id"] for b in batches]).reshape(64, 200)
    counts = np.stack([np.bincount(epoch, minlength=200) for epoch in epochs])
    assert (counts >= np.floor(source.weights - 1e-9)).all()
    assert (counts <= np.ceil(source.weights + 1e-9)).all()
    # golden offsets: by far less than the 8 * sqrt(p (1 - p)) that independent ones would give over 64 epochs
    assert np.abs(counts.sum(0) - 64 * source.weights).max() < 4
    assert not np.array_equal(epochs[0], epochs[1])
    other = take(loader([(source, 20, 1.0)], seed=2), 10)
    assert not same(batches[:10], other)


def test_what_weighs_nothing_is_never_drawn():
    weights = np.ones(30)
    weights[:10] = 0
    drawn = np.concatenate([b["id"] for b in take(loader([(weighed(weights), 10, 1.0)], seed=0), 30)])
    assert drawn.min() == 10
    assert set(np.bincount(drawn)[10:]) == {15}


@pytest.mark.parametrize("position", [0, 3, 11])
def test_a_weighed_stream_resumes_and_is_shared_by_hosts(position):
    weights = np.random.default_rng(2).uniform(0.1, 4, 37)

    def start(**share):
        sources = [(weighed(weights), 8, 3.0), (numbers(10), 4, 1.0)]
        return loader(sources, seed=5, augment=_jitter, **share)

    straight = start()
    take(straight, position)
    resumed, parts = start(threads=0, ahead=0), [start(host=h, hosts=2) for h in range(2)]
    resumed.set_state(straight.get_state())
    for part in parts:
        take(part, position)
    for batch, again in zip(take(straight, 10), take(resumed, 10), strict=True):
        assert same([batch], [again])
        shares = [next(part) for part in parts]
        for name, values in batch.items():
            for h in range(2):
                np.testing.assert_array_equal(shares[h][name], values[h::2])


def test_weights_that_cannot_be_drawn_by_are_refused():
    for weights in ([1, -1, 3], [1, np.nan, 1], [1, np.inf, 1]):
        with pytest.raises(UserError, match="a finite weight for each example"):
            loader([(ArraySource(numbers(3).columns, np.array(weights)), 1, 1.0)], seed=0)
    with pytest.raises(ValueError, match="differ in length"):
        ArraySource({"a": [1]}, np.ones(2))


class _Told:
    """A catalogue of which only the rows are asked."""

    path = "told"

    def __init__(self, weights):
        self.weights = weights

    def clips(self, split):
        like = {"kind": "video", "h": 8, "w": 8, "caption": None}
        each = [like | {"t": 4 + k, "id": f"{k:032x}"} for k in range(len(self.weights))]
        rows = [row if w is None else row | {"weight": w} for row, w in zip(each, self.weights, strict=True)]
        return type("Table", (), {"to_pylist": lambda self: rows})()


def test_an_example_weighs_what_its_clip_does():
    assert ClipSource(_Told([None, None]), frames=4).weights.tolist() == [1, 1]
    np.testing.assert_allclose(ClipSource(_Told([1.0, 3.0]), frames=4).weights, [0.5, 1.5])
    windows = ClipSource(_Told([1.0, 3.0]), frames=4, hop=1)  # one window, and two
    np.testing.assert_allclose(windows.weights, np.array([1, 3, 3]) * 3 / 7)

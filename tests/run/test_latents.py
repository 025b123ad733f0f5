"""The latent cache: each latent is computed once, is the same whoever asks, and belongs to one clip and one codec."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diorama.codec import PixelCodecConfig, encode
from diorama.core import UserError, override, release
from diorama.core.files import sole_writer
from diorama.core.layout import Layout
from diorama.data import ArraySource, in_order, loader
from diorama.process.spectrum import rapsd
from diorama.run import CodecStage, Folder, Run
from diorama.run import latents as module
from diorama.run.examples import clips, whole
from diorama.run.latents import Cache, View, draw, fingerprint, views
from diorama.run.run import Variants
from diorama.run.train import latents, train_denoiser
from tests.run.conftest import RUN, STILL, VIDEO
from tests.shared import simulated

BOTH = Variants(flips=True, crops=2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches and shards as small as the catalogue."""
    monkeypatch.setattr(module, "TOGETHER", 4)
    monkeypatch.setattr(module, "SHARD", 6)


def cache(root, folder, catalogue, bucket=VIDEO, variants=Variants(), split="train") -> Cache:  # noqa: B008 - frozen
    return Cache(root, fingerprint(folder), clips(catalogue, bucket, split), bucket, variants)


def fill(made: Cache, folder: Folder) -> int:
    return made.fill(folder.codec(), Layout(), "latents")


def everything(made: Cache) -> np.ndarray:
    rows = made.rows()
    return np.stack([rows.read(i, view) for i in range(len(rows)) for view in range(rows.views)])


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != ".lock"}


def test_latents_are_the_codecs_in_the_order_of_the_examples(tmp_path, folder, catalogue):
    made = cache(tmp_path, folder, catalogue)
    assert fill(made, folder) == 21
    source, codec = clips(catalogue, VIDEO, "train"), folder.codec()
    expected = [np.asarray(encode(codec, whole(b["media"], 4)))[: len(b["media"])] for b in in_order(source, 4)]
    np.testing.assert_array_equal(everything(made), np.concatenate(expected))
    assert sorted(len(np.load(s / "latents.npy")) for s in made.shards()) == [3, 6, 6, 6]
    assert made.clips == 21
    assert made.bytes == 21 * 3 * 8 * 8 * 4 * 4


def test_a_latent_is_the_same_bit_for_bit_whatever_was_there_before(tmp_path, folder, catalogue):
    """Clips that came later cost themselves alone, and come out as they would have at once."""
    at_once = cache(tmp_path / "a", folder, catalogue, split=None)
    assert fill(at_once, folder) == 24
    assert fill(cache(tmp_path / "b", folder, catalogue, split="test"), folder) == 3
    grown = cache(tmp_path / "b", folder, catalogue, split=None)
    before = files(tmp_path / "b")
    assert fill(grown, folder) == 21
    np.testing.assert_array_equal(everything(grown), everything(at_once))
    after = files(tmp_path / "b")
    assert {name: after[name] for name in before if "statistics" not in name} == {
        name: data for name, data in before.items() if "statistics" not in name
    }
    shutil.rmtree(grown.shards()[1])
    lost = 24 - sum(len(np.load(s / "latents.npy")) for s in grown.shards())
    assert fill(grown, folder) == lost > 0
    np.testing.assert_array_equal(everything(grown), everything(at_once))
    assert fill(grown, folder) == 0


def test_another_run_with_this_codec_encodes_nothing(tmp_path, folder, catalogue):
    fill(cache(tmp_path, folder, catalogue), folder)
    other = Folder.claim(tmp_path / "other", replace(RUN, name="other", seed=7), catalogue)
    shutil.copy(folder.path / "codec.safetensors", other.path)
    assert fill(cache(tmp_path, other, catalogue, replace(VIDEO, batch=16, weight=2.0)), other) == 0
    codec = other.codec()
    release.save(replace(codec, mean=codec.mean + 1e-6), other.path / "codec.safetensors")
    assert fingerprint(other) != fingerprint(folder)
    assert fill(cache(tmp_path, other, catalogue), other) == 21


def test_windows_sizes_and_formats_do_not_mix(tmp_path, folder, catalogue):
    assert fill(cache(tmp_path, folder, catalogue), folder) == 21
    strided = replace(VIDEO, frames=5, stride=2)
    assert fill(cache(tmp_path, folder, catalogue, strided), folder) == 21
    assert fill(cache(tmp_path, folder, catalogue, replace(strided, hop=1)), folder) == len(
        clips(catalogue, replace(strided, hop=1), "train")
    ) - len(clips(catalogue, strided, "train"))
    half = cache(tmp_path, folder, catalogue, variants=Variants(dtype="float16"))
    assert fill(half, folder) == 21
    full = everything(cache(tmp_path, folder, catalogue))
    assert np.load(half.shards()[0] / "latents.npy").dtype == np.float16
    np.testing.assert_array_equal(everything(half), full.astype(np.float16).astype(np.float32))


def test_windows_of_one_clip_are_its_frames(tmp_path, folder, catalogue):
    bucket = replace(VIDEO, frames=5, hop=2)
    made, source, codec = cache(tmp_path, folder, catalogue, bucket), clips(catalogue, bucket, "train"), folder.codec()
    fill(made, folder)
    assert len(source) > made.clips == 21
    for i in (0, 1, len(source) - 1):
        media = source[i]["media"][None] / np.float32(127.5) - 1
        np.testing.assert_allclose(made.rows()[i], encode(codec, media)[0], atol=1e-5)


def test_views(rng):
    frames = rng.integers(0, 256, (3, 20, 30, 3)).astype(np.uint8)
    plain, mirrored = View()(frames, "ff", 16, 16), View(mirrored=True)(frames, "ff", 16, 16)
    np.testing.assert_array_equal(plain, frames[:, 2:18, 7:23])
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])
    places = set()
    for identifier in map("{:032x}".format, range(64)):
        seen = View(1)(frames, identifier, 16, 16)
        np.testing.assert_array_equal(seen, View(1)(frames, identifier, 16, 16))
        [place] = [
            (y, x) for y in range(5) for x in range(15) if np.array_equal(frames[:, y : y + 16, x : x + 16], seen)
        ]
        places.add(place)
    assert len(places) > 40
    assert {y for y, _ in places} == set(range(5))
    assert len({str(view) for view in views(BOTH)}) == len(views(BOTH)) == 4
    assert views(BOTH)[0] == View()
    with pytest.raises(UserError, match="crops is at least 1"):
        Variants(crops=0)


def test_variants_cost_only_themselves_and_are_drawn_by_the_stream(tmp_path, folder, catalogue):
    bucket = replace(VIDEO, width=24)  # leaves crops room
    plain, both = (cache(tmp_path, folder, catalogue, bucket, v) for v in (Variants(), BOTH))
    assert [fill(plain, folder), fill(both, folder)] == [21, 63]
    assert len(both.index().row) == 84
    source, rows, codec = clips(catalogue, bucket, "train"), both.rows(), folder.codec()
    np.testing.assert_array_equal(np.stack([rows.read(i, 0) for i in range(21)]), everything(plain))
    mirrored = source[5]["media"][:, :, ::-1] / np.float32(127.5) - 1
    np.testing.assert_allclose(rows.read(5, 1), encode(codec, mirrored[None])[0], atol=1e-5)

    def stream():
        return loader([(ArraySource({"media": rows, "id": source.ids}), 3, 1.0)], seed=0, augment=draw)

    batches = stream()
    first = [next(batches) for _ in range(28)]
    seen: dict[int, set[int]] = {}
    for batch in first:
        for latent, number in zip(batch["media"], batch["id"], strict=True):
            i = int(np.flatnonzero(source.ids == number)[0])
            [view] = [v for v in range(4) if np.array_equal(latent, rows.read(i, v))][:1]
            seen.setdefault(i, set()).add(view)
    assert len(seen) == 21  # four epochs
    assert set.union(*seen.values()) == {0, 1, 2, 3}
    assert np.mean([len(drawn) for drawn in seen.values()]) > 2
    again = stream()
    for _ in range(5):
        next(again)
    state, resumed = again.get_state(), stream()
    resumed.set_state(state)
    np.testing.assert_array_equal(next(resumed)["media"], first[5]["media"])


def test_batches_are_those_of_arrays_in_memory(tmp_path, folder, catalogue):
    made = cache(tmp_path, folder, catalogue)
    fill(made, folder)
    ids = clips(catalogue, VIDEO, "train").ids
    cached, held = (
        loader([(ArraySource({"media": media, "id": ids}), 4, 1.0)], seed=3)
        for media in (made.rows(), everything(made))
    )
    for _ in range(12):
        one, other = next(cached), next(held)
        assert one["media"].dtype == np.float32
        np.testing.assert_array_equal(one["media"], other["media"])
        np.testing.assert_array_equal(one["id"], other["id"])


@pytest.mark.parametrize("flips", [False, True])
def test_training_draws_the_variants_that_it_asks_for(tmp_path, folder, catalogue, monkeypatch, flips):
    class Caught(Exception):
        pass

    def train(config, init, objective, batches, *args, **options):
        raise Caught([next(batches) for _ in range(24)])

    monkeypatch.setattr("diorama.run.train.train", train)
    run = override(RUN, [f"denoiser.latents.flips={flips}", "denoiser.buckets.1.frames=99"])  # videos alone
    mine = Folder.claim(tmp_path, run, catalogue)
    for name in ("codec.safetensors", "tokenizer.json"):
        shutil.copy(folder.path / name, tmp_path)
    with pytest.raises(Caught) as caught:
        train_denoiser(run, catalogue, mine)
    seen: dict[int, set[bytes]] = {}
    for batch in caught.value.args[0]:
        for number, latent in zip(batch["id"], batch["media"], strict=True):
            seen.setdefault(int(number), set()).add(latent.tobytes())
    assert len(seen) == 21
    assert max(map(len, seen.values())) == 1 + flips


def test_statistics_are_those_of_all_rows(tmp_path, folder, catalogue):
    made = cache(tmp_path, folder, catalogue, variants=Variants(flips=True))
    fill(made, folder)
    told = json.loads((made.path / "statistics.json").read_text())
    rows = everything(made).astype(np.float64)
    assert told["latents"] == len(rows) == 42
    assert told["shape"] == [3, 8, 8, 4]
    np.testing.assert_allclose(told["mean"], rows.mean((0, 1, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(told["deviation"], rows.std((0, 1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(told["spectrum"], np.mean(rapsd(rows), (0, 1)), rtol=1e-4)
    plain = cache(tmp_path, folder, catalogue)
    assert plain.statistics()["latents"] == 21  # of what was asked for, whatever else lies there
    np.testing.assert_allclose(plain.statistics()["mean"], rows[::2].mean((0, 1, 2, 3)), atol=1e-6)


def test_a_latent_that_is_not_finite_is_named(tmp_path, folder, catalogue):
    made, codec = cache(tmp_path, folder, catalogue), folder.codec()
    with pytest.raises(UserError, match=r"the latents of .*\.(gif|mp4|png|webp).* are not finite"):
        made.fill(replace(codec, mean=codec.mean + np.nan), Layout(), "latents")
    assert made.shards() == []
    assert not [p for p in tmp_path.rglob("*") if ".tmp" in p.name]


def test_one_at_a_time(tmp_path, folder, catalogue):
    made = cache(tmp_path, folder, catalogue)
    with sole_writer(made.path, "encoding into"), pytest.raises(UserError, match=r"is encoding into .* wait until"):
        fill(made, folder)
    fill(made, folder)
    with sole_writer(made.path, "encoding into"):
        assert fill(made, folder) == 0  # reading waits for nobody


def test_a_damaged_shard_is_named(tmp_path, folder, catalogue):
    made = cache(tmp_path, folder, catalogue)
    fill(made, folder)
    shard = made.shards()[0]
    (shard / "latents.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match=f"{shard.name} is damaged .*delete that folder"):
        everything(made)


def test_pixels_lie_with_their_run(tmp_path, catalogue):
    run: Run = replace(RUN, codec=CodecStage(PixelCodecConfig()), denoiser=replace(RUN.denoiser, buckets=(STILL,)))
    run = replace(run, denoiser=replace(run.denoiser, denoiser=replace(run.denoiser.denoiser, conditions={})))
    folder, before = Folder.claim(tmp_path, run, catalogue), list(catalogue.path.rglob("*.npy"))
    made, source = latents(run, catalogue, folder, STILL), clips(catalogue, STILL, "train")
    np.testing.assert_array_equal(made[3]["media"], source[3]["media"] * np.float32(1 / 127.5) - 1)
    assert list(catalogue.path.rglob("*.npy")) == before
    assert len(list(tmp_path.rglob("latents.npy"))) == 2


def test_a_catalogue_that_may_not_be_written_to(tmp_path, folder, catalogue, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    mine = Folder.claim(tmp_path / "run", replace(RUN, seed=3), catalogue)
    codec = folder.codec()
    release.save(replace(codec, mean=codec.mean + 0.5), mine.path / "codec.safetensors")
    shutil.copy(folder.path / "tokenizer.json", mine.path)
    assert latents(RUN, catalogue, mine, VIDEO)[0]["media"].shape == (3, 8, 8, 4)
    where = json.loads((mine.path / "latents" / "0.9x32x32.json").read_text())
    assert Path(where["path"]).is_relative_to(mine.path.resolve())
    assert where["examples"] == 21


DEVICES = """
import sys
from pathlib import Path
import jax
from diorama.core.layout import Layout
from diorama.data import Catalogue
from diorama.run import Folder, latents
from tests.run.test_latents import VIDEO, cache
latents.TOGETHER, latents.SHARD = 4, 6
assert jax.device_count() == 4
folder = Folder(Path(sys.argv[1]))
cache(Path(sys.argv[3]), folder, Catalogue(sys.argv[2])).fill(folder.codec(), Layout(data=2, fsdp=2), "latents")
"""


def test_four_devices_give_the_latents_of_one_bit_for_bit(tmp_path, folder, catalogue):
    made = cache(tmp_path / "one", folder, catalogue)
    fill(made, folder)
    command = [sys.executable, "-c", DEVICES, str(folder.path), str(catalogue.path), str(tmp_path / "four")]
    done = subprocess.run(
        command,
        env=simulated(4),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(everything(cache(tmp_path / "four", folder, catalogue)), everything(made))

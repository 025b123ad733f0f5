"""The page about a codec."""

import re
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from diorama.cli.codec import report
from diorama.codec import CodecLoss, PixelCodecConfig
from diorama.codec.loss import L2, NetworkConfig, OwnPerceptual
from diorama.core import UserError, release
from diorama.core.files import write_text
from diorama.run import CodecStage, Folder
from diorama.run import diagnose as module
from diorama.run.diagnose import Diagnosis, PerceptualDistance, diagnose, lpips, perceptual_distance
from diorama.serve.codec import write_codec_report
from diorama.train import Train
from tests.codec.loss.test_perceptual import arrays
from tests.net.tiny import made
from tests.run.conftest import RUN
from tests.serve.page import Page

NETWORK = NetworkConfig((4, 8))


@pytest.fixture(scope="module")
def trained(trained: Folder):
    """The tiny run as one whose codec was trained with a perceptual network of its own."""
    loss = CodecLoss((L2(), OwnPerceptual(NETWORK)))
    run = replace(RUN, codec=replace(RUN.codec, loss=loss, perceptual=Train(examples=8)))
    write_text(trained.config, run.text())
    release.save(made(NETWORK.init), trained.path / "perceptual.safetensors")
    return trained


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """AlexNet's, random, in a file."""
    path = tmp_path_factory.mktemp("weights") / "alexnet.safetensors"
    save_file(arrays("alexnet"), path)
    return path


@pytest.fixture(scope="module")
def seen(trained: Folder):
    return diagnose(trained)


def test_stills_and_videos_are_seen_beside_their_own_codecs(seen, trained):
    still, video = seen
    assert [curve.name for curve in still.curves] == ["ours", "JPEG", "WebP", "AVIF"]
    assert [curve.name for curve in video.curves] == ["ours", "H.264", "H.265"]
    for one in seen:
        assert one.about["compression"] > 1
        assert all(np.isfinite(value) for value in one.about["scores"].values())
        ours, *others, resized = one.about["equal"]
        assert resized["bits"] is None
        measures = {"PSNR (dB)", "SSIM", "MS-SSIM (2 scales)", "own perceptual distance"}
        measures |= {"flicker (grey levels)"} if one is video else set()
        assert all(set(row["measures"]) == measures <= set(one.about["scores"]) for row in one.about["equal"])
        sizes = [row["bits"] for row in others]
        curves = {curve.name: curve for curve in one.curves}
        for row in others:  # as many bits, or the fewest that there are
            least = min(point.bits for point in curves[row["name"]].points)
            assert row["bits"] == pytest.approx(ours["bits"], rel=0.25) or row["bits"] <= 1.05 * least, sizes
    again = diagnose(trained)  # kept
    for one, two in zip(again, seen, strict=True):
        assert {k: (one.about[k], two.about[k]) for k in one.about if one.about[k] != two.about[k]} == {}
    np.testing.assert_array_equal(again[1].arrays["again"], seen[1].arrays["again"])


def test_a_perceptual_distance_is_a_mean_over_frames(weights, trained):
    rng = np.random.default_rng(0)
    media, noise = rng.integers(0, 256, (3, 7, 32, 40, 3)).astype(np.uint8), rng.integers(-60, 61, (3, 7, 32, 40, 3))
    again = np.clip(media + noise, 0, 255).astype(np.uint8)
    again[1] = media[1]
    own = perceptual_distance(trained)
    for by in (perceptual_distance(trained, lpips(weights)), own):
        found = by(media, again)
        frames = [by(media[:1, [t]], again[:1, [t]])[0] for t in range(7)]
        np.testing.assert_allclose(found, [np.mean(frames), 0, found[2]], rtol=1e-5, atol=1e-9)
        assert found[2] > 1e-3
    want = jax.jit(type(own.term).distance)(own.term, *(x[:1] / np.float32(127.5) - 1 for x in (media, again)))
    np.testing.assert_allclose(own(media, again)[0], want.mean(), rtol=1e-5)


def test_whose_distance_it_is(weights, trained, folder, tmp_path):
    assert perceptual_distance(trained).name == "own perceptual distance"
    assert perceptual_distance(folder) is None
    by = perceptual_distance(folder, lpips(weights))
    assert by.name == "LPIPS (AlexNet)"
    parts = arrays("vgg16")
    one, two = tmp_path / "vgg.safetensors", tmp_path / "heads.safetensors"
    save_file({k: v for k, v in parts.items() if k.startswith("features")}, one)
    save_file({k: v for k, v in parts.items() if k.startswith("lin")}, two)
    assert perceptual_distance(folder, lpips(one, two)).name == "LPIPS (VGG16)"
    with pytest.raises(UserError, match=r"lin0\.model\.1\.weight .* missing"):
        perceptual_distance(folder, lpips(one))
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        lpips(tmp_path / "nowhere")
    with pytest.raises(UserError, match="give the network's weights with --lpips"):
        report(folder.path, heads=two)


def test_it_looks_again_when_the_weights_change(weights, trained, tmp_path, monkeypatch):
    shutil.copytree(trained.path, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    folder, looks = Folder.open(tmp_path / "run"), []

    def look(folder, codec, bucket, distance: PerceptualDistance | None):
        looks.append(distance.name if distance else None)
        return Diagnosis({"bucket": str(bucket)}, {})

    monkeypatch.setattr(module, "_seen", look)
    monkeypatch.setattr(module, "_buckets", lambda folder: [folder.run().denoiser.buckets[0]])
    own, given = folder.path / "perceptual.safetensors", tmp_path / "alexnet.safetensors"
    shutil.copy(weights, given)

    def again(*by) -> list:
        looks.clear()
        diagnose(folder, *by)
        return looks

    assert again() == ["own perceptual distance"]
    assert again() == []
    assert again(lpips(given)) == ["LPIPS (AlexNet)"]
    assert again(lpips(weights)) == []  # the same weights in another place
    save_file(arrays("alexnet") | {"features.0.bias": np.zeros(64, np.float32)}, given)
    assert again(lpips(given)) == ["LPIPS (AlexNet)"]
    release.save(made(NETWORK.init, seed=1), own)
    assert again() == ["own perceptual distance"]
    own.unlink()
    assert again() == [None]


def test_the_page_needs_nothing_beside_it(seen, trained):
    path = write_codec_report(trained)
    page = Page(path.read_text())
    assert all(re.match(r"data:|#", address) for address in page.addresses)
    assert page.tags.count("svg") == 3 * len(seen)
    words = " ".join(page.text.split())
    assert "At equal bits" in words
    assert "Stills, 32 × 32" in words
    assert "Videos of 9 frames" in words
    assert words.count("MS-SSIM (2 scales)") == words.count("own perceptual distance") - len(seen) == 2 * len(seen)
    assert "so it favours the codec" in words


def test_without_a_perceptual_network_the_page_says_so(seen, trained, monkeypatch):
    blind = [replace(one, about=one.about | {"perceptual": None}) for one in seen[:1]]
    monkeypatch.setattr("diorama.serve.codec.diagnose", lambda *_: blind)
    assert "<code>--lpips</code>) and the run has no perceptual network" in write_codec_report(trained).read_text()


def test_a_run_on_pixels_has_no_codec(trained, tmp_path):
    run = replace(RUN, codec=CodecStage(PixelCodecConfig()))
    for path in (trained.config, trained.manifest):
        write_text(tmp_path / path.name, path.read_text())
    write_text(tmp_path / "config.txt", run.text())
    with pytest.raises(UserError, match="works on pixels"):
        diagnose(Folder.open(tmp_path))

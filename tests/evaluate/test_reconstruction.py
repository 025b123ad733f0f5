import io

import numpy as np
import pytest
from PIL import Image

from diorama.evaluate import flicker, jpeg_at, psnr, reconstruction_scores, ssim


@pytest.fixture(scope="module")
def stills() -> np.ndarray:
    from skimage.data import astronaut

    photo = astronaut()
    return np.stack([photo[y : y + 64, x : x + 64] for y in (0, 128) for x in (64, 192, 256)])[:, None]


def test_psnr_closed_form() -> None:
    clips = np.full((2, 3, 8, 8, 3), 100, np.uint8)
    off = clips.copy()
    off[0] += 5
    off[1, 0] += 9
    want = [20 * np.log10(255 / 5), 10 * np.log10(255**2 / (81 / 3))]
    np.testing.assert_allclose(psnr(clips, off), want, rtol=1e-12)


def test_an_exact_clip_counts_as_rounded() -> None:
    clips = np.zeros((1, 1, 8, 8, 3), np.uint8)
    assert psnr(clips, clips)[0] == pytest.approx(58.92, abs=0.01)


def test_ssim_is_one_for_equal_clips_and_falls_with_noise(stills: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    noisy = [np.clip(stills + rng.normal(0, s, stills.shape), 0, 255).astype(np.uint8) for s in (5, 30)]
    assert ssim(stills, stills) == pytest.approx(1)
    assert (ssim(stills, noisy[0]) > ssim(stills, noisy[1]) + 0.1).all()


def test_flicker_sees_only_error_that_moves() -> None:
    clips = np.full((1, 50, 16, 16, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    still = clips + rng.integers(-9, 10, (1, 1, 16, 16, 3)).astype(np.int16)
    moving = clips + rng.integers(-9, 10, clips.shape).astype(np.int16)
    assert flicker(clips, still.astype(np.uint8))[0] == 0
    rms = np.sqrt(((moving - 128.0) ** 2).mean())
    assert flicker(clips, moving.astype(np.uint8))[0] == pytest.approx(np.sqrt(2) * rms, rel=0.02)


def test_jpeg_is_as_near_to_the_bits_as_any_quality_gets(stills: np.ndarray) -> None:
    bits = 8000
    jpeg = jpeg_at(stills, bits)
    np.testing.assert_allclose(jpeg.bits, bits, rtol=0.06)  # qualities are a few percent apart
    for still, quality, media in zip(stills, jpeg.quality, jpeg.media, strict=True):
        file = io.BytesIO()
        Image.fromarray(still[0]).save(file, "JPEG", quality=int(quality))
        np.testing.assert_array_equal(np.asarray(Image.open(file)), media[0])
    assert (psnr(stills, jpeg_at(stills, 2 * bits).media) > psnr(stills, jpeg.media)).all()


def test_headers_are_not_counted() -> None:
    """A flat picture codes each block in a few bits, far under its 600 bytes of headers."""
    grey = np.full((1, 1, 64, 64, 3), 90, np.uint8)
    assert 0 < jpeg_at(grey, 0).bits[0] < 1000


def test_scores_state_what_they_rest_on(stills: np.ndarray) -> None:
    found = {s.name: s for s in reconstruction_scores(stills, stills, latent_numbers=1024, bits_a_number=8, seed=3)}
    assert found["codec compression, still"].value == 64 * 64 * 3 / 1024
    assert "8192 bits" in found["codec compression, still"].note
    assert found["codec PSNR (dB), still"].value > found["JPEG PSNR (dB), still"].value > 25
    assert {(s.n, s.seed, s.features) for s in found.values()} == {(6, 3, "pixels")}
    videos = np.repeat(stills, 4, 1)
    names = [s.name for s in reconstruction_scores(videos, videos, latent_numbers=1024)]
    assert "codec flicker, video" in names
    assert not any("JPEG" in name for name in names)

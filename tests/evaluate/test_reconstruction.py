import io

import numpy as np
import pytest
from PIL import Image

from diorama.core import UserError
from diorama.evaluate import flicker, jpeg_at, ms_ssim, psnr, reconstruction_scores, scales, ssim


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


def pictures(h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Waves with noise, and the same with less contrast, more light and more noise."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[:h, :w]
    wave = np.stack([np.sin(x / (5 + k)) * np.cos(y / (9 - k)) for k in range(3)], -1)
    a = np.rint(127 + 80 * wave + rng.uniform(-20, 20, (h, w, 3))).astype(np.uint8)
    b = np.clip(np.rint(0.8 * a.astype(float) + 30 + rng.normal(0, 25, a.shape)), 0, 255).astype(np.uint8)
    return a[None, None], b[None, None]


def test_ms_ssim_has_as_many_scales_as_fit() -> None:
    sides = {176: 5, 175: 4, 88: 4, 64: 3, 44: 3, 32: 2, 22: 2, 21: 1, 11: 1}
    assert {side: scales(side, 999) for side in sides} == sides == {side: scales(999, side) for side in sides}
    with pytest.raises(UserError, match="11 pixels a side or more, and these have 16 x 10"):
        scales(16, 10)


def test_ms_ssim_is_one_for_equal_clips_and_falls_with_noise(stills: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, stills.shape)
    noisy = [np.clip(stills + s * noise, 0, 255).astype(np.uint8) for s in (2, 8, 32, 128)]
    values = np.array([ms_ssim(stills, x) for x in (stills, *noisy)])
    assert values[0] == pytest.approx(1)
    assert (np.diff(values, axis=0) < 0).all()
    assert (values >= 0).all()
    waves, _ = pictures(32, 32)
    assert ms_ssim(waves, 255 - waves)[0] == 0  # every structure is turned over


def test_ms_ssim_of_one_scale_is_ssim() -> None:
    a, b = pictures(21, 30)
    np.testing.assert_allclose(ms_ssim(a, b), ssim(a, b), rtol=1e-10)


def test_ms_ssim_is_a_mean_over_channels_and_frames() -> None:
    a, b = pictures(33, 25)
    apart = [ms_ssim(a[..., [k]], b[..., [k]])[0] for k in range(3)]
    assert ms_ssim(a, b)[0] == pytest.approx(np.mean(apart))
    assert np.ptp(apart) > 1e-4
    videos = [np.concatenate(x, 1) for x in ((a, a), (a, b))]
    assert ms_ssim(*videos)[0] == pytest.approx((1 + np.mean(apart)) / 2)


def test_ms_ssim_is_what_its_equations_say() -> None:
    """Window by window: Wang et al. 2003, equations (1) to (3) and (7), two scales of one channel."""
    a, b = (x[0, 0, :, :, 0].astype(float) for x in pictures(25, 23))
    steps = np.arange(-5, 6)
    window = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = 0.0001 * 255**2, 0.0009 * 255**2
    terms = []
    for _ in range(2):
        light, contrast, structure = np.zeros((3, a.shape[0] - 10, a.shape[1] - 10))
        for i, j in np.ndindex(light.shape):
            x, y = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mx, my = (window * x).sum(), (window * y).sum()
            sx, sy = (np.sqrt((window * (z - m) ** 2).sum()) for z, m in ((x, mx), (y, my)))
            both = (window * (x - mx) * (y - my)).sum()
            light[i, j] = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
            contrast[i, j] = (2 * sx * sy + c2) / (sx**2 + sy**2 + c2)
            structure[i, j] = (both + c2 / 2) / (sx * sy + c2 / 2)
        terms.append(((contrast * structure).mean(), (light * contrast * structure).mean()))
        a, b = (np.array([[z[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(z.shape[1] // 2)]
                          for i in range(z.shape[0] // 2)]) for z in (a, b))  # fmt: skip
    want = terms[0][0] ** (0.0448 / 0.3304) * terms[1][1] ** (0.2856 / 0.3304)
    assert ms_ssim(*(x[..., :1] for x in pictures(25, 23)))[0] == pytest.approx(want, rel=1e-10)


def test_ms_ssim_is_what_others_compute() -> None:
    """pytorch-msssim 1.0.0 on torch 2.13.0, float64: ms_ssim(data_range=255) with weights that sum to 1."""
    assert ms_ssim(*pictures(176, 192))[0] == pytest.approx(0.895364945473088, abs=1e-6)  # its window is float32


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

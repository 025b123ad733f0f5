"""Stills and animations against pixels known exactly."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

from diorama.media import BadMedia, Limits, probe, read
from tests.shared import shared_data

UPRIGHT = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3  # every pixel different
# How a camera stores UPRIGHT under each EXIF orientation, from the definition: where row 0 and column 0 of what
# is stored lie in the scene (EXIF 2.32, tag 0x0112).
STORED = {
    1: UPRIGHT,  # row 0 top, column 0 left
    2: UPRIGHT[:, ::-1],  # top, right
    3: UPRIGHT[::-1, ::-1],  # bottom, right
    4: UPRIGHT[::-1],  # bottom, left
    5: UPRIGHT.swapaxes(0, 1),  # left, top
    6: np.rot90(UPRIGHT, 1),  # right, top
    7: UPRIGHT[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: np.rot90(UPRIGHT, -1),  # left, bottom
}


def encode(image: Image.Image, form: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def picture(array: np.ndarray, **options) -> bytes:
    return encode(Image.fromarray(np.ascontiguousarray(array)), **options)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations_come_out_upright(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    data = picture(STORED[orientation], form=form, exif=exif, **options)
    np.testing.assert_array_equal(read(data).frames, UPRIGHT[None])
    info = probe(data)
    assert (info.kind, info.t, info.h, info.w) == ("image", 1, 4, 6)


def test_photos_of_one_scene_in_five_orientations_are_alike():
    """The figure asked for: mean absolute difference under 3/255 between any two after resizing."""
    paths = sorted(p for p in shared_data("photos/exif_orientation").rglob("*") if p.suffix in (".jpg", ".jpeg"))
    assert len(paths) == 5
    frames = [read(path).frames[0] for path in paths]
    assert {frame.shape for frame in frames} == {(1200, 1800, 3)}
    small = [np.asarray(Image.fromarray(f).resize((300, 200)), np.float64) for f in frames]
    for one in small:
        for other in small:
            assert np.abs(one - other).mean() < 3


def test_alpha_is_composited_over_the_background():
    rgba = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 128]]], np.uint8)
    media = read(picture(rgba), background=(0, 0, 100))
    share = 128 / 255
    half = [round(200 * share), round(100 * share), round(100 * (1 - share))]
    np.testing.assert_allclose(media.frames[0, 0].astype(int), [[200, 100, 0], [0, 0, 100], half], atol=1)
    assert media.info["had_alpha"]
    assert read(picture(rgba)).frames[0, 0, 1].tolist() == [255, 255, 255]


def test_premultiplied_alpha_is_not_darkened_twice():
    stored = np.full((2, 2, 4), [100, 50, 0, 128], np.uint8)  # colour already times alpha
    straight, associated = (struct.pack("<HHIH", 338, 3, 1, extra) for extra in (2, 1))  # the tag ExtraSamples
    data = encode(Image.fromarray(stored), "TIFF").replace(straight, associated)
    np.testing.assert_allclose(read(data, background=(0, 0, 0)).frames[0, 0, 0].astype(int), [100, 50, 0], atol=1)


def test_grey_with_alpha_and_palette_with_transparency():
    la = Image.fromarray(np.array([[[90, 255], [90, 0]]], np.uint8), "LA")
    assert read(encode(la), background=(1, 2, 3)).frames[0, 0].tolist() == [[90, 90, 90], [1, 2, 3]]
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.putdata([0, 1, 2])
    one = read(encode(palette, transparency=1), background=(9, 9, 9)).frames[0, 0]
    assert one.tolist() == [[255, 0, 0], [9, 9, 9], [0, 0, 255]]
    each = read(encode(palette, transparency=bytes([255, 255, 0])), background=(9, 9, 9)).frames[0, 0]
    assert each.tolist() == [[255, 0, 0], [0, 255, 0], [9, 9, 9]]


def test_transparent_colour_of_rgb_and_16_bit_grey():
    rgb = picture(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8), transparency=(1, 2, 3))
    assert read(rgb, background=(7, 7, 7)).frames[0, 0].tolist() == [[7, 7, 7], [4, 5, 6]]
    grey = picture(np.array([[0, 1000, 65535]], np.uint16), transparency=1000)
    assert read(grey, background=(7, 8, 9)).frames[0, 0].tolist() == [[0, 0, 0], [7, 8, 9], [255, 255, 255]]


@pytest.mark.parametrize("big_endian", [False, True])
def test_16_bit_grey_is_scaled_not_cut(big_endian):
    values = np.array([[0, 257, 128, 129, 32896, 65535]], np.uint16)
    big = Image.frombytes("I;16B", (6, 1), values.astype(">u2").tobytes())
    image = big if big_endian else Image.fromarray(values)
    media = read(encode(image, "TIFF"))
    assert media.frames[0, 0, :, 0].tolist() == [0, 1, 0, 1, 128, 255]
    assert media.info["bits"] == 16
    assert media.info["range"] == (0.0, 65535.0)
    if not big_endian:
        assert read(encode(image, "PNG")).frames[0, 0, :, 0].tolist() == [0, 1, 0, 1, 128, 255]


def test_32_bit_and_float_grey():
    def grey(array, form="TIFF"):
        return read(encode(Image.fromarray(array), form)).frames[0, 0, :, 0].tolist()

    assert grey(np.array([[0.0, 0.5, 1.0]], np.float32)) == [0, 128, 255]
    assert grey(np.array([[0.0, 127.0, 255.0]], np.float32)) == [0, 127, 255]
    assert grey(np.array([[-1.0, 0.0, 1.0]], np.float32)) == [0, 128, 255]
    assert grey(np.array([[np.nan, 1.0, np.inf]], np.float32)) == [0, 255, 255]
    assert grey(np.array([[0, 65535]], np.int32)) == [0, 255]
    assert grey(np.array([[0, 200]], np.int32)) == [0, 200]
    assert grey(np.array([[-1000, 0, 1000]], np.int32)) == [0, 128, 255]
    assert read(b"P5 3 1 65535\n" + np.array([0, 257, 65535], ">u2").tobytes()).frames[0, 0, :, 0].tolist() == [
        0,
        1,
        255,
    ]


def test_cmyk_plain_and_as_adobe_writes_it():
    flat = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red ink only
    for data in (encode(flat, "TIFF"), encode(flat, "JPEG", quality=95)):  # Pillow writes CMYK JPEG inverted, as Adobe
        media = read(data)
        assert media.info["mode"] == "CMYK"
        np.testing.assert_allclose(media.frames[0, 8, 8].astype(int), [255, 0, 0], atol=3)


def test_lab():
    lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    stored = ImageCms.applyTransform(Image.new("RGB", (4, 4), (200, 60, 30)), lab)
    assert stored is not None
    np.testing.assert_allclose(read(encode(stored, "TIFF")).frames[0, 0, 0].astype(int), [200, 60, 30], atol=3)


def test_a_foreign_colour_profile_is_converted_and_a_broken_one_ignored():
    colours = np.full((4, 4, 3), [200, 60, 30], np.uint8)
    assert read(picture(colours, icc_profile=b"not a profile")).frames[0, 0, 0].tolist() == [200, 60, 30]
    swapped = _profile_with_red_and_green_swapped()
    media = read(picture(colours, icc_profile=swapped))
    assert media.info["colour_managed"]
    np.testing.assert_allclose(media.frames[0, 0, 0].astype(int), [60, 200, 30], atol=3)
    rgba = np.dstack([colours, np.full((4, 4), 255, np.uint8)])
    np.testing.assert_allclose(
        read(picture(rgba, icc_profile=swapped)).frames[0, 0, 0].astype(int), [60, 200, 30], atol=3
    )


def _profile_with_red_and_green_swapped() -> bytes:
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data = bytearray(bytes(data).replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be")))
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")  # in the table of tags: name, offset, size
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


def test_one_bit_and_l():
    assert read(encode(Image.new("1", (2, 2), 1))).frames.min() == 255
    assert read(encode(Image.new("L", (2, 2), 77))).frames[0, 0, 0].tolist() == [77, 77, 77]


COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


@pytest.mark.parametrize(("form", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("AVIF", {})])
def test_animation_frames_and_rate(form, options):
    frames = [Image.new("RGB", (16, 8), colour) for colour in COLOURS]
    data = encode(frames[0], form, save_all=True, append_images=frames[1:], duration=40, **options)
    media = read(data)
    assert media.frames.shape == (3, 8, 16, 3)
    np.testing.assert_allclose(media.frames[:, 4, 8].astype(int), COLOURS, atol=5)
    assert media.rate == pytest.approx(25)
    assert not media.info["variable_rate"]
    assert probe(data).t == 3


def test_uneven_durations_give_the_mean_rate_and_hasty_ones_what_viewers_show():
    frames = [Image.new("RGB", (8, 8), colour) for colour in COLOURS]
    uneven = read(encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=[100, 300, 200]))
    assert uneven.rate == pytest.approx(5)
    assert uneven.info["variable_rate"]
    assert uneven.info["duration"] == pytest.approx(0.6)
    hasty = read(encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=0))
    assert hasty.rate == pytest.approx(10)


@pytest.mark.parametrize(("disposal", "kept"), [(1, True), (2, False), (3, False)])
def test_gif_disposal(disposal, kept):
    """Frame 2 draws a dot elsewhere: the dot of frame 1 stays (1), is cleared (2) or undone (3)."""
    frames = []
    for x in (1, 5):
        frame = Image.new("P", (8, 4), 0)
        frame.putpalette([255, 255, 255, 255, 0, 0])
        ImageDraw.Draw(frame).rectangle([x, 1, x + 1, 2], fill=1)
        frames.append(frame)
    data = encode(
        frames[0], "GIF", save_all=True, append_images=frames[1:], transparency=0, disposal=disposal, duration=100
    )
    last = read(data, background=(0, 0, 9)).frames[1]
    assert last[1, 5].tolist() == [255, 0, 0]
    assert last[1, 1].tolist() == ([255, 0, 0] if kept else [0, 0, 9])


def test_apng_default_image_is_not_a_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in COLOURS]
    data = encode(frames[0], "PNG", save_all=True, default_image=True, append_images=frames[1:], duration=100)
    np.testing.assert_array_equal(read(data).frames[:, 0, 0], COLOURS[1:])


def test_part_of_an_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in COLOURS]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    np.testing.assert_array_equal(read(data, start=0.1, count=1).frames[:, 0, 0], COLOURS[1:2])
    with pytest.raises(BadMedia, match="no frames after"):
        read(data, start=9)


def test_pages_are_not_frames():
    pages = [Image.new("RGB", (8, 8), colour) for colour in COLOURS]
    media = read(encode(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert media.frames.shape == (1, 8, 8, 3)
    assert media.rate is None


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000"])
def test_truncated_files_are_errors_not_grey(form):
    data = picture(NOISE, form=form)
    assert read(data).frames.shape == (1, 64, 64, 3)
    for share in (0.05, 0.5, 0.9):
        with pytest.raises(BadMedia) as caught:
            read(data[: int(len(data) * share)])
        assert 0 < len(caught.value.reason) < 140
        assert "\n" not in caught.value.reason


def test_bombs_are_refused_from_the_header():
    bomb = bytearray(encode(Image.new("1", (8, 8))))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    crc = zlib.crc32(bomb[12:29])
    bomb[29:33] = crc.to_bytes(4, "big")
    with pytest.raises(BadMedia, match="pixels"):
        read(bytes(bomb))
    flat = encode(Image.new("1", (9000, 9000)))  # 81 million pixels in 10 kB
    with pytest.raises(BadMedia, match="9000x9000 is more than 64 million pixels"):
        read(flat)
    frames = [Image.new("RGB", (100, 100), (i, 0, 0)) for i in range(20)]
    animated = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(BadMedia, match="20 frames of 100x100"):
        read(animated, Limits(total_bytes=300_000))
    with pytest.raises(BadMedia, match="20 frames are more than 10"):
        read(animated, Limits(frames=10))
    with pytest.raises(BadMedia, match="longer than 0 seconds"):
        read(animated, Limits(timeout=0))

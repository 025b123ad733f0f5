"""What a file is by its first bytes; names and extensions lie."""

from diorama.media.media import BadMedia

HEAD = 4096  # bytes that `sniff` wants to see

# (offset, bytes, FFmpeg's name of the container). Play lists and scripts (HLS, DASH, concat) are not here on
# purpose: they make FFmpeg open other files and addresses.
_VIDEO = [
    (4, b"ftyp", "mov"),
    (4, b"moov", "mov"),
    (4, b"mdat", "mov"),
    (4, b"moof", "mov"),
    (4, b"styp", "mov"),
    (4, b"sidx", "mov"),
    (4, b"wide", "mov"),
    (4, b"free", "mov"),
    (4, b"skip", "mov"),
    (4, b"pnot", "mov"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (8, b"AVI ", "avi"),
    (0, b"FLV\x01", "flv"),
    (0, b"\x00\x00\x01\xba", "mpeg"),
    (0, b"\x00\x00\x01\xb3", "mpegvideo"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (0, b"OggS", "ogg"),
    (0, b"DKIF", "ivf"),
    (0, b"YUV4MPEG2", "yuv4mpegpipe"),
    (0, b"\x06\x0e+4\x02\x05\x01\x01", "mxf"),
    (0, b".RMF", "rm"),
]
_REFUSED = [
    (0, b"%PDF", "a PDF document, not media"),
    (0, b"%!PS", "PostScript: never run, it is a program"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript: never run, it is a program"),
    (0, b"PK\x03\x04", "a zip archive, not media"),
    (0, b"\x1f\x8b", "a gzip archive, not media"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive, not media"),
    (0, b"Rar!", "a rar archive, not media"),
    (257, b"ustar", "a tar archive, not media"),
    (0, b"\x7fELF", "a program, not media"),
    (0, b"\xd7\xcd\xc6\x9a", "a WMF drawing, not pixels"),
    (0, b"\x89HDF", "HDF5 data, not media"),
    (0, b"GRIB", "GRIB weather data, not media"),
    (0, b"BUFR", "BUFR weather data, not media"),
    (0, b"ID3", "sound only, no picture"),
    (0, b"fLaC", "sound only, no picture"),
    (8, b"WAVE", "sound only, no picture"),
]


def sniff(head: bytes) -> str:
    """ "image", or FFmpeg's name of the video container, from the first HEAD bytes; BadMedia for what is neither.

    What has no known mark is "image": several image formats have none, and Pillow says no quickly.
    """
    if not head:
        raise BadMedia("an empty file")
    for offset, mark, reason in _REFUSED:
        if head.startswith(mark, offset):
            raise BadMedia(reason)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:512].lower()
    if text.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype", b"<html", b"<head", b"<body")):
        raise BadMedia("an SVG drawing, not pixels" if b"<svg" in head.lower() else "a web page or XML, not media")
    if head[4:8] == b"ftyp" and head[8:12] != b"qt  ":
        brands = {head[i : i + 4] for i in range(8, min(int.from_bytes(head[:4], "big"), len(head)), 4)}
        if brands & {b"avif", b"avis"}:
            return "image"
    for offset, mark, container in _VIDEO:
        if head.startswith(mark, offset):
            return container
    for size, offset in ((188, 0), (192, 4), (204, 0)):  # transport stream: a sync byte each packet
        if len(head) > 2 * size + offset and all(head[offset + i * size] == 0x47 for i in range(3)):
            return "mpegts"
    return "image"


def is_text(head: bytes) -> bool:
    """Whether `head` reads as plain text."""
    if b"\x00" in head:
        return False
    try:
        head[: len(head) - 3].decode("utf-8")  # a cut may have split the last character
    except UnicodeDecodeError:
        return False
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)

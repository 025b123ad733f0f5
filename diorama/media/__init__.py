"""Image, video and sound files <-> arrays (t, h, w, c); the only place that touches decoders. Imports no JAX."""

from diorama.media.guard import Reader, read_guarded
from diorama.media.media import BadMedia, Info, Limits, Media, Overrun
from diorama.media.read import Part, Source, probe, read
from diorama.media.resize import center_crop, cover, crop, resize, scale
from diorama.media.sheet import contact_sheet, grid
from diorama.media.write import write_gif, write_mp4, write_png

__all__ = [
    "BadMedia",
    "Info",
    "Limits",
    "Media",
    "Overrun",
    "Part",
    "Reader",
    "Source",
    "center_crop",
    "contact_sheet",
    "cover",
    "crop",
    "grid",
    "probe",
    "read",
    "read_guarded",
    "resize",
    "scale",
    "write_gif",
    "write_mp4",
    "write_png",
]

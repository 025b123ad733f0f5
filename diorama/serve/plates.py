"""Plates as files: sheets of one picture in fewer bits and with noise in each octave, and a chart of contrasts."""

from pathlib import Path

import numpy as np

from diorama.core.errors import UserError
from diorama.evaluate.plates import bit_depths, contrast_chart, octave_noise, photograph
from diorama.media import BadMedia, grid, read_guarded, write_png

SIDE = 480  # pixels that are kept of a picture's shorter side, so that a sheet can be looked at pixel by pixel

CHART = "stripes finer to the right, fainter upwards: where they vanish is your eyes' own sensitivity to contrast"


def write_plates(folder: Path, picture: Path | None = None) -> list[Path]:
    """Write `bits.png`, `octaves.png` and `contrast.png`; their paths.

    picture: a file, of which the first frame is taken; if None, a photo that is always there. Raises `UserError` where
    it cannot be read.
    """
    image = photograph() if picture is None else _read(picture)
    bits = [(name, plate, noisy) for name, (plate, noisy) in bit_depths(image).items()]
    octaves = [("as it is", image), *octave_noise(image).items()]
    rows = [
        plate
        for part in (bits[:4], bits[4:])
        for plate in [*((n, rounded) for n, rounded, _ in part), *((f"{n}, with noise", noisy) for n, _, noisy in part)]
    ]
    sheets = {
        "bits": _sheet(rows, 4),
        "octaves": _sheet(octaves, 3),
        "contrast": _sheet([(CHART, contrast_chart())], 1),
    }
    for name, sheet in sheets.items():
        write_png(folder / f"{name}.png", sheet)
    return [folder / f"{name}.png" for name in sheets]


def _sheet(plates: list[tuple[str, np.ndarray]], columns: int) -> np.ndarray:
    return grid([plate[None] for _, plate in plates], columns, [name for name, _ in plates])[0]


def _read(path: Path) -> np.ndarray:
    try:
        return read_guarded(path, count=1, short_side=SIDE).frames[0]
    except BadMedia as bad:
        raise UserError(f"{path} cannot be used as a picture: {bad}") from None

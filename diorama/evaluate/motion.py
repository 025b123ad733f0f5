"""Which way the one object of a clip moves, by tracking its centre of light.

A measuring instrument, not a network: it cannot have learned from the training clips. Its accuracy on real clips is
printed beside every figure made with it.
"""

import numpy as np
from jaxtyping import Float, UInt8

DIRECTIONS = ("left", "right", "up", "down", "still")


def centroids(clips: UInt8[np.ndarray, "b t h w c"], dark: float = 0.1) -> Float[np.ndarray, "b t 2"]:
    """The (y, x) centre of light of every frame, in pixels; nan where a frame shows nothing.

    The clip's median grey level is the background; what is within `dark` of the full range above it counts as nothing.
    """
    light = clips.mean(-1, dtype=np.float32) / 255
    light -= np.median(light, axis=(1, 2, 3), keepdims=True)
    light = np.where(light > dark, light, 0)
    y, x = np.arange(light.shape[-2]), np.arange(light.shape[-1])
    total = light.sum((2, 3), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        centre = np.stack([light.sum(3) @ y, light.sum(2) @ x], -1) / total[..., None]
    return np.where(total[..., None] > 1, centre, np.nan)


def velocities(clips: UInt8[np.ndarray, "b t h w c"]) -> Float[np.ndarray, "b 2"]:
    """The (y, x) velocity of the centre of light, pixels a frame: the least-squares slope over the frames that show it.

    nan where fewer than two frames show anything.
    """
    track = centroids(clips)
    seen = ~np.isnan(track[..., :1])
    n = seen.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        time = np.where(seen, np.arange(clips.shape[1])[None, :, None], 0.0)
        time = np.where(seen, time - time.sum(1, keepdims=True) / n, 0)
        slope = (time * np.nan_to_num(track)).sum(1) / (time**2).sum(1)
    return np.where(n[:, 0] > 1, slope, np.nan)


def directions(clips: UInt8[np.ndarray, "b t h w c"], still_below: float = 0.25) -> list[str]:
    """One of `DIRECTIONS` a clip, by the larger part of the velocity; "lost" where nothing could be tracked.

    `still_below` is the speed in pixels a frame under which the object stands still.
    """
    names = []
    for y, x in velocities(clips):
        if np.isnan(y):
            names.append("lost")
        elif max(abs(y), abs(x)) < still_below:
            names.append("still")
        elif abs(x) >= abs(y):
            names.append("right" if x > 0 else "left")
        else:
            names.append("down" if y > 0 else "up")
    return names

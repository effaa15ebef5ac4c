"""Reads a clip of one shape back: how it moves. No learned judge, and other code than training uses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.builtin.reading import Mask, Region, foreground, read_picture

FAR = 0.4  # of half a picture, that a moving shape covers at least
GROWS = 1.5  # times its size from the first frame to the last
TURNED = 0.9  # of the pixels of two outlines on top of each other are in both, at most, if the shape has turned


def motion_of(frames: NDArray[np.uint8]) -> str | None:
    """Name the motion of the one shape of a clip, (frames, height, width, 3); None if it does not move.

    A shape that is lost in the first, the middle or the last frame, or has company there, has no motion.
    """
    seen = [frames[0], frames[len(frames) // 2], frames[-1]]
    regions = [read_picture(picture).regions for picture in seen]
    if any(len(found) != 1 for found in regions):
        return None
    first, middle, last = (found[0] for found in regions)
    right, down = last.x - first.x, last.y - first.y
    growth = (last.share / first.share) ** 0.5
    if growth >= GROWS or growth <= 1 / GROWS:
        steadily = min(first.share, last.share) < middle.share < max(first.share, last.share)
        return ("growing" if growth > 1 else "shrinking") if steadily else None
    if max(abs(right), abs(down)) >= FAR:
        if not _is_between(first, middle, last):
            return None
        if abs(right) > abs(down):
            return "moving right" if right > 0 else "moving left"
        return "moving down" if down > 0 else "moving up"
    overlap = min(_overlap(seen[0], seen[1]), _overlap(seen[1], seen[2]))
    return "spinning" if overlap <= TURNED else None


def _is_between(first: Region, middle: Region, last: Region) -> bool:
    half = ((first.x + last.x) / 2, (first.y + last.y) / 2)
    return abs(middle.x - half[0]) < FAR / 2 and abs(middle.y - half[1]) < FAR / 2


def _overlap(picture: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the share of pixels in both of two shapes, of those in either, with their middles on top of each other."""
    one, two = _centred(foreground(picture)), _centred(foreground(other))
    return float((one & two).sum() / max(1, (one | two).sum()))


def _centred(mask: Mask) -> Mask:
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return mask
    height, width = mask.shape
    down, right = height // 2 - round(float(rows.mean())), width // 2 - round(float(columns.mean()))
    return np.roll(mask, (down, right), axis=(0, 1))

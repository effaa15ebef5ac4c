"""From a decoder's numbers to the frames a client asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate, pad

from models.errors import BadOutput


def on_grid(length: int, grid: int) -> int:
    """Return the smallest multiple of ``grid`` that is not below ``length``.

    >>> on_grid(257, 8)
    264
    """
    return -(-length // grid) * grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a pipeline makes in one go."""

    width: int  # pixels
    height: int  # pixels
    frames: int


def fitted(decoded: torch.Tensor, *, height: int, width: int) -> torch.Tensor:
    """Make frames, (frames, 3, height made, width made), of the size asked for.

    They are scaled until one side fits, and go on beyond the other as they end.
    """
    rows, columns = decoded.shape[2:]
    scale = min(height / rows, width / columns)
    rows, columns = round(rows * scale), round(columns * scale)
    scaled = interpolate(decoded, size=(rows, columns), mode="bilinear")
    top, left = (height - rows) // 2, (width - columns) // 2
    edges = (left, width - columns - left, top, height - rows - top)
    return pad(scaled, edges, mode="replicate")


def stretched(made: NDArray[np.uint8], frames: int) -> NDArray[np.uint8]:
    """Make ``frames`` of fewer, from the first to the last: some stand longer."""
    when = np.arange(frames) * (len(made) - 1) / max(1, frames - 1)
    shown: NDArray[np.uint8] = made[when.round().astype(int)]
    return shown


def frames_from(decoded: torch.Tensor, *, frames: int, height: int, width: int) -> NDArray[np.uint8]:
    """Check, crop and round one item's frames.

    ``decoded`` has the shape (frames made, 3, height made, width made), RGB, with values from 0 to 1, clamped where
    outside; more may be made than is asked for. Surplus frames are dropped at the end. Surplus pixels are cut off on
    both sides alike, so that a subject in the middle of the picture stays there.

    Returns uint8 of the shape (``frames``, ``height``, ``width``, 3).

    Raises:
        BadOutput: a value is not finite, or everything is one and the same colour.
    """
    top, left = (decoded.shape[2] - height) // 2, (decoded.shape[3] - width) // 2
    asked = decoded[:frames, :, top : top + height, left : left + width].float()
    if not bool(torch.isfinite(asked).all()):
        raise BadOutput("The model's output is not finite: the picture would be black or broken")
    levels = (asked.clamp(0, 1) * 255).round_().to(torch.uint8)
    result: NDArray[np.uint8] = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    colour = result[0, 0, 0]
    # The first frame alone settles it for nearly every video.
    if (result[0] == colour).all() and (result == colour).all():
        raise BadOutput(f"The model's output is all one colour (red, green, blue = {', '.join(map(str, colour))})")
    return result

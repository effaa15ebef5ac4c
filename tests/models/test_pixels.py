"""Frames of the one size that a model makes, made as many and as large as asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.pixels import fitted, stretched


def clip(frames: int) -> torch.Tensor:
    """Return white frames of 8 by 8 pixels with a black square in the middle, each a little darker than the last."""
    made = torch.ones(frames, 3, 8, 8) * torch.linspace(1, 0.5, frames).view(-1, 1, 1, 1)
    made[:, :, 2:6, 2:6] = 0
    return made


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 16), (16, 24), (24, 16), (9, 13)])
def test_what_was_square_stays_square_in_the_middle(height: int, width: int) -> None:
    """Scaled until one side fits; beyond the other everything goes on as it ends."""
    made = fitted(clip(3), height=height, width=width)
    assert made.shape == (3, 3, height, width)
    assert (made[0, :, 0] == 1).all()
    assert (made[0, :, :, -1] == 1).all()
    dark = made[0, 0] < 0.5
    rows, columns = dark.any(1).nonzero().flatten(), dark.any(0).nonzero().flatten()
    assert abs(len(rows) - min(height, width) / 2) <= 1
    assert abs(len(columns) - len(rows)) <= 1
    assert abs(rows.float().mean() - (height - 1) / 2) <= 0.5
    assert abs(columns.float().mean() - (width - 1) / 2) <= 0.5


def test_a_longer_clip_goes_from_the_first_frame_to_the_last() -> None:
    """Some frames stand longer, none comes before its time; as many stay as they are."""
    made = np.arange(5, dtype=np.uint8)
    assert stretched(made, 13).tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4]
    assert stretched(made, 5).tolist() == [0, 1, 2, 3, 4]
    assert stretched(made[:1], 1).tolist() == [0]

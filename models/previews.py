"""What a picture looks like while it forms: latents projected to RGB, without the decoder.

A linear map from a latent's channels to a colour is enough to see what comes, and takes a fraction of a millisecond.
The map is measured from the model's own decoder, once: patches of random latents are decoded, and the map that explains
the colours best (least squares) is kept. Where a model's latents are too few to be looked at, its decoder is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from models.spec import Frames

PATCHES, CELLS = 6, 3  # patches in a row, and latent cells in a row of each: a decoder looks at its surroundings
SAMPLES = 2
DECODED = 64  # pixels, the longer side of a small picture that the decoder made

Decode = Callable[[Tensor], Tensor]
"""From normalised latents (items, channels, rows, columns) to RGB from 0 to 1, (items, 3, rows, columns) in pixels."""


def measure(decode: Decode, *, channels: int, device: torch.device) -> Tensor:
    """Measure a decoder's map; the shape is (channels + 1, 3), the last row being the colour of a latent of zeros.

    Random numbers come from a generator of its own: whoever counts on a seed is not disturbed.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    given = torch.randn(SAMPLES, channels, PATCHES, PATCHES, generator=generator)
    latents = given.repeat_interleave(CELLS, dim=2).repeat_interleave(CELLS, dim=3).to(device)
    with torch.no_grad():
        decoded = decode(latents).float()
    colours = torch.nn.functional.adaptive_avg_pool2d(decoded, PATCHES).cpu()
    known = given.permute(0, 2, 3, 1).reshape(-1, channels)
    known = torch.cat([known, torch.ones(len(known), 1)], dim=1)
    wanted = colours.permute(0, 2, 3, 1).reshape(-1, 3)
    solution: Tensor = torch.linalg.lstsq(known, wanted, driver="gelsd").solution
    return solution.to(device)


def paint(latents: Tensor, projection: Tensor) -> Sequence[Frames]:
    """Project latents, (items, channels, rows, columns), each item to uint8 of the shape (rows, columns, 3).

    Some schedulers keep latents far above the decoder's range while there is noise in them: those are scaled down.
    """
    values = latents.float()
    values = values / values.std(dim=(1, 2, 3), keepdim=True).clamp(min=1.0)
    colours = values.permute(0, 2, 3, 1) @ projection[:-1] + projection[-1]
    return _levels(colours)


def shown(decoded: Tensor) -> Sequence[Frames]:
    """Make pictures, (items, 3, height, width) from 0 to 1, small: each uint8 of the shape (rows, columns, 3)."""
    scale = DECODED / max(decoded.shape[-2:])
    small = torch.nn.functional.interpolate(decoded.float(), scale_factor=scale, mode="area")
    return _levels(small.permute(0, 2, 3, 1))


def _levels(colours: Tensor) -> Sequence[Frames]:
    return list((colours.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())

"""Draws scenes: as latents for the diffusion model, and as pixels for the decoder.

A latent is no learned code. Each colour has a word of four bits, each bit is +1 or -1. A cell is four quarters, and its
latent the four means, one after another for each bit, of the words of the colours within them: a picture of half a
cell's resolution, folded, because a UNet of a quarter of the cells costs a fraction. The first three bits are the
corner of the RGB cube nearest to the colour, so that a linear preview of the latents shows about the right thing. Every
clean latent lies in [-1, 1] and almost every one at +1 or -1, so the scheduler can clip its estimates of the clean
latents there, and strong guidance has nothing to burn (the idea of "analog bits", Chen et al. 2022, arXiv:2208.04202).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pixel_unshuffle

from models.builtin.language import RGB
from models.builtin.train.scenes import Scene, Thing

CELL = 16  # pixels to a latent cell, each way
QUARTERS = 2  # of a cell, each way
CHANNELS = 4 * QUARTERS**2  # of a latent
WORDS_OF_BITS = {
    "red": (1, -1, -1, -1),
    "orange": (1, 1, -1, 1),
    "yellow": (1, 1, -1, -1),
    "green": (-1, 1, -1, -1),
    "cyan": (-1, 1, 1, -1),
    "blue": (-1, -1, 1, -1),
    "purple": (1, -1, 1, 1),
    "pink": (1, -1, 1, -1),
    "brown": (1, -1, -1, 1),
    "white": (1, 1, 1, -1),
    "grey": (1, 1, 1, 1),
    "black": (-1, -1, -1, -1),
}


def extent(width: int, height: int) -> tuple[float, float]:
    """Return ``(across, down)``, the half sides of a picture in half lengths of its shorter side."""
    shorter = min(width, height)
    return width / shorter, height / shorter


def _distance(kind: str, x: Tensor, y: Tensor) -> Tensor:
    """Return about the signed distance to a shape of outer radius 1, negative within; y points down.

    The star is a folded half plane and the heart the exact distance, both after Inigo Quilez, "2D distance functions",
    https://iquilezles.org/articles/distfunctions2d/.
    """
    if kind == "circle":
        return torch.hypot(x, y) - 0.94
    if kind == "ring":
        return (torch.hypot(x, y) - 0.735).abs() - 0.215
    if kind == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.78
    if kind == "triangle":
        y = y - 0.18  # the middle of its height, not its centroid, is the middle of the shape
        side = x.abs() * math.cos(math.pi / 6) - y * 0.5
        return torch.maximum(side, y) - 0.5
    if kind == "star":
        sector = 2 * math.pi / 5
        angle = torch.remainder(torch.atan2(x, -y) + sector / 2, sector) - sector / 2
        radius = torch.hypot(x, y)
        along, aside = radius * torch.cos(angle), radius * torch.sin(angle).abs()
        inner = 0.45
        tip_x, dent_x, dent_y = 1.02, inner * math.cos(sector / 2), inner * math.sin(sector / 2)
        normal_x, normal_y = dent_y, tip_x - dent_x
        return ((along - tip_x) * normal_x + aside * normal_y) / math.hypot(normal_x, normal_y)
    if kind == "heart":
        scale = 1.62
        px, py = x.abs() / scale, 0.55 - y / scale
        lobe = torch.hypot(px - 0.25, py - 0.75) - math.sqrt(2) / 4
        tip = 0.5 * (px + py).clamp_min(0)
        nearest = torch.minimum(torch.hypot(px, py - 1), torch.hypot(px - tip, py - tip))
        return torch.where(px + py > 1, lobe, nearest * torch.sign(px - py)) * scale
    raise ValueError(f"no such shape: {kind}")


def _cover(scenes: Sequence[Scene], rows: int, columns: int) -> list[tuple[int, Thing, Tensor]]:
    """Return for each thing its scene's index, itself, and the share of each pixel that it covers, (rows, columns)."""
    across, down = extent(columns, rows)
    pixel = 2 / min(rows, columns)
    grid_x = ((torch.arange(columns) + 0.5) / columns * 2 - 1) * across
    grid_y = ((torch.arange(rows) + 0.5) / rows * 2 - 1) * down
    by_kind: dict[str, list[tuple[int, Thing]]] = {}
    for index, scene in enumerate(scenes):
        for thing in scene.things:
            by_kind.setdefault(thing.kind, []).append((index, thing))
    covered: list[tuple[int, Thing, Tensor]] = []
    for kind, members in by_kind.items():
        values = torch.tensor([(t.x, t.y, t.radius, math.cos(t.turn), math.sin(t.turn)) for _, t in members])
        left, top, radius, cosine, sine = values.view(-1, 5, 1, 1).unbind(1)
        x = (grid_x.view(1, 1, -1) - left) / radius
        y = (grid_y.view(1, -1, 1) - top) / radius
        distance = _distance(kind, cosine * x + sine * y, cosine * y - sine * x) * radius
        share = (0.5 - distance / pixel).clamp(0, 1)
        covered.extend((index, thing, share[place]) for place, (index, thing) in enumerate(members))
    return covered


def _paint(scenes: Sequence[Scene], rows: int, columns: int, colours: dict[str, Tensor]) -> Tensor:
    channels = next(iter(colours.values())).numel()
    picture = torch.stack([colours[scene.background].view(-1, 1, 1) for scene in scenes])
    picture = picture.expand(-1, channels, rows, columns).clone()
    for index, thing, share in _cover(scenes, rows, columns):
        picture[index] = torch.lerp(picture[index], colours[thing.colour].view(-1, 1, 1), share)
    return picture


BITS = {name: torch.tensor(bits, dtype=torch.float32) for name, bits in WORDS_OF_BITS.items()}
SHOWN = {name: torch.tensor(rgb, dtype=torch.float32) / 127.5 - 1 for name, rgb in RGB.items()}


def latents(scenes: Sequence[Scene], rows: int, columns: int) -> Tensor:
    """Return the latents of scenes, (scenes, CHANNELS, rows, columns) in cells, drawn twice as fine as quarters."""
    fine = 2 * QUARTERS
    return pixel_unshuffle(avg_pool2d(paint_bits(scenes, fine * rows, fine * columns), 2), QUARTERS)


def paint_bits(scenes: Sequence[Scene], rows: int, columns: int) -> Tensor:
    """Return the words of the colours of scenes, (scenes, 4, rows, columns) in pixels, before any pooling."""
    return _paint(scenes, rows, columns, BITS)


def pixels(scenes: Sequence[Scene], rows: int, columns: int) -> Tensor:
    """Return the pictures of scenes, (scenes, 3, rows, columns) in pixels, in [-1, 1]."""
    return _paint(scenes, rows, columns, SHOWN)

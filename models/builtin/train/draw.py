"""Draws scenes: as latents for the diffusion model, and as pixels for the decoder.

A latent is no learned code: it says in numbers what is drawn, and the decoder draws it. Every cell says

- ``SHOWN``: the mean of the words of the colours in it, so that a linear preview of latents shows about the right
  thing;
- of the thing that is nearest to it ``COLOUR`` and ``KIND``, as words;
- and ``PLACE``, where it lies from that thing: how far to the right of its left end, of its middle and of its right
  end, and how far below its top, its middle and its bottom. Each goes from -1 to 1 within half a radius.

A word is four bits, each +1 or -1. So what is hard for a small network, an outline with its corners, is not in the
latents at all: they are almost everywhere constant, or slopes, and every cell about a thing says the same of it. Every
clean latent lies in [-1, 1] and most at +1 or -1, so the scheduler can clip its estimates there, and strong guidance
has nothing to burn (the idea of "analog bits", Chen et al. 2022, arXiv:2208.04202).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from models.builtin.language import KINDS, RGB
from models.builtin.train.scenes import Scene, Thing

CELL = 16  # pixels to a latent cell, each way
SIDE = 16  # cells of a picture of 256 pixels, the usual size
MARKS = (-1.0, 0.0, 1.0)  # of a thing of radius 1, across and down
SLOPE = 0.5  # radii on each side of a mark
SHOWN, COLOUR, KIND, PLACE = slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 12 + 2 * len(MARKS))
CHANNELS = PLACE.stop  # of a latent
REACH = MARKS[-1] + SLOPE  # radii: farther from a thing its latents do not tell how far
MEANT = 2 + len(KINDS) + 4 + 4 + 2  # numbers that say what a cell means
BETWEEN = MEANT - 2  # which of them is 1 between things
FINENESS = 4  # points in a cell, each way, of which ``SHOWN`` is the mean
WORDS_OF_COLOURS = {
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
"""Of a colour; the first three bits are the corner of the RGB cube nearest to it."""
WORDS_OF_KINDS = {
    "circle": (1, 1, 1, 1),
    "square": (1, 1, -1, -1),
    "triangle": (1, -1, 1, -1),
    "star": (1, -1, -1, 1),
    "heart": (-1, 1, 1, -1),
    "ring": (-1, 1, -1, 1),
}
"""Two of them differ in two bits at least."""


def extent(width: int, height: int) -> tuple[float, float]:
    """Return ``(across, down)``, the half sides of a picture in half lengths of its shorter side."""
    shorter = min(width, height)
    return width / shorter, height / shorter


def distance(kind: str, x: Tensor, y: Tensor) -> Tensor:
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


def within(things: Sequence[Thing], rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return where each pixel lies from the middle of each thing, in its radii, turned back by the thing's turn.

    Both x and y are (things, rows, columns).
    """
    values = torch.tensor([(t.x, t.y, t.radius, math.cos(t.turn), math.sin(t.turn)) for t in things])
    left, top, radius, cosine, sine = values.view(-1, 5, 1, 1).unbind(1)
    across, down = extent(columns, rows)
    x = (((torch.arange(columns) + 0.5) / columns * 2 - 1) * across - left) / radius
    y = (((torch.arange(rows) + 0.5) / rows * 2 - 1).view(-1, 1) * down - top) / radius
    return cosine * x + sine * y, cosine * y - sine * x


def _cover(scenes: Sequence[Scene], rows: int, columns: int) -> list[tuple[int, Thing, Tensor]]:
    """Return for each thing its scene's index, itself, and the share of each pixel that it covers, (rows, columns)."""
    pixel = 2 / min(rows, columns)
    by_kind: dict[str, list[tuple[int, Thing]]] = {}
    for index, scene in enumerate(scenes):
        for thing in scene.things:
            by_kind.setdefault(thing.kind, []).append((index, thing))
    covered: list[tuple[int, Thing, Tensor]] = []
    for kind, members in by_kind.items():
        radius = torch.tensor([thing.radius for _, thing in members]).view(-1, 1, 1)
        away = distance(kind, *within([thing for _, thing in members], rows, columns)) * radius
        share = (0.5 - away / pixel).clamp(0, 1)
        covered.extend((index, thing, share[place]) for place, (index, thing) in enumerate(members))
    return covered


def _paint(scenes: Sequence[Scene], rows: int, columns: int, colours: dict[str, Tensor]) -> Tensor:
    channels = next(iter(colours.values())).numel()
    picture = torch.stack([colours[scene.background].view(-1, 1, 1) for scene in scenes])
    picture = picture.expand(-1, channels, rows, columns).clone()
    for index, thing, share in _cover(scenes, rows, columns):
        picture[index] = torch.lerp(picture[index], colours[thing.colour].view(-1, 1, 1), share)
    return picture


BITS = {name: torch.tensor(bits, dtype=torch.float32) for name, bits in WORDS_OF_COLOURS.items()}
KIND_BITS = {name: torch.tensor(bits, dtype=torch.float32) for name, bits in WORDS_OF_KINDS.items()}
SEEN = {name: torch.tensor(rgb, dtype=torch.float32) / 127.5 - 1 for name, rgb in RGB.items()}


def latents(scenes: Sequence[Scene], rows: int, columns: int) -> Tensor:
    """Return the latents of scenes of one thing or more, (scenes, CHANNELS, rows, columns) in cells."""
    found = torch.empty(len(scenes), CHANNELS, rows, columns)
    found[:, SHOWN] = avg_pool2d(_paint(scenes, FINENESS * rows, FINENESS * columns, BITS), FINENESS)
    for own, scene in zip(found, scenes, strict=True):
        x, y, nearest = around(scene, rows, columns)
        for part, words in (
            (COLOUR, [BITS[thing.colour] for thing in scene.things]),
            (KIND, [KIND_BITS[thing.kind] for thing in scene.things]),
        ):
            own[part] = torch.stack(words)[nearest].permute(2, 0, 1)
        own[PLACE] = torch.cat([marked(axis.gather(0, nearest.unsqueeze(0))) for axis in (x, y)])
    return found


def around(scene: Scene, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``within`` for the things of a scene, and which of them is nearest to each cell, (rows, columns)."""
    x, y = within(scene.things, rows, columns)
    return x, y, torch.hypot(x, y).argmin(dim=0)


def marked(axis: Tensor) -> Tensor:
    """Return how far each point of ``axis``, in radii, is beyond each mark: ``len(MARKS)`` in place of one."""
    marks = torch.tensor(MARKS).view(-1, 1, 1)
    return ((axis - marks) / SLOPE).clamp(-1, 1)


def meaning(scenes: Sequence[Scene], rows: int, columns: int) -> Tensor:
    """Return what the latents of scenes mean, (scenes, MEANT, rows, columns) in cells, nothing of it below 0.

    Of every cell: where it lies from the middle of the thing nearest to it, across and down, from 0 at ``-REACH`` radii
    to 2 at ``REACH``; that thing's kind, 1 of six; the bits of its colour and the background's, 0 or 1; and 1 where
    another thing is nearest to a cell beside it, so that places between the two mean nothing. The last is always 1:
    when cells are interpolated, what is beyond the rim counts as 0, and this says how much of that there is.
    """
    found = torch.empty(len(scenes), MEANT, rows, columns)
    for own, scene in zip(found, scenes, strict=True):
        x, y, nearest = around(scene, rows, columns)
        places = [(axis.gather(0, nearest.unsqueeze(0)) / REACH).clamp(-1, 1) + 1 for axis in (x, y)]
        kinds = torch.tensor([[float(thing.kind == kind) for kind in KINDS] for thing in scene.things])
        colours = torch.stack([BITS[thing.colour] / 2 + 0.5 for thing in scene.things])
        background = (BITS[scene.background] / 2 + 0.5).view(-1, 1, 1).expand(-1, rows, columns)
        framed = pad(nearest.float().view(1, 1, rows, columns), (1, 1, 1, 1), mode="replicate")
        between = max_pool2d(framed, 3, stride=1) != -max_pool2d(-framed, 3, stride=1)
        of_nearest = torch.cat([kinds, colours], dim=1)[nearest].permute(2, 0, 1)
        own.copy_(torch.cat([*places, of_nearest, background, between[0].float(), torch.ones(1, rows, columns)]))
    return found


def pixels(scenes: Sequence[Scene], rows: int, columns: int) -> Tensor:
    """Return the pictures of scenes, (scenes, 3, rows, columns) in pixels, in [-1, 1]."""
    return _paint(scenes, rows, columns, SEEN)

"""Reads a picture of coloured shapes back: its background, and each shape's colour, kind and place. No learned judge.

Every pixel gets the nearest of the twelve colours. The background is the commonest of them along the rim; what lies
well off it falls into connected regions. A region's kind follows from its outline: how far the outline is from the
centre in every direction, compared with the outlines of ideal shapes, drawn by other formulas than training uses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.builtin.language import RGB

Mask = NDArray[np.bool_]
Profile = NDArray[np.float64]
DIRECTIONS = 72  # in which an outline is measured
LARGEST_TURN = 4  # directions, 20 degrees: a shape may be turned so far
WORST_FIT = 0.11  # root mean square difference of outlines of mean radius 1 beyond which a region has no kind
SMALLEST_REGION = 0.003  # share of the picture
SMALLEST_HOLE = 0.08  # share of a region and its hole
OFF_BACKGROUND = 60.0  # distance in RGB from the background from which a pixel belongs to a shape
NAMES = tuple(RGB)
COLOUR_TABLE = np.array(list(RGB.values()), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A connected region; ``x`` and ``y`` run from -1 to 1 from the left and from the top, ``kind`` may be unknown."""

    colour: str
    kind: str | None
    x: float
    y: float
    share: float  # of the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a picture shows, its regions from the largest to the smallest."""

    background: str
    regions: tuple[Region, ...]


def read_picture(picture: NDArray[np.uint8]) -> Reading:
    """Read an RGB picture, (height, width, 3)."""
    height, width = picture.shape[:2]
    named = _nearest_names(picture)
    background, stands_out = _foreground(picture, named)
    regions = []
    for region in connected(stands_out):
        share = float(region.mean())
        if share < SMALLEST_REGION:
            continue
        inner = _shrunk(region)
        colour = NAMES[np.bincount(named[inner if inner.any() else region], minlength=len(NAMES)).argmax()]
        rows, columns = np.nonzero(region)
        regions.append(
            Region(
                colour=colour,
                kind=kind_of(region),
                x=float((columns.min() + columns.max() + 1) / width - 1),
                y=float((rows.min() + rows.max() + 1) / height - 1),
                share=share,
            )
        )
    return Reading(background=background, regions=tuple(sorted(regions, key=lambda region: -region.share)))


def foreground(picture: NDArray[np.uint8]) -> Mask:
    """Return the pixels of an RGB picture, (height, width, 3), that stand out from its background."""
    return _foreground(picture, _nearest_names(picture))[1]


def _foreground(picture: NDArray[np.uint8], named: NDArray[np.intp]) -> tuple[str, Mask]:
    height, width = picture.shape[:2]
    band = max(2, min(height, width) // 40)
    rim = np.ones((height, width), dtype=bool)
    rim[band:-band, band:-band] = False
    background = NAMES[np.bincount(named[rim], minlength=len(NAMES)).argmax()]
    ground = np.median(picture[rim & (named == NAMES.index(background))].astype(np.float64), axis=0)
    return background, np.linalg.norm(picture.astype(np.float64) - ground, axis=-1) > OFF_BACKGROUND


def _nearest_names(picture: NDArray[np.uint8]) -> NDArray[np.intp]:
    difference = picture.astype(np.float64)[:, :, None] - COLOUR_TABLE
    nearest: NDArray[np.intp] = np.square(difference).sum(axis=-1).argmin(axis=-1)
    return nearest


def _shrunk(mask: Mask) -> Mask:
    """Return the mask without its outermost two pixels, where colours mix."""
    for _ in range(2):
        padded = np.pad(mask, 1)
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


def connected(mask: Mask) -> list[Mask]:
    """Return the connected regions of a mask, by its runs: two runs touch if they overlap in neighbouring rows."""
    runs: list[tuple[int, int, int]] = []  # row, first column, column after the last
    parents: list[int] = []

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    above: list[int] = []
    for row, values in enumerate(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8)):
        edges = np.flatnonzero(np.diff(values))
        here = []
        for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            here.append(len(runs))
            parents.append(len(runs))
            runs.append((row, first, end))
            for other in above:
                if runs[other][1] < end and first < runs[other][2]:
                    parents[root(other)] = root(here[-1])
        above = here
    regions: dict[int, Mask] = {}
    for run, (row, first, end) in enumerate(runs):
        regions.setdefault(root(run), np.zeros(mask.shape, dtype=bool))[row, first:end] = True
    return list(regions.values())


def kind_of(region: Mask) -> str | None:
    """Name the shape of a region by its outline and its hole, or return None if it is none of the six."""
    filled = region.copy()
    for gap in connected(~np.pad(region, 1)):
        if not gap[0, 0]:
            filled |= gap[1:-1, 1:-1]
    hole = 1 - region.sum() / filled.sum()
    outline = _outline(filled)
    fits = {
        kind: min(
            float(np.sqrt(np.mean(np.square(np.roll(ideal, turn) - outline))))
            for turn in range(-LARGEST_TURN, LARGEST_TURN + 1)
        )
        for kind, ideal in IDEALS.items()
    }
    best = min(fits, key=lambda kind: fits[kind])
    if fits[best] > WORST_FIT:
        return None
    if hole > SMALLEST_HOLE:
        return "ring" if best == "circle" else None
    return best


def _outline(filled: Mask) -> Profile:
    """Return how far the outline is from the centre of mass in every direction, clockwise from the top, of mean 1."""
    rows, columns = np.nonzero(filled & ~_shrunk(filled))
    all_rows, all_columns = np.nonzero(filled)
    down, right = rows - all_rows.mean(), columns - all_columns.mean()
    bins = np.round(np.arctan2(right, -down) / (2 * math.pi) * DIRECTIONS).astype(int) % DIRECTIONS
    outline = np.zeros(DIRECTIONS)
    np.maximum.at(outline, bins, np.hypot(down, right))
    missing = outline == 0
    if missing.any() and not missing.all():
        outline[missing] = np.interp(
            np.flatnonzero(missing), np.flatnonzero(~missing), outline[~missing], period=DIRECTIONS
        )
    return outline / max(float(outline.mean()), 1e-9)


def _polygon(corners: Sequence[tuple[float, float]]) -> Profile:
    """Return the outline of a polygon of corners ``(x, y)``, y downwards, by filling it finely."""
    size = 400
    grid = (np.arange(size) + 0.5) / size * 2.4 - 1.2
    x, y = grid[None, :], grid[:, None]
    inside = np.zeros((size, size), dtype=bool)
    for (x_1, y_1), (x_2, y_2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if y_1 != y_2:  # even-odd rule: count the edges to the right
            inside ^= ((y_1 > y) != (y_2 > y)) & (x < (x_2 - x_1) * (y - y_1) / (y_2 - y_1) + x_1)
    return _outline(inside)


def _regular(corners: int, *, inner: float | None = None, turn: float = 0.0) -> list[tuple[float, float]]:
    count = corners * (1 if inner is None else 2)
    radii = [1.0 if inner is None or index % 2 == 0 else inner for index in range(count)]
    angles = [2 * math.pi * index / count + turn for index in range(count)]
    return [(r * math.sin(angle), -r * math.cos(angle)) for r, angle in zip(radii, angles, strict=True)]


def _heart() -> list[tuple[float, float]]:
    """Return the well-known heart curve (https://mathworld.wolfram.com/HeartCurve.html, the last one), made small."""
    angles = [2 * math.pi * index / 120 for index in range(120)]
    return [
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16,
        )
        for t in angles
    ]


IDEALS: dict[str, Profile] = {
    "circle": np.ones(DIRECTIONS),
    "square": _polygon(_regular(4, turn=math.pi / 4)),
    "triangle": _polygon(_regular(3)),
    "star": _polygon(_regular(5, inner=0.43)),
    "heart": _polygon(_heart()),
}

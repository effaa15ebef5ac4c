"""The reader that judges the built-in model's pictures, on pictures whose content is known."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageDraw

from models.builtin.check import CLIPS, cases, clip_cases, is_right_clip, judge
from models.builtin.language import COLOURS, KINDS, MOTIONS, RGB, ROUND, is_held_out
from models.builtin.reading import read_picture

if TYPE_CHECKING:
    from models.spec import Frames


def corners(kind: str) -> list[tuple[float, float]]:
    """Return the outline of a shape of radius 1, y downwards."""
    if kind == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if kind in ("triangle", "star"):
        points = 3 if kind == "triangle" else 10
        radii = [1.0 if kind == "triangle" or index % 2 == 0 else 0.4 for index in range(points)]
        angles = [2 * math.pi * index / points for index in range(points)]
        return [(r * math.sin(angle), -r * math.cos(angle)) for r, angle in zip(radii, angles, strict=True)]
    lobes = [math.pi * index / 30 for index in range(31)]
    left = [(-0.48 - 0.48 * math.cos(angle), -0.3 - 0.5 * math.sin(angle)) for angle in lobes]
    right = [(0.48 - 0.48 * math.cos(angle), -0.3 - 0.5 * math.sin(angle)) for angle in lobes]
    return [*left, *right, (0.0, 0.95)]


def paint(background: str, *things: tuple[str, str, float, float, float]) -> Frames:
    """Paint ``(kind, colour, x, y, radius)`` in pixels, four times too large and then shrunk for smooth edges."""
    image = Image.new("RGB", (1024, 1024), RGB[background])
    pencil = ImageDraw.Draw(image)
    for kind, colour, *numbers in things:
        x, y, radius = (4 * number for number in numbers)
        if kind in ("circle", "ring"):
            pencil.ellipse((x - radius, y - radius, x + radius, y + radius), RGB[colour])
        else:
            pencil.polygon([(x + radius * right, y + radius * down) for right, down in corners(kind)], RGB[colour])
        if kind == "ring":
            inner = 0.55 * radius
            pencil.ellipse((x - inner, y - inner, x + inner, y + inner), RGB[background])
    return np.asarray(image.resize((256, 256), Image.Resampling.BOX))


@pytest.mark.parametrize("radius", [20.0, 60.0, 100.0])
@pytest.mark.parametrize("kind", KINDS)
def test_each_shape_is_named_at_each_size(kind: str, radius: float) -> None:
    """The outline tells the kind, however large the shape."""
    (region,) = read_picture(paint("white", (kind, "blue", 120, 130, radius))).regions
    assert (region.kind, region.colour) == (kind, "blue")


@pytest.mark.parametrize("colour", COLOURS)
def test_each_colour_is_named_as_shape_and_as_background(colour: str) -> None:
    """No colour is taken for another, whichever it lies beside."""
    for other in COLOURS:
        if other != colour:
            reading = read_picture(paint(other, ("circle", colour, 128, 128, 50)))
            assert reading.background == other
            assert [region.colour for region in reading.regions] == [colour]


def test_two_shapes_are_two_regions_with_their_places() -> None:
    """Regions come with their middle, from -1 on the left or at the top to 1."""
    reading = read_picture(paint("grey", ("star", "red", 64, 64, 40), ("heart", "green", 192, 160, 30)))
    assert [(region.kind, region.colour) for region in reading.regions] == [("star", "red"), ("heart", "green")]
    assert reading.regions[0].x == pytest.approx(-0.5, abs=0.05)
    assert reading.regions[1].x == pytest.approx(0.5, abs=0.05)


def test_a_blot_has_no_kind() -> None:
    """What is like none of the six shapes is not forced to be one of them."""
    picture = paint("white").copy()
    picture[120:130, 20:240] = RGB["red"]
    (region,) = read_picture(picture).regions
    assert region.kind is None


def test_noise_is_no_shape() -> None:
    """A model of random weights does not pass."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    verdict = judge(cases(1)[0], read_picture(noise))
    assert not verdict.shape
    assert not verdict.colour


def test_a_right_picture_passes_and_one_with_a_stray_region_does_not() -> None:
    """One shape too many is wrong: the prompt did not ask for it."""
    case = cases(1)[0]
    ((kind, colour),) = case.things
    right = judge(case, read_picture(paint(case.background, (kind, colour, 100, 128, 40))))
    assert right.colour
    assert right.background
    assert right.shape
    extra = judge(case, read_picture(paint(case.background, (kind, colour, 80, 128, 40), (kind, colour, 200, 128, 30))))
    assert not extra.shape


def test_a_wrong_colour_and_a_wrong_background_are_noticed() -> None:
    """Colour and background are judged apart from the shape."""
    case = cases(1)[0]
    ((kind, colour),) = case.things
    other, ground = [name for name in ("red", "green", "blue", "white") if name not in (colour, case.background)][:2]
    verdict = judge(case, read_picture(paint(ground, (kind, other, 128, 128, 40))))
    assert verdict.shape
    assert not verdict.colour
    assert not verdict.background


def test_the_prompts_are_held_out_and_always_the_same() -> None:
    """The check measures combinations that training never showed, and two runs measure the same ones."""
    wanted = cases(200)
    assert wanted == cases(200)
    assert all(is_held_out(kind, colour, case.background) for case in wanted for kind, colour in case.things)
    assert len({case.seed for case in wanted}) == 200


def test_prompts_of_clips_are_held_out_and_cover_every_motion() -> None:
    """As often each, and nothing round spins."""
    wanted = clip_cases(CLIPS)
    assert wanted == clip_cases(CLIPS)
    assert Counter(case.motion for case in wanted) == dict.fromkeys(MOTIONS, CLIPS // len(MOTIONS))
    for case in wanted:
        ((kind, colour),) = case.things
        assert is_held_out(kind, colour, case.background)
        assert case.motion != "spinning" or kind not in ROUND


def test_a_clip_passes_by_its_motion_and_by_what_moves() -> None:
    """Standing still, moving elsewhere, and another shape do not."""
    case = next(case for case in clip_cases(CLIPS) if case.motion == "moving right")
    ((kind, colour),) = case.things
    other = "square" if kind != "square" else "heart"

    def clip(kind: str, *places: float) -> Frames:
        return np.stack([paint(case.background, (kind, colour, x, 128, 40)) for x in places])

    assert is_right_clip(case, clip(kind, 80, 130, 180))
    assert not is_right_clip(case, clip(kind, 130, 130, 130))
    assert not is_right_clip(case, clip(kind, 180, 130, 80))
    assert not is_right_clip(case, clip(other, 80, 130, 180))

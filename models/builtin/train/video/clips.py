"""Random clips of one moving shape, and the prompts that describe them. Pure: standard library only.

Lengths are as in ``models.builtin.train.scenes``; pictures are square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from models.builtin.language import COLOURS, KINDS, is_held_out
from models.builtin.train.scenes import Scene, Thing

FRAMES = 17
LAST = FRAMES - 1
PATH = 1.0  # how far a thing moves in a clip: one latent pixel of a picture of 256 pixels for each frame
RADII = (0.3, 0.34)  # of a thing that moves
SMALL, BIG = 0.22, 0.62  # radii before and after growing
SPUN = 2 * math.pi / 3  # radians in a clip
DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}
MOTIONS = (*(f"moving {way}" for way in DIRECTIONS), "growing", "shrinking", "spinning")
GRID = 1 / 8
WIDEST = 0.96  # nothing is drawn beyond this share of the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """What a prompt says, frame by frame."""

    prompt: str
    frames: tuple[Scene, ...]


def draw_clip(random: Random, frames: int = FRAMES) -> Clip:
    """Draw a clip at random; one combination of shape, colour and background of eleven never comes up."""
    while True:
        kind, (colour, background) = random.choice(KINDS), random.sample(COLOURS, 2)
        if not is_held_out(kind, colour, background):
            break
    motion = random.choice(MOTIONS)
    prompt = f"{kind} {motion}"
    if random.random() < 0.95:
        prompt = f"{colour} {prompt}"
    article = "an" if prompt[0] in "aeiou" else "a"
    prompt = f"{article} {prompt} on {'an' if background[0] in 'aeiou' else 'a'} {background} background"
    places = _places(random, motion, frames)
    return Clip(
        prompt=prompt,
        frames=tuple(
            Scene(
                prompt=prompt,
                background=background,
                things=(Thing(kind=kind, colour=colour, x=x, y=y, radius=radius, turn=turn),),
            )
            for x, y, radius, turn in places
        ),
    )


def _places(random: Random, motion: str, frames: int) -> list[tuple[float, float, float, float]]:
    """Return x, y, radius and turn for each frame."""
    shares = [frame / LAST for frame in range(frames)]
    way = DIRECTIONS.get(motion.removeprefix("moving "))
    if way is not None:
        radius = random.choice(RADII)
        along, aside = _on_grid(random, radius + PATH / 2), _on_grid(random, radius)
        right, down = way
        middle = (along, aside) if right else (aside, along)
        return [
            (
                middle[0] + right * PATH * (share - 0.5),
                middle[1] + down * PATH * (share - 0.5),
                radius,
                0.0,
            )
            for share in shares
        ]
    if motion == "spinning":
        radius = random.choice((0.5, 0.56))
        x, y = _on_grid(random, radius), _on_grid(random, radius)
        return [(x, y, radius, SPUN * share) for share in shares]
    x, y = _on_grid(random, BIG), _on_grid(random, BIG)
    return [(x, y, SMALL + (BIG - SMALL) * (share if motion == "growing" else 1 - share), 0.0) for share in shares]


def _on_grid(random: Random, reach: float) -> float:
    """Return a coordinate from which nothing reaches beyond the picture."""
    most = math.floor((WIDEST - reach) / GRID)
    return random.randint(-most, most) * GRID

"""Random clips of one moving shape, and the prompts that describe them. Pure: standard library only.

Lengths are as in ``models.builtin.train.scenes``; pictures are square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from models.builtin.language import COLOURS, FRAMES, KINDS, MOTIONS, ROUND, is_held_out
from models.builtin.train.scenes import Scene, Thing

LAST = FRAMES - 1
PATH = 0.8  # how far a thing moves in a clip
MOVING = (0.3, 0.36)  # radii of a thing that moves
SPINNING = (0.52, 0.6)
SMALL, BIG = 0.25, 0.7  # radii before and after growing
SPUN = 2 * math.pi / 3  # radians in a clip
ASIDE = 0.15  # how far from the middle of the picture the middle of a clip may be
DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """What a prompt says, frame by frame."""

    prompt: str
    frames: tuple[Scene, ...]


def draw_clip(random: Random) -> Clip:
    """Draw a clip at random; one combination of shape, colour and background of eleven never comes up."""
    while True:
        kind, (colour, background) = random.choice(KINDS), random.sample(COLOURS, 2)
        background_said = random.random() < 0.85
        if not background_said and colour != "white" and random.random() < 0.7:
            background = "white"  # the default of a prompt that names none
        if not is_held_out(kind, colour, background):
            break
    motion = random.choice([motion for motion in MOTIONS if motion != "spinning" or kind not in ROUND])
    noun = kind if random.random() < 0.96 else "shape"
    parts = [_with_article(f"{colour} {noun}" if random.random() < 0.94 else noun)]
    parts += [motion] if random.random() < 0.94 else []
    parts += [f"on {_with_article(background)} background"] if background_said else []
    frames = [
        Scene(
            prompt=" ".join(parts),
            background=background,
            things=(Thing(kind=kind, colour=colour, x=x, y=y, radius=radius, turn=turn),),
        )
        for x, y, radius, turn in _places(random, motion)
    ]
    return Clip(prompt=" ".join(parts), frames=tuple(frames))


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _places(random: Random, motion: str) -> list[tuple[float, float, float, float]]:
    """Return x, y, radius and turn for each frame."""
    shares = [frame / LAST for frame in range(FRAMES)]
    x, y = random.uniform(-ASIDE, ASIDE), random.uniform(-ASIDE, ASIDE)
    if motion == "spinning":
        radius = random.uniform(*SPINNING)
        return [(x, y, radius, SPUN * share) for share in shares]
    if motion in ("growing", "shrinking"):
        grown = shares if motion == "growing" else shares[::-1]
        return [(x, y, SMALL + (BIG - SMALL) * share, 0.0) for share in grown]
    radius = random.uniform(*MOVING)
    right, down = DIRECTIONS[motion.removeprefix("moving ")]
    return [(x + right * PATH * (share - 0.5), y + down * PATH * (share - 0.5), radius, 0.0) for share in shares]

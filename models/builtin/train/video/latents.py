"""What the latents of a clip say: background, colour and kind in bits, and where the thing is in each group of frames.

A latent pixel is a picture, and a latent frame a group of four frames, but for the first, which stands for one. The
place of a thing is told as the numbers by which a picture's point (X, Y) becomes a point (U, V) of the thing, in radii
from its middle and turned back with it:

    U = A * X + B * Y + C,    V = -B * X + A * Y + D

for the first and the last frame of the group; what lies between is drawn between. All latents lie in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from models.builtin.language import FRAMES
from models.builtin.train.draw import BITS, KIND_BITS
from models.builtin.train.scenes import Scene, Thing
from models.builtin.train.video.clips import Clip

CELL = 256  # pixels to a latent pixel, each way
GROUP = 4  # frames to a latent frame
GROUPS = 1 + (FRAMES - 1) // GROUP  # latent frames of a clip
BACKGROUND, COLOUR, KIND = slice(0, 4), slice(4, 8), slice(8, 12)
WORDS = KIND.stop  # bits
FIRST, LAST = slice(12, 16), slice(16, 20)  # A, B, C and D of the first and of the last frame of a group
CHANNELS = LAST.stop
SCALE = torch.tensor([2.5, 0.96, 2.0, 2.0])  # of A, B, C and D, so that they lie in [-1, 1]
OFFSET = torch.tensor([1.5, 0.96, 0.0, 0.0])


def placed(thing: Thing) -> tuple[float, float, float, float]:
    """Return A, B, C and D of a thing."""
    a, b = math.cos(thing.turn) / thing.radius, math.sin(thing.turn) / thing.radius
    return a, b, -(a * thing.x + b * thing.y), b * thing.x - a * thing.y


def words_of(scene: Scene) -> Tensor:
    """Return the bits of background, colour and kind, (WORDS,)."""
    [thing] = scene.things
    return torch.cat([BITS[scene.background], BITS[thing.colour], KIND_BITS[thing.kind]])


def latents(clips: Sequence[Clip]) -> Tensor:
    """Return the latents of clips, (clips, CHANNELS, GROUPS, 1, 1)."""
    told = [(0, 0), *((1 + GROUP * group, GROUP * (group + 1)) for group in range(GROUPS - 1))]
    found = []
    for clip in clips:
        places = [[placed(clip.frames[frame].things[0]) for frame in pair] for pair in told]
        numbers = (torch.tensor(places) - OFFSET) / SCALE  # (GROUPS, 2, 4)
        found.append(torch.cat([words_of(clip.frames[0]).expand(GROUPS, -1), numbers.flatten(1)], dim=1).T)
    return torch.stack(found).view(len(clips), CHANNELS, GROUPS, 1, 1)

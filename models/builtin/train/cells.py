"""What the part of the decoder that works on cells learns from: latents that are a little wrong, and what they mean.

Half of the latents are disturbed on purpose, half were drawn anew by the trained network. Scenes are mirrored at
random: no shape minds.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import CLIPTokenizer

from models.builtin.train.draw import BETWEEN, CHANNELS, MARKS, MEANT, PLACE, REACH, SIDE, latents, meaning
from models.builtin.train.network import Network
from models.builtin.train.redraw import redrawn
from models.builtin.train.scenes import Scene, draw_scene

BATCH = 32
REDRAWN = 1000  # scenes that the network draws anew, over and over again
AT_ONCE = 20  # of these
STRONGEST_NOISE = 0.4  # standard deviation, in latents of which each is about +1 or -1, in every cell for itself
STRONGEST_DRIFT = 0.4  # the same of what is alike in cells near each other
WAVE = 4  # cells from one drift to the next
STEEPEST = 1.4  # times: guidance makes slopes steeper
FAINTEST = 0.6  # times: what diffusion is not sure of does not come to +1 or -1
NEAR, NEAR_WEIGHT = 1.35, 3.0  # radii from the middle of a thing, and what a cell there counts against 1 elsewhere
PLACE_WEIGHT = 3.0  # of places, which must be right to a pixel; colours and kinds only to the nearest
BETWEEN_WEIGHT = 3.0  # of what is seldom so


class CellExamples:
    """Draws examples without end."""

    def __init__(self, network: Network, words: CLIPTokenizer, *, seed: int) -> None:
        self._random, self._generator = Random(seed), torch.Generator().manual_seed(seed)
        rounds = range(REDRAWN // AT_ONCE)
        self._pool = [pair for _ in rounds for pair in redrawn(network, words, random=self._random, count=AT_ONCE)]

    def loss(self, cells: nn.Module) -> Tensor:
        """Return how far ``cells`` is from the meaning of the next batch, cells about a thing first of all."""
        given, wanted = self._batch()
        place, rest = slice(0, 2), slice(2, BETWEEN)
        apart = cells(bounded(given))[:, :MEANT] - wanted
        rare = apart[:, BETWEEN:].square()  # what is mostly 0 has the median 0: there its layer would die
        apart = torch.cat([PLACE_WEIGHT * apart[:, place].abs(), apart[:, rest].abs(), BETWEEN_WEIGHT * rare], dim=1)
        near = (wanted[:, :2] - 1).abs().amax(dim=1, keepdim=True) * REACH < NEAR
        return (apart * (1 + (NEAR_WEIGHT - 1) * near)).mean()

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Return latents, (BATCH, CHANNELS, SIDE, SIDE), and what they should mean, (BATCH, MEANT, SIDE, SIDE)."""
        random = self._random
        scenes = [draw_scene(random, 1.0, 1.0) for _ in range(BATCH // 2)]
        given = [*disturbed(latents(scenes, SIDE, SIDE), self._generator)]
        for scene, found in random.sample(self._pool, BATCH - len(scenes)):
            mirrored = random.random() < 0.5
            scenes.append(mirrored_scene(scene) if mirrored else scene)
            given.append(mirrored_latents(found) if mirrored else found)
        return torch.stack(given), meaning(scenes, SIDE, SIDE)


def bounded(given: Tensor) -> Tensor:
    """Return latents as ``DecoderTiny.forward`` gives them to its layers."""
    return torch.tanh(given / 3) * 3


def mirrored_scene(scene: Scene) -> Scene:
    """Return the scene in a mirror. Its prompt is still the old one."""
    return replace(scene, things=tuple(replace(thing, x=-thing.x) for thing in scene.things))


def mirrored_latents(found: Tensor) -> Tensor:
    """Return the latents, (CHANNELS, SIDE, SIDE), of the scene in a mirror: what was left of an end is right of it."""
    found = found.flip(-1)
    across = slice(PLACE.start, PLACE.start + len(MARKS))
    found[across] = -found[across].flip(0)
    return found


def disturbed(clean: Tensor, generator: torch.Generator) -> Tensor:
    """Return latents as diffusion might leave them: too steep or too faint, cells that disagree, alone or nearby."""
    count = len(clean)

    def strength(most: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=generator) ** 2 * most

    given = clean.clone()
    given[:, PLACE] *= 1 + strength(STEEPEST - 1)
    given = given.clamp(-1, 1) * (1 - strength(1 - FAINTEST))
    waves = torch.randn(count, CHANNELS, SIDE // WAVE, SIDE // WAVE, generator=generator)
    drift = interpolate(waves, size=(SIDE, SIDE), mode="bicubic")
    noise = torch.randn(given.shape, generator=generator)
    return (given + strength(STRONGEST_DRIFT) * drift + strength(STRONGEST_NOISE) * noise).clamp(-1, 1)

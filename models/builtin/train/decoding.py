"""Trains the decoder: latents that are a little wrong, as diffusion leaves them, to clean pictures with sharp edges.

Half of them are disturbed on purpose, half were drawn anew by the trained network. Pictures are mirrored at random: no
shape minds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad
from transformers import CLIPTokenizer

from models.builtin.train.clock import Clock
from models.builtin.train.draw import CELL, CHANNELS, MARKS, PLACE, latents, pixels
from models.builtin.train.network import Network
from models.builtin.train.redraw import SIDE, redrawn
from models.builtin.train.scenes import Scene, draw_scene

PEAK_RATE = 2e-3
BATCH = 8
REDRAWN = 1000  # scenes that the network draws anew, over and over again
AT_ONCE = 20  # of these
UNIT = 4  # pixels to a point of the features that are cropped: what comes after them costs most, and looks least around
CROP = 24  # units, of a picture of 64
AROUND = 4  # units at the rim of a crop whose decoding lacks its surroundings, so they do not count
STRONGEST_NOISE = 0.4  # standard deviation, in latents of which each is about +1 or -1, in every cell for itself
STRONGEST_DRIFT = 0.4  # the same of what is alike in cells near each other
WAVE = 4  # cells from one drift to the next
STEEPEST = 1.6  # times: guidance makes slopes steeper
FAINTEST = 0.5  # times: what diffusion is not sure of does not come to +1 or -1
EDGE_WEIGHT = 4.0  # of a pixel near an edge, against 1
NEAR = 3  # pixels


def train_decoder(
    vae: AutoencoderTiny,
    network: Network,
    words: CLIPTokenizer,
    *,
    seed: int,
    seconds: float,
    report: Callable[[int, float, float], None],
) -> None:
    """Train the decoder of ``vae`` for the given time; ``report(step, seconds, loss)`` now and then."""
    torch.manual_seed(seed)
    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    pool = [pair for _ in range(REDRAWN // AT_ONCE) for pair in redrawn(network, words, random=random, count=AT_ONCE)]
    wide, close = _halves(vae)

    def loss(_: float) -> Tensor:
        given, wanted, counts, corners = _batch(random, generator, pool)
        features = wide(torch.tanh(given / 3) * 3)  # as DecoderTiny.forward begins
        windows = [
            own[:, top : top + CROP, left : left + CROP] for own, (top, left) in zip(features, corners, strict=True)
        ]
        drawn = close(torch.stack(windows)) * 2 - 1  # and as it ends
        return difference(drawn, wanted, counts)

    descend([*vae.decoder.parameters()], loss, seconds=seconds, report=report)


def descend(
    parameters: Sequence[Tensor],
    loss_of: Callable[[float], Tensor],
    *,
    seconds: float,
    report: Callable[[int, float, float], None],
) -> None:
    """Change parameters for the given time, so that a loss becomes less; it is told the share of the time spent."""
    optimiser = torch.optim.AdamW(parameters, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    clock, step, mean = Clock(), 0, math.nan
    while (spent := clock.tick()) < seconds:
        loss = loss_of(spent / seconds)
        torch.autograd.backward(loss)
        rate = min(1.0, (step + 1) / 50) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * spent / seconds)))
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * rate
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        mean = float(loss.detach()) if math.isnan(mean) else 0.98 * mean + 0.02 * float(loss.detach())
        if step % 50 == 0:
            report(step, spent, mean)


def difference(drawn: Tensor, wanted: Tensor, counts: Tensor) -> Tensor:
    """Return the mean absolute difference of pictures, (pictures, 3, ...), each pixel as often as it counts."""
    return ((drawn - wanted).abs() * counts).sum() / (3 * counts.sum())


def _halves(vae: AutoencoderTiny) -> tuple[nn.Sequential, nn.Sequential]:
    """Split the decoder where a point is ``UNIT`` pixels, before it is made finer."""
    layers = vae.decoder.layers
    finer = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Upsample)]
    first = finer[int(math.log2(CELL // UNIT))]
    return layers[:first], layers[first:]


def _batch(
    random: Random, generator: torch.Generator, pool: Sequence[tuple[Scene, Tensor]]
) -> tuple[Tensor, Tensor, Tensor, list[tuple[int, int]]]:
    """Return latents of whole pictures, crops of these, weights of their pixels, and where they are cut out.

    The latents are (BATCH, CHANNELS, SIDE, SIDE), the crops (BATCH, 3, rows, columns) in pixels, the corners their top
    and left in units. The weights, (BATCH, 1, rows, columns), are 0 where a pixel's surroundings are not all in the
    crop. At the edge of the whole picture they are: there is nothing beyond, neither here nor later. That edge and
    those between colours weigh more than the plain inside, which is most of a picture and soon right.
    """
    fresh = [draw_scene(random, 1.0, 1.0) for _ in range(BATCH // 2)]
    given = [*_disturbed(latents(fresh, SIDE, SIDE), generator)]
    scenes = [*fresh]
    for scene, found in random.sample(pool, BATCH - len(fresh)):
        mirrored = random.random() < 0.5
        scenes.append(_mirrored_scene(scene) if mirrored else scene)
        given.append(_mirrored(found) if mirrored else found)
    shown = pixels(scenes, SIDE * CELL, SIDE * CELL)
    wanted, corners = [], []
    counts = torch.ones(BATCH, 1, CROP * UNIT, CROP * UNIT)
    side, rim = SIDE * CELL // UNIT, AROUND * UNIT
    for index, scene in enumerate(scenes):
        thing = random.choice(scene.things)  # crops lie about a thing: plain background teaches little
        top, left = (_corner(random, centre, thing.radius, side) for centre in (thing.y, thing.x))
        corners.append((top, left))
        rows, columns = (slice(first * UNIT, (first + CROP) * UNIT) for first in (top, left))
        wanted.append(shown[index, :, rows, columns])
        for axis, first in ((1, top), (2, left)):
            if first > 0:
                counts[index].narrow(axis, 0, rim).zero_()
            if first < side - CROP:
                counts[index].narrow(axis, CROP * UNIT - rim, rim).zero_()
    pictures = torch.stack(wanted)
    return torch.stack(given), pictures, counts * edges(pictures), corners


def _mirrored_scene(scene: Scene) -> Scene:
    return replace(scene, things=tuple(replace(thing, x=-thing.x) for thing in scene.things))


def _mirrored(found: Tensor) -> Tensor:
    """Return the latents, (CHANNELS, SIDE, SIDE), of the scene in a mirror: what was left of an end is right of it."""
    found = found.flip(-1)
    across = slice(PLACE.start, PLACE.start + len(MARKS))
    found[across] = -found[across].flip(0)
    return found


def _disturbed(clean: Tensor, generator: torch.Generator) -> Tensor:
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


def edges(pictures: Tensor) -> Tensor:
    """Return ``EDGE_WEIGHT`` where a pixel differs from its surroundings, and 1 elsewhere; no colour is as beyond."""
    framed = pad(pictures, (NEAR, NEAR, NEAR, NEAR), value=3.0)
    around = avg_pool2d(framed, 2 * NEAR + 1, stride=1)
    return 1 + (EDGE_WEIGHT - 1) * ((pictures - around).abs().amax(dim=1, keepdim=True) > 0.05).float()


def _corner(random: Random, centre: float, radius: float, side: int) -> int:
    """Return the first row or column, in units, of a crop about some point of a thing; some lie at the edge."""
    if random.random() < 0.15:
        return random.choice((0, side - CROP))
    middle = (centre + random.uniform(-1, 1) * radius + 1) / 2 * side
    return max(0, min(side - CROP, round(middle - CROP / 2)))

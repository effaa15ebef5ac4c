"""Trains the decoder: latents that are a little wrong, as diffusion leaves them, to clean pictures with sharp edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad, pixel_unshuffle

from models.builtin.train.clock import Clock
from models.builtin.train.draw import CELL, QUARTERS, paint_bits, pixels
from models.builtin.train.scenes import draw_scene

PEAK_RATE = 2e-3
BATCH = 5
CROP = 8  # cells, of a picture of 16; the rest only costs time
SIDE = 16  # cells
STRONGEST_NOISE = 0.4  # standard deviation, in latents of which each is about +1 or -1
MOST_ROUNDED = 0.8  # standard deviation of what rounds corners off, in quarters of a cell
AROUND = 1  # cell at the rim of a crop whose decoding lacks its surroundings, so it does not count
EDGE_WEIGHT = 4.0  # of a pixel near an edge, against 1
NEAR = 3  # pixels


def train_decoder(
    vae: AutoencoderTiny, *, seed: int, seconds: float, report: Callable[[int, float, float], None]
) -> None:
    """Train the decoder of ``vae`` for the given time; ``report(step, seconds, loss)`` now and then."""
    torch.manual_seed(seed)
    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(vae.decoder.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    clock, step, mean = Clock(), 0, math.nan
    while (spent := clock.tick()) < seconds:
        for group in optimiser.param_groups:
            rise = min(1.0, (step + 1) / 50)
            group["lr"] = PEAK_RATE * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * spent / seconds)))
        given, wanted, counts = _batch(random, generator)
        loss = ((vae.decode(given).sample - wanted).abs() * counts).sum() / (3 * counts.sum())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.decoder.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        mean = float(loss.detach()) if math.isnan(mean) else 0.98 * mean + 0.02 * float(loss.detach())
        if step % 50 == 0:
            report(step, spent, mean)


def _batch(random: Random, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return disturbed latents, (BATCH, CHANNELS, CROP, CROP), the pictures they stand for, and weights.

    The weights, (BATCH, 1, rows, columns) in pixels, are 0 where a pixel's surroundings are not all in the crop. At the
    edge of the whole picture they are: there is nothing beyond, neither here nor later. That edge and those between
    colours weigh more than the plain inside, which is most of a picture and soon right.
    """
    scenes = [draw_scene(random, 1.0, 1.0) for _ in range(BATCH)]
    fine, shown = paint_bits(scenes, SIDE * CELL, SIDE * CELL), pixels(scenes, SIDE * CELL, SIDE * CELL)
    quarters = avg_pool2d(fine, CELL // QUARTERS)
    clean = pixel_unshuffle(torch.cat([_rounded(random, one) for one in torch.split(quarters, 1)]), QUARTERS)
    given, wanted = [], []
    counts = torch.ones(BATCH, 1, CROP * CELL, CROP * CELL)
    for index, scene in enumerate(scenes):
        thing = random.choice(scene.things)  # crops lie about a thing: plain background teaches little
        top, left = (_corner(random, centre, thing.radius) for centre in (thing.y, thing.x))
        given.append(clean[index, :, top : top + CROP, left : left + CROP])
        wanted.append(shown[index, :, top * CELL : (top + CROP) * CELL, left * CELL : (left + CROP) * CELL])
        rim = AROUND * CELL
        for axis, first in ((1, top), (2, left)):
            if first > 0:
                counts[index].narrow(axis, 0, rim).zero_()
            if first < SIDE - CROP:
                counts[index].narrow(axis, CROP * CELL - rim, rim).zero_()
    latent = torch.stack(given)
    strength = torch.rand(BATCH, 1, 1, 1, generator=generator) ** 2 * STRONGEST_NOISE
    disturbed = latent + strength * torch.randn(latent.shape, generator=generator)
    return disturbed.clamp(-1, 1), torch.stack(wanted), counts * _weights(torch.stack(wanted))


def _rounded(random: Random, bits: Tensor) -> Tensor:
    """Return a picture's bits in quarters, (1, 4, rows, columns), often with corners as diffusion rounds them off."""
    if random.random() < 0.33:
        return bits
    spread = random.uniform(0.4, MOST_ROUNDED)
    kernel = torch.exp(-torch.arange(-3.0, 4.0).square() / (2 * spread**2))
    kernel /= kernel.sum()
    soft = pad(bits, (3, 3, 3, 3), mode="replicate").transpose(0, 1)
    soft = conv2d(conv2d(soft, kernel.view(1, 1, 7, 1)), kernel.view(1, 1, 1, 7)).transpose(0, 1)
    return (random.uniform(1.0, 4.0) * soft).clamp(-1, 1)


def _weights(pictures: Tensor) -> Tensor:
    """Return ``EDGE_WEIGHT`` where a pixel differs from its surroundings, and 1 elsewhere; no colour is as beyond."""
    framed = pad(pictures, (NEAR, NEAR, NEAR, NEAR), value=3.0)
    around = avg_pool2d(framed, 2 * NEAR + 1, stride=1)
    return 1 + (EDGE_WEIGHT - 1) * ((pictures - around).abs().amax(dim=1, keepdim=True) > 0.05).float()


def _corner(random: Random, centre: float, radius: float) -> int:
    """Return the first row or column, in cells, of a crop about some point of a thing; some lie at the edge."""
    if random.random() < 0.33:
        return random.choice((0, SIDE - CROP))
    middle = (centre + random.uniform(-1, 1) * radius + 1) / 2 * SIDE
    return max(0, min(SIDE - CROP, round(middle - CROP / 2)))

"""Trains the decoder of videos: latents that are a little wrong, as the transformer leaves them, to clean frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from models.builtin.train.clock import Clock
from models.builtin.train.decoding import STRONGEST_NOISE, edges, rounded
from models.builtin.train.draw import pixels
from models.builtin.train.video.clips import FRAMES, draw_clip
from models.builtin.train.video.flow import SIDE
from models.builtin.train.video.network import CELL, bits_of, grouped

PEAK_RATE = 2e-3
BATCH = 4  # more than one: torch has no fast 3D convolution for a single small clip
SEEN = 9  # frames of 17: what is decoded depends on few that are past
CROP = 16  # latent pixels, of a picture of 32
AROUND = 3  # latent pixels at the rim of a crop whose decoding lacks their surroundings


def train_decoder(
    vae: AutoencoderKLWan, *, seed: int, seconds: float, report: Callable[[int, float, float], None]
) -> None:
    """Train the decoder of ``vae`` for the given time; ``report(step, seconds, loss)`` now and then."""
    torch.manual_seed(seed)
    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    whole = (*vae.post_quant_conv.parameters(), *vae.decoder.parameters())
    trained = [parameter for parameter in whole if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    clock, step, mean = Clock(), 0, math.nan
    while (spent := clock.tick()) < seconds:
        for group in optimiser.param_groups:
            rise = min(1.0, (step + 1) / 50)
            group["lr"] = PEAK_RATE * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * spent / seconds)))
        given, wanted, counts = _batch(random, generator)
        loss = ((vae.decode(given).sample - wanted).abs() * counts).sum() / (3 * counts.sum())
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        mean = float(loss.detach()) if math.isnan(mean) else 0.98 * mean + 0.02 * float(loss.detach())
        if step % 25 == 0:
            report(step, spent, mean)


def _batch(random: Random, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return crops of disturbed latents, (BATCH, channels, latent frames, CROP, CROP), their frames and weights.

    A weight is 0 where not all that a pixel depends on is in the crop, but for the edge of the whole picture.
    """
    given, wanted, counts = [], [], []
    for _ in range(BATCH):
        clip, began = draw_clip(random), random.randint(0, FRAMES - SEEN)
        clip = replace(clip, frames=clip.frames[began : began + SEEN])
        clean = grouped(rounded(random, bits_of([clip], SIDE)))
        frames = pixels(clip.frames, SIDE * CELL, SIDE * CELL)
        inner = torch.ones(1, 1, CROP * CELL, CROP * CELL)
        thing = random.choice(clip.frames).things[0]
        for axis, centre in ((2, thing.y), (3, thing.x)):
            first = max(0, min(SIDE - CROP, round(((centre + random.uniform(-0.4, 0.4)) + 1) / 2 * SIDE - CROP / 2)))
            clean = clean.narrow(axis + 1, first, CROP)
            frames = frames.narrow(axis, first * CELL, CROP * CELL)
            if first > 0:
                inner.narrow(axis, 0, AROUND * CELL).zero_()
            if first < SIDE - CROP:
                inner.narrow(axis, (CROP - AROUND) * CELL, AROUND * CELL).zero_()
        strength = random.random() ** 2 * STRONGEST_NOISE
        given.append((clean + strength * torch.randn(clean.shape, generator=generator)).clamp(-1, 1))
        wanted.append(frames.transpose(0, 1))
        counts.append((edges(frames) * inner).transpose(0, 1))
    return torch.cat(given), torch.stack(wanted), torch.stack(counts)

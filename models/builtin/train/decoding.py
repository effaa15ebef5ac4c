"""Trains the decoder: latents that are a little wrong, as diffusion leaves them, to clean pictures with sharp edges."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from random import Random

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from models.builtin.train.draw import CELL, paint_bits, pixels
from models.builtin.train.network import decoder
from models.builtin.train.scenes import draw_scene

PEAK_RATE = 3e-3
BATCH = 12
CROP = 10  # cells, of a picture of 32; the rest only costs time
SIDE = 32  # cells
AROUND = 2  # cells at the rim of a crop whose decoding lacks its surroundings, so it does not count


def train_decoder(*, seed: int, seconds: float, report: Callable[[int, float, float], None]) -> AutoencoderTiny:
    """Train for the given time and return the autoencoder; ``report(step, seconds, loss)`` now and then."""
    torch.manual_seed(seed)
    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    vae = decoder()
    optimiser = torch.optim.AdamW(vae.decoder.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    began, step, mean = time.monotonic(), 0, math.nan
    while (spent := time.monotonic() - began) < seconds:
        for group in optimiser.param_groups:
            rise = min(1.0, (step + 1) / 50)
            group["lr"] = PEAK_RATE * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * spent / seconds)))
        given, wanted = _batch(random, generator)
        rim = slice(AROUND * CELL, -AROUND * CELL)
        shown = vae.decode(given).sample
        loss = (shown - wanted)[..., rim, rim].abs().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.decoder.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        mean = float(loss.detach()) if math.isnan(mean) else 0.98 * mean + 0.02 * float(loss.detach())
        if step % 50 == 0:
            report(step, spent, mean)
    return vae.eval()


def _batch(random: Random, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return disturbed latents, (BATCH, 4, CROP, CROP), and the pictures they stand for, eight times as wide."""
    scenes = [draw_scene(random, 1.0, 1.0) for _ in range(BATCH)]
    fine, shown = paint_bits(scenes, SIDE * CELL, SIDE * CELL), pixels(scenes, SIDE * CELL, SIDE * CELL)
    clean = torch.nn.functional.avg_pool2d(fine, CELL)
    given, wanted = [], []
    for index, scene in enumerate(scenes):
        thing = random.choice(scene.things)  # crops lie about a thing: plain background teaches little
        corner = []
        for centre in (thing.y, thing.x):
            middle = (centre + random.uniform(-1, 1) * thing.radius + 1) / 2 * SIDE
            corner.append(max(0, min(SIDE - CROP, round(middle - CROP / 2))))
        top, left = corner
        given.append(clean[index, :, top : top + CROP, left : left + CROP])
        wanted.append(shown[index, :, top * CELL : (top + CROP) * CELL, left * CELL : (left + CROP) * CELL])
    latent = torch.stack(given)
    strength = torch.rand(BATCH, 1, 1, 1, generator=generator) * 0.15
    disturbed = latent + strength * torch.randn(latent.shape, generator=generator)
    return disturbed.clamp(-1, 1), torch.stack(wanted)

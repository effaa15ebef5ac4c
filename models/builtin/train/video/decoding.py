"""Trains the decoder of videos: latents that are a little wrong, as the transformer leaves them, to clean frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from torch.nn.functional import interpolate

from models.builtin.train.decoding import (
    FAINTEST,
    STEEPEST,
    STRONGEST_DRIFT,
    STRONGEST_NOISE,
    descend,
    difference,
    edges,
)
from models.builtin.train.draw import pixels
from models.builtin.train.video.clips import FRAMES, draw_clip
from models.builtin.train.video.flow import SIDE
from models.builtin.train.video.network import CELL, CHANNELS, GROUP, PLACE, latents

STILL = 0.6  # of the time for single frames, which teach most for a fraction of the work
STILLS, CLIPS = 8, 2  # in a batch; more than one: torch has no fast 3D convolution for a single small clip


def train_decoder(
    vae: AutoencoderKLWan, *, seed: int, seconds: float, report: Callable[[int, float, float], None]
) -> None:
    """Train the decoder of ``vae`` for the given time; ``report(step, seconds, loss)`` now and then."""
    torch.manual_seed(seed)
    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    whole = (*vae.post_quant_conv.parameters(), *vae.decoder.parameters())

    def loss(spent: float) -> Tensor:
        groups, count = (0, STILLS) if spent < STILL else (1, CLIPS)
        given, wanted, counts = _batch(random, generator, groups=groups, count=count)
        return difference(vae.decode(given).sample, wanted, counts)

    descend([parameter for parameter in whole if parameter.requires_grad], loss, seconds=seconds, report=report)


def _batch(random: Random, generator: torch.Generator, *, groups: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return disturbed latents of parts of clips, their frames, (count, 3, frames, rows, columns), and weights."""
    clips, frames, counts = [], [], []
    for _ in range(count):
        clip, began = draw_clip(random), random.randint(0, FRAMES - 1 - GROUP * groups)
        clips.append(replace(clip, frames=clip.frames[began : began + 1 + GROUP * groups]))
        shown = pixels(clips[-1].frames, SIDE * CELL, SIDE * CELL)
        frames.append(shown.transpose(0, 1))
        counts.append(edges(shown).transpose(0, 1))
    return _disturbed(latents(clips, SIDE), generator), torch.stack(frames), torch.stack(counts)


def _disturbed(clean: Tensor, generator: torch.Generator) -> Tensor:
    """Return latents as the transformer might leave them, as for pictures."""

    def strength(most: float) -> Tensor:
        return torch.rand(len(clean), 1, 1, 1, 1, generator=generator) ** 2 * most

    given = clean.clone()
    given[:, PLACE] *= 1 + strength(STEEPEST - 1)
    given = given.clamp(-1, 1) * (1 - strength(1 - FAINTEST))
    waves = torch.randn(len(clean), CHANNELS, 1, 2, 2, generator=generator)
    drift = interpolate(waves, size=clean.shape[2:], mode="trilinear")
    noise = torch.randn(given.shape, generator=generator)
    return (given + strength(STRONGEST_DRIFT) * drift + strength(STRONGEST_NOISE) * noise).clamp(-1, 1)

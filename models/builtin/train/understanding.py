"""Teaches the large text encoder what prompts say, before any picture is drawn.

Diffusion teaches it as well, but slowly: the first thousand steps of a network that starts from nothing go into
denoising. Here linear heads on the pooled embedding name the background and the things, and tell where they are; the
heads are thrown away, and what remains is an embedding from which the UNet has little left to puzzle out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from random import Random

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from models.builtin.language import COLOURS, KINDS
from models.builtin.train.network import TOKENS, WIDTH_2, Network
from models.builtin.train.scenes import Scene, draw_scene, with_noise_word

PEAK_RATE = 1.5e-3
BATCH = 64
CHOICES = (len(COLOURS), len(KINDS), len(COLOURS), len(KINDS), len(COLOURS), 3)
"""Background; kind and colour of the first and of the last thing; how many there are."""
LENGTHS = 5  # place and radius of the first thing, place of the last


def teach_words(
    network: Network, words: CLIPTokenizer, *, seed: int, seconds: float, report: Callable[[int, float, float], None]
) -> None:
    """Train the large text encoder for the given time; ``report(step, seconds, loss)`` now and then."""
    torch.manual_seed(seed)
    random, encoder = Random(seed), network.text_2
    heads = nn.Linear(WIDTH_2, sum(CHOICES) + LENGTHS)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=PEAK_RATE, weight_decay=1e-3)
    began, step = time.monotonic(), 0
    while (spent := time.monotonic() - began) < seconds:
        for group in optimiser.param_groups:
            rise = min(1.0, (step + 1) / 50)
            group["lr"] = PEAK_RATE * rise * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * spent / seconds)))
        scenes = [draw_scene(random, 1.0, 1.0) for _ in range(BATCH)]
        prompts = [with_noise_word(random, scene.prompt) for scene in scenes]
        ids = words(prompts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").input_ids
        loss = _loss(heads(encoder(ids).text_embeds), scenes)
        torch.autograd.backward(loss)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        if step % 100 == 0:
            report(step, spent, float(loss.detach()))


def _loss(told: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """Return cross entropy of the choices and squared error of the lengths, summed, per scene."""
    *choices, lengths = torch.split(told, [*CHOICES, LENGTHS], dim=1)
    right, true_lengths = [], []
    for scene in scenes:
        first, last = scene.things[0], scene.things[-1]
        right.append(
            (
                COLOURS.index(scene.background),
                KINDS.index(first.kind),
                COLOURS.index(first.colour),
                KINDS.index(last.kind),
                COLOURS.index(last.colour),
                len(scene.things) - 1,
            )
        )
        true_lengths.append((first.x, first.y, first.radius, last.x, last.y))
    answers = torch.tensor(right).unbind(1)
    named = [nn.functional.cross_entropy(choice, answer) for choice, answer in zip(choices, answers, strict=True)]
    off: Tensor = (lengths - torch.tensor(true_lengths)).square().sum(1).mean()
    return torch.stack(named).sum() + 4 * off

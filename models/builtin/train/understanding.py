"""Teaches the larger text encoder, and the UNet's layers that take its word, what prompts say, before any picture.

Diffusion teaches it as well, but slowly: the background is most of the picture, and for a thousand steps a network
that starts from nothing hears of nothing else. Here linear heads, on what every layer of the UNet is told, name the
background, what is on the left, on the right, at the top and at the bottom, and tell where things are; the heads are
thrown away, and little is left to puzzle out. Asked for the things in the order of the prompt instead, the UNet heard
what was in the picture and never which was where: of two different things it drew neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from models.builtin.language import COLOURS, KINDS
from models.builtin.train.clock import Clock
from models.builtin.train.network import CONDITION, TOKENS, Network
from models.builtin.train.scenes import Scene, draw_scene, with_noise_word

PEAK_RATE = 1.5e-3
BATCH = 64
STATIONS = ((-0.5, 0.0), (0.5, 0.0), (0.0, -0.5), (0.0, 0.5))
"""Points to the left, to the right, above and below the middle; what is nearest to each is asked for."""
CHOICES = (len(COLOURS), 3, *(len(COLOURS), len(KINDS)) * len(STATIONS))
"""Background; how many things there are; colour and kind of the nearest thing, for each station."""
NEITHER = 0.3  # where of two different things one is no more than this nearer to a station, it is not asked which
ASKED_NOTHING = -100  # what torch's cross entropy ignores
SIZE_CONDITION = torch.tensor([256.0, 256.0, 0.0, 0.0, 256.0, 256.0])
LENGTHS = 5  # place and radius of the first thing, place of the last


def teach_words(
    network: Network, words: CLIPTokenizer, *, seed: int, seconds: float, report: Callable[[int, float, float], None]
) -> None:
    """Train for the given time; ``report(step, seconds, loss)`` now and then."""
    torch.manual_seed(seed)
    random, unet = Random(seed), network.unet
    heads = nn.Linear(CONDITION, sum(CHOICES) + LENGTHS)
    taught = (network.text_2, unet.time_embedding, unet.add_embedding, heads)
    parameters = [parameter for module in taught for parameter in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=PEAK_RATE, weight_decay=1e-3)
    clock, step = Clock(), 0
    while (spent := clock.tick()) < seconds:
        for group in optimiser.param_groups:
            rise = min(1.0, (step + 1) / 50)
            group["lr"] = PEAK_RATE * rise * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * spent / seconds)))
        scenes = [draw_scene(random, 1.0, 1.0) for _ in range(BATCH)]
        prompts = [with_noise_word(random, scene.prompt) for scene in scenes]
        ids = words(prompts, padding=True, max_length=TOKENS, truncation=True, return_tensors="pt").input_ids
        loss = _loss(heads(_condition(network, network.text_2(ids).text_embeds)), scenes)
        torch.autograd.backward(loss)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        if step % 100 == 0:
            report(step, spent, float(loss.detach()))


def _condition(network: Network, pooled: Tensor) -> Tensor:
    """Return what the UNet's layers are told at some timestep, as ``UNet2DConditionModel.forward`` computes it."""
    unet, count = network.unet, len(pooled)
    sizes = unet.add_time_proj(SIZE_CONDITION).reshape(1, -1).expand(count, -1)
    timesteps = unet.time_embedding(unet.time_proj(torch.randint(0, 1000, (count,))))
    return nn.functional.silu(timesteps + unet.add_embedding(torch.cat([pooled, sizes], dim=1)))


def _loss(told: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """Return cross entropy of the choices and squared error of the lengths, summed, per scene."""
    *choices, lengths = torch.split(told, [*CHOICES, LENGTHS], dim=1)
    answers = torch.tensor([_answers(scene) for scene in scenes]).unbind(1)
    named = [
        nn.functional.cross_entropy(choice, answer, reduction="sum") / (answer != ASKED_NOTHING).sum().clamp(min=1)
        for choice, answer in zip(choices, answers, strict=True)
    ]
    first, last = zip(*((scene.things[0], scene.things[-1]) for scene in scenes), strict=True)
    true = [(one.x, one.y, one.radius, other.x, other.y) for one, other in zip(first, last, strict=True)]
    off: Tensor = (lengths - torch.tensor(true)).square().sum(1).mean()
    return torch.stack(named).sum() + 4 * off


def _answers(scene: Scene) -> list[int]:
    """Return the right one of each of ``CHOICES``."""
    answers = [COLOURS.index(scene.background), len(scene.things) - 1]
    for x, y in STATIONS:
        far = [math.hypot(thing.x - x, thing.y - y) for thing in scene.things]
        near = [thing for thing, distance in zip(scene.things, far, strict=True) if distance <= min(far) + NEITHER]
        for values, names in (
            (COLOURS, {thing.colour for thing in near}),
            (KINDS, {thing.kind for thing in near}),
        ):
            answers.append(values.index(names.pop()) if len(names) == 1 else ASKED_NOTHING)
    return answers

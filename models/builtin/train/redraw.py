"""Latents as diffusion really leaves them, with the scenes that they should show: what the decoder has to mend."""

from __future__ import annotations

from random import Random

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from models.builtin.train.draw import CELL, latents
from models.builtin.train.network import Network, encode, scheduler
from models.builtin.train.scenes import Scene, draw_scene

SIDE = 16  # cells
STEPS = 20
FIRST = (7, 12)  # of the steps, from which a scene is drawn anew: before, its thing would be somewhere else
GUIDANCE = 7.5


@torch.no_grad()
def redrawn(network: Network, words: CLIPTokenizer, *, random: Random, count: int) -> list[tuple[Scene, Tensor]]:
    """Give scenes noise and denoise them by their prompts, with guidance (Meng et al. 2022, arXiv:2108.01073).

    Return the scenes with their latents, (CHANNELS, SIDE, SIDE) each.
    """
    scenes = [draw_scene(random, 1.0, 1.0) for _ in range(count)]
    steps = scheduler()
    steps.set_timesteps(STEPS)
    first = random.randint(*FIRST)
    steps.set_begin_index(first)
    clean = latents(scenes, SIDE, SIDE)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(random.getrandbits(32)))
    found = steps.add_noise(clean, noise, steps.timesteps[first].repeat(count))
    by_token, pooled = encode(network, words, [""] * count + [scene.prompt for scene in scenes])
    side = float(SIDE * CELL)
    told = {"text_embeds": pooled, "time_ids": torch.tensor([[side, side, 0.0, 0.0, side, side]]).expand(2 * count, -1)}
    for timestep in steps.timesteps[first:]:
        predicted = network.unet(
            torch.cat([found, found]), timestep, encoder_hidden_states=by_token, added_cond_kwargs=told
        ).sample
        without, with_prompt = predicted.chunk(2)
        guided = without + GUIDANCE * (with_prompt - without)
        found = steps.step(guided, timestep, found, return_dict=False)[0]
    return list(zip(scenes, found, strict=True))

"""Latents as diffusion really leaves them, with the scenes that they should show: what the decoder has to mend."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from models.builtin.train.draw import CELL, MARKS, PLACE, SIDE, SLOPE, around, latents
from models.builtin.train.network import Network, encode, scheduler
from models.builtin.train.scenes import Scene, draw_scene

STEPS = 20
FIRST = (7, 12)  # of the steps, from which a scene is drawn anew: before, its thing would be somewhere else
GUIDANCE = 7.5
ABOUT = 1.2  # radii: how near a cell is that says where a thing is
LEAST_SLOPE = 0.3  # of what is said of a place by where it is; 1 in clean latents
MOST_MOVED = 0.4  # radii


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
    return [(settled(scene, own), own) for scene, own in zip(scenes, found, strict=True)]


def settled(scene: Scene, found: Tensor) -> Scene:
    """Return the scene with its things where latents, (CHANNELS, rows, columns), have them, and as large.

    Denoising moves and sizes things a little. A straight line, fitted to places about a thing, crosses 0 at its middle;
    its slope, against how far the marks come to their ends, says how large the thing is.
    """
    rows, columns = found.shape[1:]
    [clean] = latents([scene], rows, columns)
    marks, ends = (given[PLACE].view(2, len(MARKS), rows, columns) for given in (found, clean))
    said = marks.sum(dim=1) * SLOPE  # in radii, across and down
    x, y, nearest = around(scene, rows, columns)
    things = []
    for index, thing in enumerate(scene.things):
        about = (nearest == index) & (torch.maximum(x[index].abs(), y[index].abs()) < ABOUT)
        at_end = (ends.abs() > 0.99) & about
        strength = (marks * ends)[at_end].mean()
        middles, slopes = [], []
        for axis, place in enumerate((x[index], y[index])):
            given = torch.stack([place[about], torch.ones(int(about.sum()))], dim=1)
            slope, offset = torch.linalg.lstsq(given, said[axis][about].unsqueeze(1)).solution.flatten().tolist()
            middles.append(-offset / max(slope, LEAST_SLOPE))
            slopes.append(slope)
        grown = float(strength) * 2 / max(sum(slopes), LEAST_SLOPE)
        right, down = (max(-MOST_MOVED, min(MOST_MOVED, middle)) * thing.radius for middle in middles)
        radius = thing.radius * max(1 - MOST_MOVED, min(1 + MOST_MOVED, grown))
        things.append(replace(thing, x=thing.x + right, y=thing.y + down, radius=radius))
    return replace(scene, things=tuple(things))

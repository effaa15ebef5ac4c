"""Trains the text encoders and the UNet of the image model together."""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from models.builtin.train.draw import BITS, CELL, SHOWN, SIDE, extent, latents
from models.builtin.train.network import FAST, Network, encode, network, scheduler
from models.builtin.train.scenes import draw_scene, with_noise_word
from models.builtin.train.training import Training

CELLS_IN_BATCH = 32 * 16 * 16  # about the same work each step, whatever the size of the pictures
TOLD_RATE = 0.45  # share of AdamW's rate for the layers through which the UNet hears of prompt and timestep
TEXT_RATE = 0.045  # the same for the text encoders; these layers and one of the encoders have been taught before
OTHER_SIZES = ((32, 32), (32, 32), (32, 32), (16, 24), (24, 16), (18, 32), (32, 18), (24, 24))  # rows, columns in cells
OTHERS_EARLY, OTHERS_LATE = 0.05, 0.15  # how often, in the first half of training and then
FOREGROUND = 1.0  # how much more a cell of a thing counts than one of the background; more makes things too large
LATE_NOISE = 0.6  # below 1, timesteps with much noise come up more often: there the prompt decides
AGREED_BELOW = 500  # timesteps, of 1000: with so little noise the picture tells what it shows, and no prompt need
AGREEING_FROM = 0.8  # share of the time after which it is trained to need none
AGREEMENT = 5.0  # how much a difference counts there that guidance would make 6.5 times as large


class DiffusionTraining(Training[Network]):
    """Training of the image model, in which a step is a batch of pictures of one size."""

    matrix_rate = 0.02  # for the weights of the UNet that multiply
    peak_rate = 4e-3  # for its scales, shifts, first and last layer

    def __init__(self, folder: Path, words: CLIPTokenizer, *, seed: int, seconds: float) -> None:
        torch.manual_seed(seed)
        live = network(words)
        text_1, text_2, unet = live.modules()
        named = dict(unet.named_parameters())
        told = [named.pop(name) for name in [*named] if name.startswith(("time_embedding.", "add_embedding."))]
        ends = [named.pop(name) for name in [*named] if name.startswith(("conv_in.", "conv_out."))]
        inner = list(named.values())
        vectors = [parameter for parameter in inner if parameter.ndim == 1]
        super().__init__(
            folder,
            live,
            matrices=[parameter for parameter in inner if parameter.ndim > 1],
            others=[
                ([*vectors, *ends], 1.0),
                (told, TOLD_RATE),
                ([*text_1.parameters(), *text_2.parameters()], TEXT_RATE),
            ],
            seed=seed,
            seconds=seconds,
        )
        live.attend_plainly()
        self._words = words
        self._kept = scheduler().alphas_cumprod  # share of signal power at each timestep

    def _losses(self, random: Random, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        clean, weights, prompts, time_ids = self._batch(random)
        count = len(prompts)
        timesteps = (torch.rand(count, generator=generator) ** LATE_NOISE * 1000).long()
        kept = self._kept[timesteps].view(-1, 1, 1, 1)
        noise = torch.randn(clean.shape, generator=generator)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * clean  # Salimans and Ho 2022, arXiv:2202.00512
        predicted = self._predict(noisy, timesteps, prompts, time_ids)
        loss = whole = _weighted(predicted - velocity, weights)
        few = timesteps < AGREED_BELOW
        if self._spent > AGREEING_FROM and few.any():
            # What guidance amplifies of late steps is error: it cost one right shape of five.
            without = self._predict(noisy[few], timesteps[few], [""] * int(few.sum()), time_ids[few])
            apart = AGREEMENT * _weighted(predicted[few] - without, weights[few])
            whole = loss + few.float().mean() * (apart + _weighted(without - velocity[few], weights[few]))
        return whole, loss

    def _predict(self, noisy: Tensor, timesteps: Tensor, prompts: list[str], time_ids: Tensor) -> Tensor:
        with torch.autocast("cpu", FAST, enabled=FAST is not torch.float32):
            by_token, pooled = encode(self._live, self._words, prompts)
            conditions = {"text_embeds": pooled, "time_ids": time_ids}
            predicted: Tensor = self._live.unet(
                noisy, timesteps, encoder_hidden_states=by_token, added_cond_kwargs=conditions
            ).sample
        return predicted.float()

    def _batch(self, random: Random) -> tuple[Tensor, Tensor, list[str], Tensor]:
        """Draw a batch: clean latents, weights of cells, prompts of which some are emptied, and size conditions."""
        others = OTHERS_EARLY if self._spent < 0.5 else OTHERS_LATE
        rows, columns = random.choice(OTHER_SIZES) if random.random() < others else (SIDE, SIDE)
        across, down = extent(columns, rows)
        scenes = [draw_scene(random, across, down) for _ in range(CELLS_IN_BATCH // (rows * columns))]
        prompts = ["" if random.random() < 0.1 else with_noise_word(random, scene.prompt) for scene in scenes]
        height, width = float(rows * CELL), float(columns * CELL)
        time_ids = torch.tensor([[height, width, 0.0, 0.0, height, width]]).expand(len(scenes), -1)
        clean = latents(scenes, rows, columns)
        backgrounds = torch.stack([BITS[scene.background] for scene in scenes]).view(-1, 4, 1, 1)
        covered = (clean[:, SHOWN] - backgrounds).abs().amax(dim=1, keepdim=True) / 2
        return clean, 1 + FOREGROUND * covered, prompts, time_ids


def _weighted(difference: Tensor, weights: Tensor) -> Tensor:
    return (difference.square() * weights).mean() / weights.mean()

"""Trains text encoders and UNet together, by steps that can be stopped anywhere and taken up again."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from models.builtin.train.clock import Clock
from models.builtin.train.draw import BITS, CELL, QUARTERS, extent, latents
from models.builtin.train.network import Network, encode, network, scheduler
from models.builtin.train.scenes import draw_scene, with_noise_word

PEAK_RATE = 1.8e-3
WARM_UP = 100  # steps
SAVE_EVERY = 120.0  # seconds
CELLS_IN_BATCH = 32 * 16 * 16  # about the same work each step, whatever the size of the pictures
TEXT_RATE = 0.1  # share of the learning rate for the text encoders, one of which has been taught before
SIDE = 16  # cells: 256 pixels
OTHER_SIZES = ((32, 32), (32, 32), (32, 32), (16, 24), (24, 16), (18, 32), (32, 18), (24, 24))  # rows, columns in cells
OTHERS_EARLY, OTHERS_LATE = 0.05, 0.15  # how often, in the first half of training and then
FOREGROUND = 1.0  # how much more a cell of a thing counts than one of the background; more makes things too large
LATE_NOISE = 0.6  # below 1, timesteps with much noise come up more often: there the prompt decides
AGREED_BELOW = 500  # timesteps, of 1000: with so little noise the picture tells what it shows, and no prompt need
AGREEING_FROM = 0.8  # share of the time after which it is trained to need none
AGREEMENT = 5.0  # how much a difference counts there that guidance would make 6.5 times as large


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far training has come."""

    step: int
    seconds: float  # of training, over every run
    loss: float  # mean of the last hundred steps or so


class DiffusionTraining:
    """The state of training: weights, their moving average, the optimiser, and how far it has come.

    Step ``n`` sees the same pictures, noise and timesteps for the same seed, however often training was interrupted;
    the learning rate follows the share of the time budget that is spent, so another machine takes other steps.
    """

    def __init__(self, folder: Path, words: CLIPTokenizer, *, seed: int, seconds: float) -> None:
        torch.manual_seed(seed)
        self._folder, self._words, self._seed, self._budget = folder, words, seed, seconds
        self._live: Network = network(words)
        self.averaged: Network = copy.deepcopy(self._live)
        text_1, text_2, unet = self._live.modules()
        groups = [
            {"params": list(unet.parameters()), "share": 1.0},
            {"params": [*text_1.parameters(), *text_2.parameters()], "share": TEXT_RATE},
        ]
        self._optimiser = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=1e-3, foreach=True)
        self._kept = scheduler().alphas_cumprod  # share of signal power at each timestep
        self.progress = Progress(step=0, seconds=0.0, loss=math.nan)

    @property
    def _checkpoint(self) -> Path:
        return self._folder / "diffusion.pt"

    def resume(self) -> None:
        """Take up the saved state where there is one."""
        if not self._checkpoint.exists():
            return
        state = torch.load(self._checkpoint, weights_only=True)
        for name, kept in (("live", self._live), ("averaged", self.averaged)):
            for module, values in zip(kept.modules(), state[name], strict=True):
                module.load_state_dict(values)
        self._optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])

    def start(self, teach: Callable[[Network], None]) -> None:
        """Let ``teach`` change the untrained network, unless training has begun."""
        if self.progress.step == 0:
            teach(self._live)
            self.averaged = copy.deepcopy(self._live)

    def save(self) -> None:
        """Save the state; a reader never sees half of it."""
        progress = self.progress
        state = {
            "live": [module.state_dict() for module in self._live.modules()],
            "averaged": [module.state_dict() for module in self.averaged.modules()],
            "optimiser": self._optimiser.state_dict(),
            "progress": {"step": progress.step, "seconds": progress.seconds, "loss": progress.loss},
        }
        half = self._checkpoint.with_suffix(".half")
        torch.save(state, half)
        half.replace(self._checkpoint)

    def run(self, report: Callable[[Progress], None]) -> None:
        """Train until the budget is spent, saving now and then."""
        saved, clock = time.monotonic(), Clock()
        earlier = self.progress.seconds
        while self.progress.seconds < self._budget:
            loss = self._step()
            before = self.progress
            self.progress = Progress(
                step=before.step + 1,
                seconds=earlier + clock.tick(),
                loss=loss if math.isnan(before.loss) else 0.99 * before.loss + 0.01 * loss,
            )
            if self.progress.step % 25 == 0:
                report(self.progress)
                self._log()
            if time.monotonic() - saved > SAVE_EVERY:
                self.save()
                saved = time.monotonic()
        self.save()

    def _log(self) -> None:
        progress = self.progress
        line = {"step": progress.step, "seconds": round(progress.seconds, 1), "loss": round(progress.loss, 5)}
        with (self._folder / "loss.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _rate(self) -> float:
        """Return the learning rate: a linear rise, then a cosine down to a fiftieth."""
        spent = min(1.0, self.progress.seconds / self._budget)
        rise = min(1.0, (self.progress.step + 1) / WARM_UP)
        return PEAK_RATE * rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * spent)))

    def _step(self) -> float:
        step = self.progress.step
        random, generator = Random(f"{self._seed}/{step}"), torch.Generator().manual_seed(self._seed * 10**9 + step)
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
        if self.progress.seconds > AGREEING_FROM * self._budget and few.any():
            # What guidance amplifies of late steps is error: it cost one right shape of five.
            without = self._predict(noisy[few], timesteps[few], [""] * int(few.sum()), time_ids[few])
            apart = AGREEMENT * _weighted(predicted[few] - without, weights[few])
            whole = loss + few.float().mean() * (apart + _weighted(without - velocity[few], weights[few]))
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate() * group["share"]
        whole.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        torch.nn.utils.clip_grad_norm_(self._live.parameters(), 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        decay = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged.parameters(), self._live.parameters(), 1 - decay)
        return float(loss.detach())

    def _predict(self, noisy: Tensor, timesteps: Tensor, prompts: list[str], time_ids: Tensor) -> Tensor:
        by_token, pooled = encode(self._live, self._words, prompts)
        conditions = {"text_embeds": pooled, "time_ids": time_ids}
        predicted: Tensor = self._live.unet(
            noisy, timesteps, encoder_hidden_states=by_token, added_cond_kwargs=conditions
        ).sample
        return predicted

    def _batch(self, random: Random) -> tuple[Tensor, Tensor, list[str], Tensor]:
        """Draw a batch: clean latents, weights of cells, prompts of which some are emptied, and size conditions."""
        others = OTHERS_EARLY if self.progress.seconds < self._budget / 2 else OTHERS_LATE
        rows, columns = random.choice(OTHER_SIZES) if random.random() < others else (SIDE, SIDE)
        across, down = extent(columns, rows)
        scenes = [draw_scene(random, across, down) for _ in range(CELLS_IN_BATCH // (rows * columns))]
        prompts = ["" if random.random() < 0.1 else with_noise_word(random, scene.prompt) for scene in scenes]
        height, width = float(rows * CELL), float(columns * CELL)
        time_ids = torch.tensor([[height, width, 0.0, 0.0, height, width]]).expand(len(scenes), -1)
        clean = latents(scenes, rows, columns)
        backgrounds = torch.stack([BITS[scene.background] for scene in scenes]).view(-1, 4, 1, 1, 1)
        by_bit = clean.view(len(scenes), 4, QUARTERS**2, rows, columns)
        covered = ((by_bit - backgrounds).abs().amax(dim=1, keepdim=True) / 2).expand_as(by_bit).reshape_as(clean)
        return clean, 1 + FOREGROUND * covered, prompts, time_ids


def _weighted(difference: Tensor, weights: Tensor) -> Tensor:
    return (difference.square() * weights).mean() / weights.mean()

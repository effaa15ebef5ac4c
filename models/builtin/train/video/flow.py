"""Trains the text encoder and the transformer of the video model together, by flow matching.

Lipman et al. 2023, arXiv:2210.02747, in the straight form of Wan: ``noisy = (1 - sigma) * clean + sigma * noise``, and
the network says ``noise - clean``.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
from torch import Tensor
from transformers import T5Tokenizer

from models.builtin.train.network import FAST
from models.builtin.train.training import Training
from models.builtin.train.video.clips import draw_clip
from models.builtin.train.video.latents import latents
from models.builtin.train.video.network import SHIFT, VideoNetwork, encode, network

BATCH = 256  # clips
EMPTIED = 0.1  # how often the prompt is left out
SETTLED = 0.6  # sigma, below which what is noisy tells by itself what it shows
EMPTIED_SETTLED = 0.5  # how often it is left out there: what guidance makes of a difference would be error
TOLD_RATE = 0.45  # share of AdamW's rate for the layers through which the transformer hears of prompt and timestep
TEXT_RATE = 0.25  # the same for the text encoder


class FlowTraining(Training[VideoNetwork]):
    """Training of the video model, in which a step is a batch of clips."""

    matrix_rate = 0.02  # for what multiplies in the blocks of the transformer
    peak_rate = 4e-3  # for its scales, shifts, first and last layer

    def __init__(self, folder: Path, words: T5Tokenizer, *, seed: int, seconds: float) -> None:
        torch.manual_seed(seed)
        live = network(words)
        named = dict(live.transformer.named_parameters())
        told = [named.pop(name) for name in [*named] if name.startswith("condition_embedder.")]
        matrices = [named.pop(name) for name in [*named] if name.startswith("blocks.") and named[name].ndim == 2]
        super().__init__(
            folder,
            live,
            matrices=matrices,
            others=[([*named.values()], 1.0), (told, TOLD_RATE), ([*live.text.parameters()], TEXT_RATE)],
            seed=seed,
            seconds=seconds,
        )
        self._words = words

    def _losses(self, random: Random, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        clips = [draw_clip(random) for _ in range(BATCH)]
        clean = latents(clips)
        even = torch.rand(BATCH, generator=generator)
        sigmas = SHIFT * even / (1 + (SHIFT - 1) * even)
        emptied = [EMPTIED_SETTLED if sigma < SETTLED else EMPTIED for sigma in sigmas.tolist()]
        prompts = ["" if random.random() < share else clip.prompt for clip, share in zip(clips, emptied, strict=True)]
        sigma = sigmas.view(-1, 1, 1, 1, 1)
        noise = torch.randn(clean.shape, generator=generator)
        with torch.autocast("cpu", FAST, enabled=FAST is not torch.float32):
            predicted = self._live.transformer(
                hidden_states=(1 - sigma) * clean + sigma * noise,
                timestep=1000 * sigmas,
                encoder_hidden_states=encode(self._live, self._words, prompts),
            ).sample
        loss = (predicted.float() - (noise - clean)).square().mean()
        return loss, loss

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

from models.builtin.train.draw import BITS as WORDS
from models.builtin.train.training import Training
from models.builtin.train.video.clips import draw_clip
from models.builtin.train.video.network import BITS, SHIFT, VideoNetwork, bits_of, encode, grouped, network

BATCH = 32
SIDE = 32  # latent pixels: 256 pixels
EMPTIED = 0.1  # how often the prompt is left out
FOREGROUND = 3.0  # how much more a latent pixel of a thing counts than one of the background


class FlowTraining(Training[VideoNetwork]):
    """Training of the video model, in which a step is a batch of clips of 17 frames."""

    peak_rate = 1e-3

    def __init__(self, folder: Path, words: T5Tokenizer, *, seed: int, seconds: float) -> None:
        torch.manual_seed(seed)
        super().__init__(folder, network(words), (1.0, 1.0), seed=seed, seconds=seconds)
        self._words = words

    def compile(self) -> None:
        """Let torch fuse what each layer does."""
        self._live.transformer.compile_repeated_blocks()

    def _losses(self, random: Random, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        clips = [draw_clip(random) for _ in range(BATCH)]
        clean = grouped(bits_of(clips, SIDE))
        prompts = ["" if random.random() < EMPTIED else clip.prompt for clip in clips]
        even = torch.rand(BATCH, generator=generator)
        sigma = (SHIFT * even / (1 + (SHIFT - 1) * even)).view(-1, 1, 1, 1, 1)
        noise = torch.randn(clean.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = self._live.transformer(
                hidden_states=(1 - sigma) * clean + sigma * noise,
                timestep=1000 * sigma.flatten(),
                encoder_hidden_states=encode(self._live, self._words, prompts),
            ).sample
        backgrounds = torch.stack([WORDS[clip.frames[0].background] for clip in clips]).view(BATCH, BITS, 1, 1, 1, 1)
        off = (clean.view(BATCH, BITS, -1, *clean.shape[2:]) - backgrounds).abs().amax(dim=1, keepdim=True) / 2
        weights = 1 + FOREGROUND * off
        wrong = (predicted.float() - (noise - clean)).view(BATCH, BITS, -1, *clean.shape[2:]).square()
        loss = (wrong * weights).mean() / weights.mean()
        return loss, loss

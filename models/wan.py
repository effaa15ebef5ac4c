"""Wan 2.1: text to video. Wan Team 2025, https://arxiv.org/abs/2503.20314."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from diffusers import WanPipeline

from models.diffusion import DiffusionModel

if TYPE_CHECKING:
    from models.spec import Frames


class Wan(DiffusionModel):
    """Makes videos of the shape (frames, height, width, 3)."""

    pipeline_class = WanPipeline

    def _decoded(self, *, num_frames: int, **arguments: Any) -> torch.Tensor:
        decoded: torch.Tensor = self._pipeline(**arguments, num_frames=num_frames, output_type="pt").frames
        return decoded

    def _delivered(self, videos: list[Frames]) -> Sequence[Frames]:
        return videos

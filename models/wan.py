"""Wan 2.1: text to video. Wan Team 2025, https://arxiv.org/abs/2503.20314."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from diffusers import WanPipeline

from models.diffusion import DiffusionModel
from models.pixels import Size

if TYPE_CHECKING:
    from models.spec import Frames


class Wan(DiffusionModel):
    """Makes videos of the shape (frames, height, width, 3)."""

    pipeline_class = WanPipeline
    network = "transformer"
    encodings = ("prompt_embeds",)

    def _only_size(self) -> Size | None:
        """Where a token spans several latent frames, it is a whole clip, and a picture is all that it spans."""
        frames, height, width = self._pipeline.transformer.config.patch_size
        if frames == 1:
            return None
        vae = self._pipeline.vae.config
        return Size(
            width=width * vae.scale_factor_spatial,
            height=height * vae.scale_factor_spatial,
            frames=(frames - 1) * vae.scale_factor_temporal + 1,
        )

    def _decoded(self, *, num_frames: int, **arguments: Any) -> torch.Tensor:
        decoded: torch.Tensor = self._pipeline(**arguments, num_frames=num_frames, output_type="pt").frames
        return decoded

    @torch.no_grad()
    def _encode(self, text: str) -> tuple[torch.Tensor, ...]:
        states, _ = self._pipeline.encode_prompt(
            [text],
            do_classifier_free_guidance=False,
            max_sequence_length=self._most_tokens(),
            device=self._device,
        )
        return (states,)

    def _most_tokens(self) -> int:
        most: int = min(512, self._pipeline.tokenizer.model_max_length)  # 512 is what its pipeline reads untold
        return most

    def _still(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self._pipeline.vae
        latents = latents.unsqueeze(2).to(vae.dtype)
        mean, deviation = (
            latents.new_tensor(of).view(1, -1, 1, 1, 1) for of in (vae.config.latents_mean, vae.config.latents_std)
        )
        decoded: torch.Tensor = vae.decode(latents * deviation + mean, return_dict=False)[0]
        return decoded[:, :, 0] / 2 + 0.5

    def _delivered(self, videos: list[Frames]) -> Sequence[Frames]:
        return videos

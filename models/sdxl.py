"""Stable Diffusion XL: text to image. Podell et al. 2023, https://arxiv.org/abs/2307.01952.

Its text encoders read 75 tokens of a prompt, about 50 words; what follows has no effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderTiny, StableDiffusionXLPipeline

from models.diffusion import DiffusionModel

if TYPE_CHECKING:
    from models.spec import Frames


class StableDiffusionXL(DiffusionModel):
    """Makes pictures of the shape (height, width, 3)."""

    pipeline_class = StableDiffusionXLPipeline
    network = "unet"
    pictures = ("unet", "vae")
    encodings = ("prompt_embeds", "pooled_prompt_embeds")

    @torch.no_grad()
    def _decoded(self, *, num_frames: int, **arguments: Any) -> torch.Tensor:  # noqa: ARG002 a picture is one frame
        """Decode here and not in the pipeline, which cannot decode half-precision latents with a float32 VAE."""
        latents = self._pipeline(**arguments, output_type="latent").images
        return self._still(latents).unsqueeze(1)

    @torch.no_grad()
    def _encode(self, text: str) -> tuple[torch.Tensor, ...]:
        states, _, pooled, _ = self._pipeline.encode_prompt(
            [text], device=self._device, do_classifier_free_guidance=False
        )
        return states, pooled

    def _decode_by_tiles(self) -> None:
        super()._decode_by_tiles()
        vae = self._pipeline.vae
        if isinstance(vae, AutoencoderTiny):  # it takes its factor for 8, however many blocks it has
            vae.spatial_scale_factor = self._pipeline.vae_scale_factor
            vae.tile_latent_min_size = vae.tile_sample_min_size // vae.spatial_scale_factor

    def _most_tokens(self) -> int:
        return int(self._pipeline.tokenizer.model_max_length)

    def _still(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self._pipeline.vae
        latents = latents.to(vae.dtype)
        mean, deviation = (getattr(vae.config, f"latents_{of}", None) for of in ("mean", "std"))
        if mean is not None and deviation is not None:  # some models of this class normalise each channel
            # In the pipeline's order, so that it rounds as the pipeline does.
            latents = latents * _per_channel(deviation, latents) / vae.config.scaling_factor
            latents = latents + _per_channel(mean, latents)
        else:
            latents = latents / vae.config.scaling_factor
        decoded: torch.Tensor = vae.decode(latents, return_dict=False)[0]
        return decoded / 2 + 0.5

    def _delivered(self, videos: list[Frames]) -> Sequence[Frames]:
        return [video[0] for video in videos]


def _per_channel(numbers: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    return like.new_tensor(numbers).view(1, -1, 1, 1)

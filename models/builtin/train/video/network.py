"""The parts of the built-in video model, untrained, and the pipeline they make: Wan's classes, made small.

A latent pixel is a whole picture of 256 pixels, and a token is a whole clip. Wan's attention knows only how far tokens
are from each other, and what it is given at first is the same noise everywhere: so it could not tell the left of a
picture from its right, nor the first frame from the last. Within one token nothing has to be told apart.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from torch import Tensor, nn
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from models.builtin.train.video.latents import CELL, CHANNELS, GROUP, GROUPS

TOKENS = 24  # of a prompt, with its end
WIDTH = 128  # of the text encoder
HEADS, HEAD_WIDTH = 4, 48  # of the transformer: a token's hundred numbers have to go through it beside its thoughts
SHIFT = 3.0  # of the timesteps towards noise, as Wan 2.1 has it for 480p
FORM, PAINT = 64, 32  # channels of the last two levels; of 16, or of 24, torch makes slower work than of 32
COPIED, DIVIDED = 42, 60  # channels of the levels that only copy, and of the first, which divides time as well
FINEST_FIRST = (PAINT, FORM, *(COPIED,) * 5, DIVIDED)
PATCH = 2  # pixels that the decoder's last layer draws at once, each way


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoNetwork:
    """What flow training changes."""

    text: UMT5EncoderModel
    transformer: WanTransformer3DModel

    def modules(self) -> Sequence[nn.Module]:
        return self.text, self.transformer


def tokenizer(words: Iterable[str]) -> T5Tokenizer:
    """Return a tokenizer to which each of ``words`` is one token, and any other one its letters."""
    characters = string.ascii_letters + string.digits + string.punctuation
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -1.0) for word in words]
    pieces += [(letter, -9.0) for letter in characters]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=TOKENS)


def network(words: T5Tokenizer) -> VideoNetwork:
    """Return the untrained network: about two million parameters."""
    return VideoNetwork(
        text=UMT5EncoderModel(
            UMT5Config(
                vocab_size=len(words),
                d_model=WIDTH,
                d_kv=32,
                d_ff=2 * WIDTH,
                num_layers=2,
                num_heads=4,
                dropout_rate=0.0,
            )
        ),
        transformer=WanTransformer3DModel(
            patch_size=(GROUPS, 1, 1),
            num_attention_heads=HEADS,
            attention_head_dim=HEAD_WIDTH,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            text_dim=WIDTH,
            freq_dim=64,
            ffn_dim=384,
            num_layers=3,
        ),
    )


def decoder() -> AutoencoderKLWan:
    """Return the untrained autoencoder. Only its decoder is used; the encoder is the least the class allows."""
    levels = len(FINEST_FIRST)
    return AutoencoderKLWan(
        base_dim=1,
        decoder_base_dim=2,
        z_dim=CHANNELS,
        dim_mult=[channels // 2 for channels in FINEST_FIRST],
        num_res_blocks=1,
        temperal_downsample=[False] * (levels - 3) + [True, True],
        patch_size=PATCH,
        in_channels=3 * PATCH**2,
        out_channels=3 * PATCH**2,
        scale_factor_spatial=CELL,
        scale_factor_temporal=GROUP,
        latents_mean=[0.0] * CHANNELS,
        latents_std=[1.0] * CHANNELS,
    )


def scheduler() -> UniPCMultistepScheduler:
    """Return the scheduler, which clips its estimate of the clean latents to [-1, 1], where they all lie."""
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        num_train_timesteps=1000,
        flow_shift=SHIFT,
        thresholding=True,
        sample_max_value=1.0,
    )


def encode(networks: VideoNetwork, words: T5Tokenizer, prompts: list[str]) -> Tensor:
    """Return the embeddings of prompts as Wan's pipeline computes them, (prompts, TOKENS, WIDTH), 0 after their end."""
    read = words(prompts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    states = networks.text(read.input_ids, read.attention_mask).last_hidden_state
    told: Tensor = states * read.attention_mask.unsqueeze(-1)
    return told


def pipeline(networks: VideoNetwork, words: T5Tokenizer, vae: AutoencoderKLWan) -> WanPipeline:
    """Assemble the pipeline."""
    return WanPipeline(
        tokenizer=words,
        text_encoder=networks.text,
        transformer=networks.transformer,
        vae=vae,
        scheduler=scheduler(),
    )

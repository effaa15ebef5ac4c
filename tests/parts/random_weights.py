"""Tiny pipelines of the real classes with random weights, the same on every machine, in diffusers' layout."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

_WIDTH = 32  # of every text encoder


def save(name: str, folder: Path) -> None:
    """Write one of the built-in model's class into ``folder``. Leaves torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = {"shapes": _sdxl, "motion": _wan}[name]()
    pipeline.save_pretrained(folder, safe_serialization=True)


def _sdxl() -> Any:
    """A million parameters; 256 pixels and 10 steps take a quarter of a second on one core."""
    tokenizer = _clip_tokenizer()
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "projection_dim": _WIDTH,
        "bos_token_id": tokenizer.bos_token_id,
        # The pooled embedding is taken at this token: with any other the picture would not depend on the prompt.
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    time_width = 8  # of the embedding of each of the six size and crop numbers
    return StableDiffusionXLPipeline(
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        text_encoder=CLIPTextModel(CLIPTextConfig(hidden_act="quick_gelu", **text)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(hidden_act="gelu", **text)).eval(),
        unet=UNet2DConditionModel(
            sample_size=32,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 1),
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            norm_num_groups=8,
            cross_attention_dim=2 * _WIDTH,  # both text encoders side by side
            addition_embed_type="text_time",
            addition_time_embed_dim=time_width,
            projection_class_embeddings_input_dim=_WIDTH + 6 * time_width,
        ).eval(),
        vae=AutoencoderKL(
            block_out_channels=(8, 16, 16, 16),  # four blocks make the factor of 8
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            sample_size=256,
            scaling_factor=0.13025,
            force_upcast=False,
            mid_block_add_attention=False,
        ).eval(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        add_watermarker=False,
    )


def _wan() -> Any:
    """17 frames of 256 pixels and 10 steps take about a second on one core."""
    tokenizer = _t5_tokenizer()
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(
            UMT5Config(
                vocab_size=len(tokenizer), d_model=_WIDTH, d_kv=16, d_ff=64, num_layers=1, num_heads=2, dropout_rate=0.0
            )
        ).eval(),
        transformer=WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            text_dim=_WIDTH,
            freq_dim=32,
            ffn_dim=64,
            num_layers=2,
        ).eval(),
        # Two of the three upsamplings are left to a patch of two pixels: most of a full decoder's time goes there.
        vae=AutoencoderKLWan(
            base_dim=4,
            z_dim=16,
            dim_mult=[1, 1, 1],
            num_res_blocks=0,
            temperal_downsample=[True, True],
            patch_size=2,
            in_channels=12,
            out_channels=12,
            scale_factor_spatial=8,
        ).eval(),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
        ),
    )


def _clip_tokenizer() -> Any:
    """Every byte, and every byte as the end of a word: any text can be written, none is shortened."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    # GPT-2's byte alphabet: the bytes that do not print stand as characters from 256 on.
    others = [256 + index for index in range(256 - len(printable))]
    alphabet = [chr(code) for code in printable + others]
    pieces = [*alphabet, *(letter + "</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77, pad_token="<|endoftext|>")


def _t5_tokenizer() -> Any:
    """Single ASCII characters; every other one is unknown."""
    characters = string.ascii_letters + string.digits + string.punctuation
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in characters)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)

"""SDXL and Wan 2.1 1.3B at full size with random weights: speed does not depend on what they are. No network.

The figures are those of the published configurations: ``stabilityai/stable-diffusion-xl-base-1.0`` and
``Wan-AI/Wan2.1-T2V-1.3B-Diffusers``; what is not named is the default of the class in diffusers or transformers.
Tokenizers are the built-in models', since a prompt of any words is padded to the same length.
"""

from __future__ import annotations

from collections.abc import Callable
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
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    UMT5Config,
    UMT5EncoderModel,
)

from models import builtin

CLIP_L = {  # 123 million parameters
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "vocab_size": 49408,
    "hidden_act": "quick_gelu",
}
CLIP_BIG_G = {  # 695 million
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "vocab_size": 49408,
    "hidden_act": "gelu",
}
SDXL_UNET = {  # 2,567 million
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),  # heads, in spite of its name
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SDXL_VAE = {  # 84 million
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
}
WAN_TRANSFORMER = {  # 1,419 million
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "ffn_dim": 8960,
    "num_layers": 30,
}
# One layer in the place of UMT5-XXL's 24: a video's prompt is encoded once, and 11 GiB would be filled for that.
WAN_TEXT = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_heads": 64, "num_layers": 1, "vocab_size": 256384}

Build = Callable[[torch.device], Any]


def _on(device: torch.device, make: Callable[[], Any], dtype: torch.dtype) -> Any:
    """Make a network on the device itself, where filling it with random numbers takes a moment."""
    with device:
        return make().to(dtype).eval()


def sdxl(device: torch.device) -> StableDiffusionXLPipeline:
    """Half precision but for the decoder, as easeld runs it; diffusers itself raises the decoder to float32."""
    tokenizer = AutoTokenizer.from_pretrained(builtin.folder("shapes") / "tokenizer")
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    half = torch.float16
    return StableDiffusionXLPipeline(
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        text_encoder=_on(device, lambda: CLIPTextModel(CLIPTextConfig(**CLIP_L, **ends)), half),
        text_encoder_2=_on(device, lambda: CLIPTextModelWithProjection(CLIPTextConfig(**CLIP_BIG_G, **ends)), half),
        unet=_on(device, lambda: UNet2DConditionModel(**SDXL_UNET), half),
        vae=_on(device, lambda: AutoencoderKL(**SDXL_VAE), torch.float32),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        add_watermarker=False,
    )


def wan(device: torch.device) -> WanPipeline:
    """bfloat16 but for the decoder, as both its authors and easeld run it."""
    tokenizer = AutoTokenizer.from_pretrained(builtin.folder("motion") / "tokenizer", model_max_length=512)
    half = torch.bfloat16
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=_on(device, lambda: UMT5EncoderModel(UMT5Config(**WAN_TEXT)), half),
        transformer=_on(device, lambda: WanTransformer3DModel(**WAN_TRANSFORMER), half),
        vae=_on(device, AutoencoderKLWan, torch.float32),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
        ),
    )


def tiny_sdxl(_device: torch.device) -> StableDiffusionXLPipeline:
    """The built-in model, to try the benchmark itself."""
    folder = builtin.folder("shapes")
    return StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32, add_watermarker=False)


def tiny_wan(_device: torch.device) -> WanPipeline:
    """The built-in model of videos."""
    return WanPipeline.from_pretrained(builtin.folder("motion"), dtype=torch.float32)

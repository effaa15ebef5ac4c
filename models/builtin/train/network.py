"""The parts of the built-in image model, untrained, and the pipeline they make: SDXL's classes, made small."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

import torch
from diffusers import AutoencoderTiny, DPMSolverMultistepScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from models.builtin.train.draw import CHANNELS

TOKENS = 32  # of a prompt, with its start and its end
WIDTH_1, WIDTH_2 = 32, 128  # of the two text encoders
CONDITION = 192  # width of what every layer of the UNet is told of prompt and timestep

_able = torch.cpu.get_capabilities()
# What to multiply in: in bfloat16 a step takes two thirds of the time with AMX, but without either 15 times as long.
FAST = torch.bfloat16 if _able.get("amx_bf16") or _able.get("avx512_bf16") else torch.float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What diffusion training changes."""

    text_1: CLIPTextModel
    text_2: CLIPTextModelWithProjection
    unet: UNet2DConditionModel

    def modules(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        return self.text_1, self.text_2, self.unet

    def attend_plainly(self) -> None:
        """Attend by matrix products: a step in bfloat16 takes 0.27 s so, and 0.32 with torch's fused attention."""
        for encoder in (self.text_1, self.text_2):
            encoder.set_attn_implementation("eager")
        self.unet.set_attn_processor(AttnProcessor())


def byte_alphabet() -> list[str]:
    """Return the 256 characters by which byte-level BPE writes bytes (GPT-2's ``bytes_to_unicode``)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    written = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    return [written[byte] for byte in range(256)]


def tokenizer(words: Iterable[str]) -> CLIPTokenizer:
    """Return a CLIP tokenizer to which each of ``words`` is one token, and any other word the bytes it consists of.

    Every word is a chain of merges from its left. Merges are tried by rank, so the chain of one word can break another
    (``l+a`` of "large" breaks "black"): orders of the words are tried until none does.
    """
    chosen, random = list(words), Random(0)
    for _ in range(1000):
        candidate = _tokenizer(chosen)
        if all(len(candidate(word).input_ids) == 3 for word in chosen):
            return candidate
        random.shuffle(chosen)
    raise ValueError("no order of the words makes each of them one token")


def _tokenizer(words: list[str]) -> CLIPTokenizer:
    alphabet = byte_alphabet()
    pieces = dict.fromkeys((*alphabet, *(f"{letter}</w>" for letter in alphabet)))
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges[(parts[0], parts[1])] = None
            parts[:2] = [parts[0] + parts[1]]
            pieces[parts[0]] = None
    pieces |= dict.fromkeys(("<|startoftext|>", "<|endoftext|>"))
    return CLIPTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=list(merges),
        model_max_length=TOKENS,
        pad_token="<|endoftext|>",
    )


def _text_config(words: CLIPTokenizer, *, width: int, layers: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        max_position_embeddings=TOKENS,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,  # the pooled embedding is read where it first stands
        pad_token_id=words.pad_token_id,
    )


def network(words: CLIPTokenizer) -> Network:
    """Return the untrained network: about 4 million parameters, most of them where the picture is small.

    Its lowest level has four cells each way, so that the rim of the picture, all that tells a convolution where it is,
    is never far.
    """
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(48, 80, 112),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=1,
        attention_head_dim=(1, 2, 4),  # diffusers reads it as the number of heads
        use_linear_projection=True,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",  # the prompt, pooled, scales every layer as well as shifting it
        cross_attention_dim=WIDTH_1 + WIDTH_2,
        time_embedding_dim=CONDITION,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH_2 + 6 * 8,
    )
    return Network(
        text_1=CLIPTextModel(_text_config(words, width=WIDTH_1, layers=2)),
        text_2=CLIPTextModelWithProjection(_text_config(words, width=WIDTH_2, layers=4)),
        unet=unet,
    )


def decoder() -> AutoencoderTiny:
    """Return the untrained autoencoder. Only its decoder is used; the encoder is the least the class allows.

    Of the decoder's blocks six work on cells and three on pixels, none between (``models.builtin.train.decoding``).
    """
    return AutoencoderTiny(
        latent_channels=CHANNELS,
        encoder_block_out_channels=(8, 8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1, 1),
        decoder_block_out_channels=(32, 32, 32, 32, 32),
        num_decoder_blocks=(6, 0, 0, 0, 3),
        scaling_factor=1.0,
    )


def scheduler() -> DPMSolverMultistepScheduler:
    """Return the scheduler, which clips its estimate of the clean latents to [-1, 1], where they all lie.

    diffusers reaches static clipping through dynamic thresholding (Saharia et al. 2022, arXiv:2205.11487) whose
    threshold may not exceed 1. The last step has no noise left to see, hence zero terminal SNR and trailing timesteps
    (Lin et al. 2024, arXiv:2305.08891).
    """
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        algorithm_type="dpmsolver++",
        solver_order=2,
        thresholding=True,
        sample_max_value=1.0,
        dynamic_thresholding_ratio=0.995,
        final_sigmas_type="zero",
    )


def encode(network: Network, words: CLIPTokenizer, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Return the embeddings of prompts as SDXL's pipeline computes them: by token, and pooled."""
    ids = words(prompts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").input_ids
    first = network.text_1(ids, output_hidden_states=True).hidden_states[-2]
    second = network.text_2(ids, output_hidden_states=True)
    return torch.cat([first, second.hidden_states[-2]], dim=-1), second.text_embeds


def pipeline(network: Network, words: CLIPTokenizer, vae: AutoencoderTiny) -> StableDiffusionXLPipeline:
    """Assemble the pipeline; a missing negative prompt means the empty one, on which the network was trained."""
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=network.text_1,
        text_encoder_2=network.text_2,
        tokenizer=words,
        tokenizer_2=words,
        unet=network.unet,
        scheduler=scheduler(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )

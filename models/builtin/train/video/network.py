"""The parts of the built-in video model, untrained, and the pipeline they make: Wan's classes, made small."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from torch import Tensor, nn
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from models.builtin.train.draw import BITS, KIND_BITS, marked, within
from models.builtin.train.video.clips import Clip

TOKENS = 24  # of a prompt, with its end
WIDTH = 128  # of the text encoder
CELL = 32  # pixels to a latent pixel, each way
GROUP = 4  # frames to a latent frame, but for the first, which stands for one
TOLD = (1, 3)  # frames of a group whose place is told; what lies between is drawn between
BACKGROUND, COLOUR, KIND = slice(0, 4), slice(4, 8), slice(8, 12)
PLACE = slice(12, 12 + 6 * len(TOLD))
CHANNELS = PLACE.stop
SHIFT = 3.0  # of the timesteps towards noise, as Wan 2.1 has it for 480p


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoNetwork:
    """What training changes."""

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
    """Return the untrained network: about 4 million parameters. A token is 64 by 64 pixels of four frames."""
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
            patch_size=(1, 2, 2),
            num_attention_heads=4,
            attention_head_dim=48,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            text_dim=WIDTH,
            freq_dim=64,
            ffn_dim=512,
            num_layers=6,
        ),
    )


def decoder() -> AutoencoderKLWan:
    """Return the untrained autoencoder. Only its decoder is used; the encoder is the least the class allows.

    Its attention says nothing and is not trained: what a pixel shows depends on what is near.
    """
    vae = AutoencoderKLWan(
        base_dim=2,
        decoder_base_dim=16,
        z_dim=CHANNELS,
        dim_mult=[2, 2, 4, 4],
        num_res_blocks=0,
        temperal_downsample=[False, True, True],
        patch_size=4,
        in_channels=48,
        out_channels=48,
        scale_factor_spatial=CELL,
        latents_mean=[0.0] * CHANNELS,
        latents_std=[1.0] * CHANNELS,
    )
    for parameter in vae.decoder.mid_block.attentions.parameters():
        nn.init.zeros_(parameter).requires_grad_(False)
    return vae


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


def latents(clips: Sequence[Clip], side: int) -> Tensor:
    """Return the latents of clips, (clips, CHANNELS, latent frames, side, side): what ``draw.latents`` says of things.

    Background, colour and kind are said everywhere, and the place in two frames of each group of four.
    """
    count = 1 + (len(clips[0].frames) - 1) // GROUP
    told = [0] * len(TOLD) + [1 + GROUP * group + frame for group in range(count - 1) for frame in TOLD]
    found = torch.empty(len(clips), CHANNELS, count, side, side)
    for own, clip in zip(found, clips, strict=True):
        first = clip.frames[0]
        words = (BITS[first.background], BITS[first.things[0].colour], KIND_BITS[first.things[0].kind])
        own[: PLACE.start] = torch.cat(words).view(-1, 1, 1, 1)
        across, down = within([clip.frames[frame].things[0] for frame in told], side, side)
        places = torch.cat([marked(axis.unsqueeze(1)) for axis in (across, down)], dim=1)
        own[PLACE] = places.reshape(count, -1, side, side).transpose(0, 1)
    return found


def pipeline(networks: VideoNetwork, words: T5Tokenizer, vae: AutoencoderKLWan) -> WanPipeline:
    """Assemble the pipeline."""
    return WanPipeline(
        tokenizer=words,
        text_encoder=networks.text,
        transformer=networks.transformer,
        vae=vae,
        scheduler=scheduler(),
    )

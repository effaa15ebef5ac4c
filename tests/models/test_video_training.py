"""Training of the built-in video model: what latents of clips say, and the decoder that is set by hand and trained."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from models.builtin.language import FRAMES, MOTIONS, clip_vocabulary
from models.builtin.moving import motion_of
from models.builtin.train.draw import pixels, within
from models.builtin.train.video import flow
from models.builtin.train.video.clips import Clip, draw_clip
from models.builtin.train.video.decoding import wire
from models.builtin.train.video.flow import FlowTraining
from models.builtin.train.video.latents import CHANNELS, GROUPS, WORDS, latents, words_of
from models.builtin.train.video.network import PAINT, decoder, tokenizer
from models.builtin.train.video.points import Form, Paint, U, V


def clip_of(motion: str, seed: int) -> Clip:
    """Return a clip whose prompt names this motion."""
    random = Random(seed)
    while motion not in (clip := draw_clip(random)).prompt:
        pass
    return clip


def drawn(clip: Clip) -> NDArray[np.uint8]:
    """Return the clip as it should look, (frames, height, width, 3)."""
    shown = (pixels(clip.frames, 256, 256) + 1) * 127.5
    return shown.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def seen_by_form(clips: list[Clip]) -> Tensor:
    """Return what a decoder that was only wired tells its first trained level, (clips, channels, frames, 64, 64)."""
    vae = decoder()
    wire(vae)
    seen: list[Tensor] = []

    def look(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0])

    vae.decoder.up_blocks[-2].register_forward_pre_hook(look)
    vae.decoder.up_blocks[-2].forward = lambda given, **_: given[:, :1]
    vae.decoder.up_blocks[-1].forward = lambda given, **_: given.expand(-1, PAINT, -1, -1, -1)
    with torch.no_grad():
        vae.decode(latents(clips))
    return torch.cat(seen, dim=2)


def test_latents_of_clips_lie_within_bounds() -> None:
    """The scheduler clips its estimates there; the words are at the bounds."""
    found = latents([draw_clip(Random(seed)) for seed in range(200)])
    assert found.shape == (200, CHANNELS, GROUPS, 1, 1)
    assert found.abs().max() <= 1
    assert (found[:, :WORDS].abs() == 1).all()


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_wired_decoder_knows_where_every_point_lies(motion: str) -> None:
    """In every frame, of which only two of four were told; to the rim; and nothing of it was learnt."""
    clip = clip_of(motion, 1)
    found = seen_by_form([clip])[0]
    assert found.shape[1] == FRAMES
    told = {0, 1, 4, 5, 8, 9, 12, 13, 16}
    for frame, scene in enumerate(clip.frames):
        u, v = within(scene.things, 64, 64)
        off = max(float((found[U, frame] - u).abs().max()), float((found[V, frame] - v).abs().max()))
        assert off < (1e-3 if frame in told else 0.15), f"frame {frame}"
        assert torch.allclose(found[:WORDS, frame], words_of(scene).view(-1, 1, 1), atol=1e-5)


@torch.no_grad()
def test_what_points_learn_is_what_the_video_decoder_draws() -> None:
    """Trained as matrices on points, a level gives each point the same as its convolutions."""
    torch.manual_seed(1)
    vae = decoder()
    wire(vae)
    form_block, paint_block = vae.decoder.up_blocks[-2:]
    form, paint = Form(form_block), Paint(paint_block, vae.decoder.norm_out, vae.decoder.conv_out)
    for learner in (form, paint):
        for parameter in learner.parameters():
            nn.init.normal_(parameter, std=0.3)
        learner.write()
    known = torch.randn(1, 21, 1, 6, 6)
    known[:, 17:] = 0
    finer = form_block(known)
    said = form(known[0, :17].flatten(1).T).T.view(7, 6, 6)
    each_pixel = unpatchify(finer[:, :4], 2)[0, :, 0]
    between = interpolate(said[None, :1], scale_factor=4, mode="bilinear")[0]
    assert torch.allclose(each_pixel[:, 2:-2, 2:-2], between[:, 2:-2, 2:-2], atol=1e-4)
    assert torch.allclose(finer[0, 4:10, 0, ::2, ::2], said[1:], atol=1e-4)
    assert (finer[0, 10] == 1).all()
    shown = vae.decoder.conv_out(silu(vae.decoder.norm_out(paint_block(finer))))
    learnt = paint(finer[0, :11].flatten(1).T).T.view(12, 12, 12)
    assert torch.allclose(shown[0, :, 0], learnt, atol=1e-4)


def test_video_training_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next step after a stop is the one that it would have been without."""
    monkeypatch.setattr(flow, "BATCH", 2)
    words = tokenizer(clip_vocabulary())
    first, second = (FlowTraining(tmp_path, words, seed=1, seconds=0.2) for _ in range(2))
    first.run(lambda _: None)
    second.resume()
    assert second.progress == first.progress
    assert second.progress.step > 0
    assert second._step() == first._step()


def test_every_word_of_clips_is_a_token() -> None:
    """And every word that a prompt of training has is one of those."""
    words, known = tokenizer(clip_vocabulary()), set(clip_vocabulary())
    for seed in range(100):
        prompt = draw_clip(Random(seed)).prompt
        assert set(prompt.split()) <= known
        assert len(words(prompt).input_ids) == len(prompt.split()) + 1


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_motion_of_a_drawn_clip_is_read_back(motion: str) -> None:
    """By a reader that shares no code with what draws."""
    for seed in range(3):
        clip = clip_of(motion, seed)
        assert motion_of(drawn(clip)) == motion, clip.prompt


def test_what_does_not_move_has_no_motion() -> None:
    """Nor what jumps about between its first place and its last."""
    frames = drawn(clip_of("moving right", 1))
    assert motion_of(frames[:1].repeat(FRAMES, axis=0)) is None
    jumping = frames.copy()
    jumping[FRAMES // 2] = frames[0]
    assert motion_of(jumping) is None

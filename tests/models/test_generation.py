"""The two families with real diffusers pipelines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.diffusion import DiffusionModel
from models.spec import Item
from tests.models.calls import call, ignore, item


class Stop(Exception):
    """What a test raises from ``on_step``."""


def test_a_picture_has_exactly_the_size_asked_for_off_the_grid(image_model: DiffusionModel) -> None:
    """257x301 lies on no grid; the array is (height, width, 3), uint8, contiguous."""
    (picture,) = image_model.generate(call(width=257, height=301), ignore)
    assert picture.shape == (301, 257, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous


def test_a_video_has_exactly_the_size_and_frames_asked_for(video_model: DiffusionModel) -> None:
    """16 frames, which Wan cannot make, of 257x301, which lies on no grid."""
    (video,) = video_model.generate(call(width=257, height=301, frames=16, steps=2), ignore)
    assert video.shape == (16, 301, 257, 3)
    assert video.dtype == np.uint8


@pytest.mark.parametrize("frames", [17, 18, 21])
def test_every_number_of_frames_is_delivered(video_model: DiffusionModel, frames: int) -> None:
    """Numbers of the form 4n+1 and others."""
    (video,) = video_model.generate(call(frames=frames, steps=1), ignore)
    assert len(video) == frames


def test_the_cut_takes_the_middle(image_model: DiffusionModel) -> None:
    """A picture off the grid is the next larger one without its edges."""
    (larger,) = image_model.generate(call(width=72, height=72), ignore)
    (smaller,) = image_model.generate(call(width=66, height=68), ignore)
    assert np.array_equal(smaller, larger[2:70, 3:69])


def test_the_same_seed_gives_the_same_frames(model: DiffusionModel) -> None:
    """Bit for bit, at the same shape of call."""
    (first,), (second,) = model.generate(call(), ignore), model.generate(call(), ignore)
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    "other", [item(2), item(1, prompt="a blue house"), item(1, negative_prompt="blurry"), item(1, guidance_scale=9.0)]
)
def test_everything_about_an_item_changes_its_frames(model: DiffusionModel, other: Item) -> None:
    """Seed, prompt, negative prompt and guidance scale all count."""
    (one,), (another,) = model.generate(call(item(1)), ignore), model.generate(call(other), ignore)
    assert not np.array_equal(one, another)


def test_neighbours_change_no_more_than_one_level(model: DiffusionModel) -> None:
    """Items that differ in everything, with and without guidance, look in one call as they do alone."""
    items = (item(1, 7.5), item(2, 1.0, "a blue house", "dark"), item(3, 3.3, "", "blurry"))
    together = model.generate(call(*items), ignore)
    for one, frames in zip(items, together, strict=True):
        (alone,) = model.generate(call(one), ignore)
        assert np.abs(alone.astype(int) - frames).max() <= 1


def test_at_one_batch_size_neighbours_change_nothing(model: DiffusionModel) -> None:
    """Exact reproducibility: bit for bit, in any place, beside whatever is in the other one."""
    first, _ = model.generate(call(item(1), item(2, 1.0)), ignore)
    _, second = model.generate(call(item(3, 9.0, "else"), item(1)), ignore)
    assert np.array_equal(first, second)


def test_in_exact_calls_a_picture_alone_is_the_picture_beside_others(image_model: DiffusionModel) -> None:
    """Bit for bit, though alone it is not alone: its call is filled with copies of it."""
    one, others = item(1, 7.5), (item(2, 1.0, "a blue house"), item(3, 3.3, "", "blurry"))
    alone = image_model.generate(call(one, one, one), ignore)
    together = image_model.generate(call(one, *others), ignore)
    assert np.array_equal(alone[0], together[0])


@pytest.mark.parametrize("normalised", [False, True])
def test_a_call_equals_the_pipeline_called_by_hand(load: Callable[[str], DiffusionModel], normalised: bool) -> None:
    """Nothing that this package does to guidance, noise and decoding changes what diffusers gives.

    Some models of SDXL's class have latents that are normalised channel by channel.
    """
    image_model = load("shapes")
    if normalised:
        image_model._pipeline.vae.register_to_config(
            latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[2.0, 1.0, 3.0, 4.0]
        )
    import torch
    from diffusers import StableDiffusionXLPipeline

    plain = StableDiffusionXLPipeline(**image_model._pipeline.components, add_watermarker=False)
    plain.set_progress_bar_config(disable=True)
    by_hand = plain(
        prompt="a red car",
        negative_prompt="",
        width=64,
        height=64,
        num_inference_steps=3,
        guidance_scale=7.3,
        generator=torch.Generator("cpu").manual_seed(1),
        output_type="pil",
    ).images[0]
    (ours,) = image_model.generate(call(item(1, 7.3)), ignore)
    assert np.array_equal(np.asarray(by_hand), ours)


def test_without_guidance_the_unconditional_half_is_not_computed(
    image_model: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call whose items all have the scale 1.0 costs half."""
    sizes: list[int] = []
    forward = image_model._pipeline.unet.forward

    def counted(sample: object, *arguments: object, **keywords: object) -> object:
        sizes.append(len(sample))  # type: ignore[arg-type]
        return forward(sample, *arguments, **keywords)

    monkeypatch.setattr(image_model._pipeline.unet, "forward", counted)
    image_model.generate(call(item(1, 1.0), item(2, 1.0), steps=1), ignore)
    image_model.generate(call(item(1, 1.0), item(2, 1.5), steps=1), ignore)
    assert sizes == [2, 4]


def test_every_step_is_reported(model: DiffusionModel) -> None:
    """From 1 to the number of steps."""
    seen: list[tuple[int, int]] = []
    model.generate(call(steps=4), lambda step, steps: seen.append((step, steps)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("error", [Stop(), RuntimeError("CUDA error: out of memory"), KeyboardInterrupt()])
def test_what_on_step_raises_comes_out_unchanged_and_the_next_run_is_equal(
    model: DiffusionModel, error: BaseException
) -> None:
    """The very exception, whatever it looks like, no further step, and no trace of it in the model."""
    (before,) = model.generate(call(), ignore)
    seen: list[int] = []

    def stop_at_two(step: int, steps: int) -> None:
        seen.append(step)
        if step == 2:
            raise error

    with pytest.raises(type(error)) as raised:
        model.generate(call(item(5), item(6)), stop_at_two)
    assert raised.value is error
    assert seen == [1, 2]
    (after,) = model.generate(call(), ignore)
    assert np.array_equal(before, after)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_half_precision_gives_nearly_the_same_picture(
    image_model: DiffusionModel,
    random_weights: Callable[[str], Path],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a card: half precision throughout, the VAE in float32, guidance scales that half precision cannot hold."""
    import dataclasses

    import torch

    from models.sdxl import StableDiffusionXL

    monkeypatch.setattr("models.device.dtype", lambda device, name: getattr(torch, name))
    half = StableDiffusionXL.load(
        spec=dataclasses.replace(image_model.spec, dtype=name),
        folder=random_weights("shapes"),
        device=torch.device("cpu"),
    )
    assert half._pipeline.unet.dtype is getattr(torch, name)
    items = (item(1, 7.3), item(2, 1.0))
    for exact, rounded in zip(
        image_model.generate(call(*items), ignore), half.generate(call(*items), ignore), strict=True
    ):
        assert np.abs(exact.astype(int) - rounded).mean() < 3.0

"""What goes wrong inside a pipeline, and what a caller gets to see of it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from models.diffusion import DiffusionModel
from models.errors import BadOutput, DeviceLost, GenerationFailed, ModelError, OutOfMemory
from tests.models.calls import call, ignore


@pytest.fixture
def last_layer(model: DiffusionModel) -> Iterator[torch.nn.Module]:
    """The last layer of the real decoder, whose weights a test may break; mended afterwards."""
    layer: torch.nn.Module = model._pipeline.vae.decoder.conv_out
    whole = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    yield layer
    layer.load_state_dict(whole)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_output_that_is_not_finite_is_refused(model: DiffusionModel, last_layer: torch.nn.Module, value: float) -> None:
    """One broken weight of the decoder makes broken pixels; such a picture is never delivered."""
    with torch.no_grad():
        next(last_layer.parameters()).flatten()[0] = value
    with pytest.raises(BadOutput, match="not finite"):
        model.generate(call(frames=5 if model.spec.frame_grid > 1 else 1), ignore)


def test_output_of_one_colour_is_refused(model: DiffusionModel, last_layer: torch.nn.Module) -> None:
    """A decoder whose last layer is all zero gives grey, in every frame."""
    with torch.no_grad():
        for parameter in last_layer.parameters():
            parameter.zero_()
    with pytest.raises(BadOutput, match=r"all one colour \(red, green, blue = 128, 128, 128\)"):
        model.generate(call(frames=5 if model.spec.frame_grid > 1 else 1), ignore)


def raising(error: Exception) -> Callable[..., NoReturn]:
    """Return a ``forward`` that raises."""

    def forward(*arguments: Any, **keywords: Any) -> NoReturn:
        raise error

    return forward


def denoiser(model: DiffusionModel) -> torch.nn.Module:
    """Return the network that runs at every step."""
    network: torch.nn.Module = model._pipeline.components.get("unet") or model._pipeline.transformer
    return network


TRANSLATIONS: list[tuple[Exception, type[ModelError]]] = [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has"), OutOfMemory),
    (RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GiB)"), OutOfMemory),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), OutOfMemory),
    (torch.AcceleratorError("CUDA error: out of memory"), OutOfMemory),
    (MemoryError(), OutOfMemory),
    (torch.AcceleratorError("CUDA error: device-side assert triggered\nCUDA kernel errors might be"), DeviceLost),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceLost),
    (RuntimeError("CUDA error: uncorrectable ECC error encountered"), DeviceLost),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)"), GenerationFailed),
    (ValueError("something else\nwith details"), GenerationFailed),
]


@pytest.mark.parametrize(("error", "expected"), TRANSLATIONS, ids=lambda value: str(value)[:30])
def test_what_a_component_raises_is_named_by_what_to_do(
    model: DiffusionModel,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    expected: type[ModelError],
) -> None:
    """The original is the cause, the message is one line, and the model works again afterwards."""
    with monkeypatch.context() as patch:
        patch.setattr(denoiser(model), "forward", raising(error))
        with pytest.raises(expected) as raised:
            model.generate(call(), ignore)
    assert raised.value.__cause__ is error
    assert "\n" not in str(raised.value)
    assert model.generate(call(steps=1), ignore)


def test_the_words_for_lack_of_memory_say_what_was_asked(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real failure of the real allocator: a tensor of a petabyte."""
    monkeypatch.setattr(denoiser(model), "forward", lambda *_, **__: torch.empty(2**50, dtype=torch.uint8))
    with pytest.raises(OutOfMemory, match=r"^CPU Out of Memory during (image|video) generation \(64x64"):
        model.generate(call(), ignore)


def test_after_lack_of_memory_no_tensor_of_the_call_is_kept_alive(
    image_model: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the caller holds the exception, and with it the frames in which the tensors were local variables."""
    kept: list[weakref.ref[torch.Tensor]] = []

    def forward(sample: torch.Tensor, *arguments: Any, **keywords: Any) -> NoReturn:
        kept.append(weakref.ref(sample))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(image_model._pipeline.unet, "forward", forward)
    with pytest.raises(OutOfMemory) as raised:
        image_model.generate(call(), ignore)
    gc.collect()
    assert raised.value.__cause__ is not None
    assert {reference() for reference in kept} == {None}


def test_a_video_may_begin_with_one_colour() -> None:
    """Only when every frame has one and the same colour is there nothing to see."""
    from models.pixels import frames_from

    fade = torch.stack([torch.full((3, 8, 8), level) for level in (0.0, 0.5)])
    frames = frames_from(fade, frames=2, height=8, width=8)
    assert np.unique(frames).tolist() == [0, 128]

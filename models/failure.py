"""What torch and diffusers raise, translated into ``models.errors``: named by what the caller can do about it."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import torch

from models.errors import DeviceLost, GenerationFailed, ModelError, OutOfMemory

if TYPE_CHECKING:
    from models.spec import Call, Task

# Besides torch.OutOfMemoryError: MPS and the CPU raise a RuntimeError; cuBLAS and cuDNN report their own codes.
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
# A CUDA context stays poisoned after one of these ("sticky" errors in CUDA's runtime documentation), and torch before
# 2.8 raises them as plain RuntimeErrors. AcceleratorError carries the same words.
_POISON_WORDS = (
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "unspecified launch failure",
    "launch timed out",
    "uncorrectable ECC error",
    "hardware stack error",
    "device is lost",
    "fell off the bus",
    "unknown error",
)


def translate(error: Exception, *, task: Task, call: Call, device: torch.device) -> ModelError:
    """Return the error to raise, for the person who reads the failed document; the original is to be its cause.

    For lack of memory the frames of the traceback are cleared as well: their locals would keep the tensors of the
    failed call alive for as long as anyone keeps the exception.
    """
    if isinstance(error, ModelError):
        return error
    work = _work(task)
    if is_out_of_memory(error):
        traceback.clear_frames(error.__traceback__)
        return OutOfMemory(too_large(task=task, call=call, device=device))
    if is_device_lost(error):
        return DeviceLost(f"Device {device} was lost during {work}: {first_line(error)}")
    return GenerationFailed(f"{type(error).__name__} during {work}: {first_line(error)}")


def too_large(*, task: Task, call: Call, device: torch.device) -> str:
    """What to say of a call for which the memory does not suffice."""
    frames = f", {call.frames} frames" if call.frames > 1 else ""
    at_once = f", {len(call.items)} at once" if len(call.items) > 1 else ""
    return (
        f"{device.type.upper()} Out of Memory during {_work(task)} ({call.width}x{call.height}{frames}{at_once}): "
        "ask for a smaller size or fewer frames, or use a device with more memory"
    )


def _work(task: Task) -> str:
    return f"{'video' if task.value == 'text2video' else 'image'} generation"


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device's memory, or the machine's, did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY_WORDS)


def is_device_lost(error: Exception) -> bool:
    """Whether no later call on this device can succeed in this process."""
    accelerator_error = getattr(torch, "AcceleratorError", ())  # since torch 2.8
    if isinstance(error, accelerator_error):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and "CUDA" in text and any(words in text for words in _POISON_WORDS)


def first_line(error: Exception) -> str:
    """Return the first line of the message, at most 200 characters; the rest of torch's are advice on debugging."""
    return (str(error).strip().partition("\n")[0] or "no message")[:200]

"""What ``models.spec.Speed`` asks for, done to a process and to a pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import DeviceUnfit
from models.spec import Attention, Compile, Speed

if TYPE_CHECKING:
    import torch

BACKEND = "inductor"  # torch's compiler


def prepare(speed: Speed, *, cache_dir: Path) -> None:
    """Set what torch and diffusers read from the environment once, when they are imported; what is set already stays.

    What is compiled lies in ``cache_dir``, so that a restart finds it. Several processes may share it: inductor writes
    beside and renames (https://docs.pytorch.org/tutorials/recipes/torch_compile_caching_configuration_tutorial.html).
    """
    os.environ.setdefault("HF_ENABLE_PARALLEL_LOADING", "yes" if speed.parallel_loading else "no")
    if speed.compile is not Compile.OFF:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((cache_dir / "compiled").absolute()))
        os.environ.setdefault("TORCHINDUCTOR_FX_GRAPH_CACHE", "1")


def apply(speed: Speed, *, network: Any, pictures: Iterable[Any], device: torch.device) -> bool:
    """Set up a loaded model: ``network`` is what denoises, ``pictures`` its modules that convolve over pictures.

    Returns whether its first calls will compile something.

    Raises:
        DeviceUnfit: this way of attention cannot be had here, with the reason.
    """
    import torch

    if speed.channels_last or (speed.channels_last is None and device.type == "cuda"):
        for module in pictures:
            module.to(memory_format=torch.channels_last)
    if speed.attention is not Attention.DEFAULT:
        _attend(network, speed.attention, device)
    cached = speed.step_cache > 0 and _keep_steps(network, speed.step_cache)
    # The cache gives each block a function of its own, and torch would compile every one of them by itself.
    compiles = speed.compile is Compile.REGIONAL and not cached
    if compiles:
        # Sizes and batches differ from job to job: for each, torch would compile anew.
        network.compile_repeated_blocks(backend=BACKEND, dynamic=True)
    return compiles


def _keep_steps(network: Any, share: float) -> bool:
    """Let a network reuse a step's work (https://huggingface.co/docs/diffusers/optimization/cache), if it can."""
    from diffusers import CacheMixin, FirstBlockCacheConfig

    if not isinstance(network, CacheMixin):
        return False
    network.enable_cache(FirstBlockCacheConfig(threshold=share))
    return True


def _attend(network: Any, attention: Attention, device: torch.device) -> None:
    """Choose how the network attends, and try it on something small, so that a wrong choice shows before a job."""
    import torch
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    from models.attention import dispatched

    try:
        dispatched(network)
        network.set_attention_backend(attention.value)
        little = torch.ones(1, 64, 2, 64, dtype=network.dtype, device=device)
        attended = dispatch_attention_fn(little, little, little, backend=attention.value)
        if not torch.isfinite(attended).all():  # which waits for the device, too
            raise RuntimeError("it computes no numbers")
    except (RuntimeError, ValueError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DeviceUnfit(f"Attention {attention.value!r} cannot be had on {device}: {reason}") from error

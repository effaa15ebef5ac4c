"""Which device computes, whether it is fit to, and how much memory it has left."""

from __future__ import annotations

import torch

from models import machine
from models.errors import DeviceUnfit
from models.spec import Memory

GIBIBYTE = 2**30  # bytes


def choose(wanted: str | None = None) -> torch.device:
    """Return the device named by ``wanted`` ("cuda", "cuda:1", "mps", "cpu"), else CUDA, else MPS, else the CPU.

    Raises:
        DeviceUnfit: ``wanted`` names no device of this machine. Nothing else is taken in its place: a daemon that
            was meant for a card and quietly computes on the CPU would hold jobs for hours.
    """
    if wanted is None:
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(kind)
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = torch.device("meta")
    match device.type:
        case "cpu":
            return device
        case "cuda":
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            if (device.index or 0) < count:
                return device
            raise DeviceUnfit(
                f"Device {wanted} is not visible: torch {torch.__version__} sees {count} CUDA device(s). "
                "Check nvidia-smi, the driver, and that this torch is a CUDA build."
            )
        case "mps":
            if torch.backends.mps.is_available():
                return device
            raise DeviceUnfit("Device mps is not available: it needs Apple silicon and a torch built for it.")
        case _:
            raise DeviceUnfit(f"Device {wanted!r} is not known: use cuda, cuda:N, mps or cpu.")


def dtype(device: torch.device, name: str) -> torch.dtype:
    """Return the torch dtype called ``name``, and float32 on a CPU, where half precision is slower and not exact."""
    if device.type == "cpu":
        return torch.float32
    return {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}[name]


def memory(device: torch.device) -> Memory:
    """Return the device's memory now; for a CPU, that of the machine."""
    match device.type:
        case "cuda":
            free, total = torch.cuda.mem_get_info(device)
            cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return Memory(free=free + cached, total=total)
        case "mps":
            total = torch.mps.recommended_max_memory()
            return Memory(free=max(0, total - torch.mps.current_allocated_memory()), total=total)
        case _:
            return machine.memory()


def release_memory(device: torch.device) -> None:
    """Give memory that torch caches back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def probe(device: torch.device) -> str:
    """Compute something small whose result is known, and return the device in words for the log.

    Raises:
        DeviceUnfit: the device fails at it, or its result is wrong; the message says how.
    """
    try:
        # 64 products of 1 and 2 add up to 128 in every entry, exactly in every dtype.
        product = torch.ones(64, 64, device=device) @ torch.full((64, 64), 2.0, device=device)
        correct = bool((product == 128.0).all())
        left = memory(device)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise DeviceUnfit(f"Device {device} does not compute: {reason}") from error
    if not correct:
        raise DeviceUnfit(f"Device {device} computes wrongly: a small matrix product came out wrong.")
    name = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
    return f"{name}, {left.free / GIBIBYTE:.1f} of {left.total / GIBIBYTE:.1f} GiB free"


def use_threads(count: int) -> None:
    """Bound the threads that torch computes with on a CPU."""
    torch.set_num_threads(count)

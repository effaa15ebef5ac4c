"""What of a machine matters to models, for a person who sets one up. Each raises ``ModelError`` with what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from models import device as devices
from models import weights
from models.device import GIBIBYTE
from models.errors import DeviceUnfit, OutOfMemory

if TYPE_CHECKING:
    from models.spec import Memory, ModelSpec

ANSWER_WITHIN = 20.0  # seconds for the driver to answer; a broken one hangs
LEAST = {"cpu": 1 * GIBIBYTE}  # bytes that must be free on a device, for the smallest model there is
LEAST_OF_A_CARD = 2 * GIBIBYTE
SMI = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")


def device(wanted: str | None) -> str:
    """Choose the device as a worker would, and let it compute.

    Raises:
        DeviceUnfit: as in ``models.device``.
    """
    return devices.probe(devices.choose(wanted))


def driver(wanted: str | None, *, command: tuple[str, ...] = SMI) -> str:
    """Ask the NVIDIA driver, where there is one.

    Raises:
        DeviceUnfit: it does not answer, or torch cannot use the card that it shows.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_WITHIN, check=False)  # noqa: S603
    except FileNotFoundError:
        return "no NVIDIA driver, none needed"  # a device that needs it would not have been chosen
    except subprocess.TimeoutExpired as error:
        raise DeviceUnfit(f"The NVIDIA driver does not answer within {ANSWER_WITHIN:g} s: sudo reboot") from error
    said = " ".join((done.stdout or done.stderr).split())
    if done.returncode != 0:
        raise DeviceUnfit(f"The NVIDIA driver does not work: {said}. Install it anew, or: sudo reboot")
    if devices.choose(wanted).type == "cpu" and wanted is None:
        raise DeviceUnfit(
            f"There is a card ({said}), but torch {torch.__version__} cannot use it: "
            "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126"
        )
    return f"{said}; torch {torch.__version__}"


def memory(wanted: str | None) -> str:
    """Look at what is free on the device.

    Raises:
        OutOfMemory: too little for any model.
    """
    chosen = devices.choose(wanted)
    return enough(devices.memory(chosen), chosen.type)


def enough(found: Memory, kind: str) -> str:
    """Whether a device's memory suffices for anything at all.

    Raises:
        OutOfMemory: it does not.
    """
    said = f"{found.free / GIBIBYTE:.1f} of {found.total / GIBIBYTE:.1f} GiB free"
    if found.free < LEAST.get(kind, LEAST_OF_A_CARD):
        show = "nvidia-smi" if kind == "cuda" else "ps aux --sort=-rss | head"
        raise OutOfMemory(f"Only {said}: end what uses it, `{show}` shows what")
    return said


def cached(spec: ModelSpec, *, cache_dir: Path) -> str:
    """Look for a model's weights on this machine; nothing is fetched.

    Raises:
        ModelMissing: they are not here, or damaged.
    """
    if spec.builtin is None and spec.path is None and spec.repository is None:
        return f"{spec.name}: no weights needed"
    folder = weights.folder(spec, cache_dir=cache_dir, local_files_only=True, on_load=lambda _: None)
    return f"{spec.name}: {weights.parameters(folder, spec.variant) / 1e6:,.1f} million weights"

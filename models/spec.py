"""The values that describe a model and one call of it: data only, no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]


class Task(StrEnum):
    """What a model makes of a prompt. The values are the contract's ``task_type``."""

    TEXT2IMAGE = "text2image"
    TEXT2VIDEO = "text2video"


class Family(StrEnum):
    """Which pipeline class runs the model; each has one file in this package."""

    SDXL = "sdxl"
    WAN = "wan"
    NULL = "null"  # no model: sleeps and paints, for benchmarks and for tests of everything around a model


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """An inclusive range of legal values."""

    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One entry of the catalogue.

    ``repository`` with its pinned ``revision`` names weights on the Hugging Face hub; ``path`` names a local folder in
    diffusers' layout instead, and ``builtin`` one that easeld ships. Exactly one of the three is set, and none for the
    null family, which has no weights.
    """

    name: str
    task: Task
    family: Family
    repository: str | None = None
    revision: str | None = None
    variant: str | None = None  # file variant on the hub, "fp16" for example
    path: Path | None = None
    builtin: str | None = None  # name of a folder in models.builtin
    dtype: str = "bfloat16"  # torch dtype on CUDA and MPS; a CPU always computes in float32
    size_grid: int = 8  # pixels: width and height are generated on multiples of it and cropped to what was asked
    frame_grid: int = 1  # frames: the model makes ``frame_grid * n + 1`` of them, the surplus is dropped
    width: Range = Range(minimum=256, maximum=1024)  # pixels
    height: Range = Range(minimum=256, maximum=1024)  # pixels
    guidance: Range = Range(minimum=1.0, maximum=20.0)
    max_batch: int = 8  # items in one pipeline call, before memory is considered
    step_seconds: float = 0.0  # how long the null family sleeps for each step of a call


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One picture or one video of a call. Items of a call may differ in everything here."""

    prompt: str
    negative_prompt: str  # "" for none
    seed: int  # chosen by us: 0 <= seed < 2**32; a client may ask for any that JavaScript reads exactly, and below 0
    guidance_scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One pipeline call: what its items share, and the items."""

    width: int  # pixels, as asked; need not be on the model's grid
    height: int  # pixels
    steps: int
    frames: int = 1  # as asked; 1 for a picture
    items: tuple[Item, ...]
    on_look: OnLook | None = field(default=None, compare=False, repr=False)
    on_warning: OnWarning | None = field(default=None, compare=False, repr=False)


class Compile(StrEnum):
    """What torch compiles of a model before its first job."""

    OFF = "off"
    REGIONAL = "regional"  # the blocks that its network repeats: seconds to minutes once, and kept in the cache


class Attention(StrEnum):
    """How attention is computed, in diffusers' own names (``diffusers.models.attention_dispatch``).

    Its kernels that are fetched from the hub while running are left out: they are code that nobody pinned.
    """

    DEFAULT = "default"  # the processor that diffusers itself chooses
    NATIVE = "native"  # torch chooses among the four below
    CUDNN = "_native_cudnn"
    EFFICIENT = "_native_efficient"
    TORCH_FLASH = "_native_flash"
    MATH = "_native_math"
    FLASH = "flash"  # the package flash-attn
    FLASH_3 = "_flash_3"  # its third version, built from source for Hopper cards
    SAGE = "sage"  # the package sageattention: eight bits, so a seed gives another picture
    XFORMERS = "xformers"  # the package xformers


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How models are made fast on their device.

    Nothing here but ``Attention.SAGE`` and ``step_cache`` changes what a seed shows.
    """

    compile: Compile = Compile.OFF
    attention: Attention = Attention.DEFAULT
    channels_last: bool | None = None  # of convolutions over pictures; None: on CUDA
    prompts_kept: int = (
        64  # encoded texts of each model: 0.3 MB of SDXL's and 4 MB of Wan's in half precision, in the machine's memory
    )
    parallel_loading: bool = True  # of weights that are in several files
    step_cache: float = 0.0  # of a first block's work; a step in which less of it changed reuses the other blocks'

    def altering(self, family: Family) -> dict[str, str]:
        """The settings that change what a seed shows with models of a family, and how they are set."""
        found = {}
        if self.attention is Attention.SAGE:
            found["attention"] = str(self.attention)
        if self.step_cache > 0 and family is Family.WAN:
            found["step_cache"] = f"{self.step_cache:g}"
        return found


OnStep = Callable[[int, int], None]
"""``on_step(step, steps)`` is called after each denoising step, 1-based. Whatever it raises stops the call at once and
reaches the caller unchanged; the model stays usable."""

OnLook = Callable[[Callable[[], "Sequence[Frames]"]], None]
"""``on_look(paint)`` is called after each step, before ``on_step``, by models that can show what forms. ``paint()``
gives one small picture for each item, uint8 of the shape (rows, columns, 3); the device finishes the step for it."""

OnWarning = Callable[[int, str], None]
"""``on_warning(index, what)`` is called before the first step where an item, counted from 0, cannot have all that it
asks for: words that the model does not know, say. ``what`` is for the client."""

OnLoad = Callable[[str], None]
"""``on_load(what)`` is called while a model loads, with a few words for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A device's memory in bytes. ``free`` counts what torch has cached and would use again."""

    free: int
    total: int


class Resident(Protocol):
    """A loaded model. Not thread safe: one thread, the device's, calls it."""

    @property
    def spec(self) -> ModelSpec: ...

    def generate(self, call: Call, on_step: OnStep) -> Sequence[Frames]:
        """Run the call and return one uint8 array for each item, in order.

        Shapes: ``(height, width, 3)`` for a picture, ``(frames, height, width, 3)`` for a video, RGB, exactly the size
        and number of frames that the call asks for.

        Raises:
            OutOfMemory: the device's memory does not suffice; the model stays usable.
            BadOutput: a frame is not finite, or all frames are one colour.
            DeviceLost: the device's context is poisoned; only a new process can mend it.
            GenerationFailed: anything else that the pipeline raised.
        """
        ...


class ModelKeeper(Protocol):
    """Keeps loaded models on one device."""

    def resident(self, spec: ModelSpec, on_load: OnLoad) -> Resident:
        """Return the model, loading it first where it is not loaded.

        Raises:
            ModelMissing: its weights are not to be had, with what to do.
            OutOfMemory, DeviceLost: as in ``Resident.generate``.
            DeviceUnfit: the device that was asked for is not there.
        """
        ...

    def is_resident(self, name: str) -> bool: ...

    def memory(self) -> Memory | None:
        """The device's memory, from any thread; ``None`` while no model has needed a device, or it cannot tell."""
        ...

    def close(self) -> None: ...

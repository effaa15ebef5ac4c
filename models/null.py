"""No model at all: sleeps for each step and paints something quickly. For benchmarks and tests of the daemon."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from models.spec import Task

if TYPE_CHECKING:
    from models.spec import Call, Frames, Item, ModelSpec, OnStep


class Null:
    """Implements ``models.spec.Resident`` without torch. A call takes ``steps * step_seconds``, whatever its items."""

    def __init__(self, *, spec: ModelSpec) -> None:
        self._spec = spec

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def generate(self, call: Call, on_step: OnStep) -> Sequence[Frames]:
        """As ``Resident.generate`` says; raises nothing of its own."""
        began = time.monotonic()
        painted = [self._painted(item, call) for item in call.items]  # first, so that it is part of the call's time
        for step in range(1, call.steps + 1):
            # To a moment and not for a time: what each sleep takes too long would add up.
            time.sleep(max(0.0, began + step * self._spec.step_seconds - time.monotonic()))
            if call.on_look is not None:
                call.on_look(partial(self._forming, call, step / call.steps))
            on_step(step, call.steps)
        return painted

    def _forming(self, call: Call, share: float) -> Sequence[Frames]:
        """Every eighth pixel of the first frame, as bright as the call is far."""
        pictures = [self._painted(item, replace(call, frames=1)) for item in call.items]
        still = [picture if picture.ndim == 3 else picture[0] for picture in pictures]
        return [(picture[::8, ::8] * share).astype(np.uint8) for picture in still]

    def _painted(self, item: Item, call: Call) -> Frames:
        """A part of one large gradient, marked with a number made of prompt and seed; a video scrolls through it.

        Copying is all that happens: painting afresh would take a noticeable part of a benchmark's time.
        """
        number = zlib.crc32(f"{item.seed} {item.prompt}".encode())
        gradient = _gradient(call.width, call.height)
        offsets = [(number + frame) % _SCROLL for frame in range(call.frames)]
        frames = np.stack([gradient[offset : offset + call.height] for offset in offsets])
        frames[:, 0, :4, 0] = list(number.to_bytes(4, "big"))
        return frames[0] if self._spec.task is Task.TEXT2IMAGE else frames


_SCROLL = 128  # rows by which a picture can be moved


@lru_cache(maxsize=8)  # sizes
def _gradient(width: int, height: int) -> Frames:
    rows, columns = np.mgrid[0 : height + _SCROLL, 0:width]
    return np.stack([columns, rows, rows + columns], axis=-1).astype(np.uint8)

"""No model at all: sleeps for each step and paints something quickly. For benchmarks and tests of the daemon."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
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
        for step in range(1, call.steps + 1):
            if self._spec.step_seconds:
                time.sleep(self._spec.step_seconds)
            on_step(step, call.steps)
        return [self._painted(item, call) for item in call.items]

    def _painted(self, item: Item, call: Call) -> Frames:
        """Two gradients whose offset the prompt and the seed choose; the third channel tells the frames apart."""
        offset = zlib.crc32(f"{item.seed} {item.prompt}".encode()) % 256
        frames = np.empty((call.frames, call.height, call.width, 3), dtype=np.uint8)
        frames[..., 0] = (np.arange(call.width) + offset).astype(np.uint8)
        frames[..., 1] = (np.arange(call.height) + offset // 2).astype(np.uint8)[:, np.newaxis]
        frames[..., 2] = (np.arange(call.frames) * 8 + item.seed % 256).astype(np.uint8)[:, np.newaxis, np.newaxis]
        return frames[0] if self._spec.task is Task.TEXT2IMAGE else frames

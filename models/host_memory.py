"""The second tier of memory: models that had to leave their device wait in the machine's, and are back sooner."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.diffusion import DiffusionModel

SPARE = 4 * 2**30  # bytes that stay free for everything else: encoding, uploads, other processes


class HostMemory:
    """Keeps models as far as ``most`` bytes, and ``free``, those left of the machine's memory, allow.

    The longest there leaves first. Not thread safe, like the keeper that owns it.
    """

    def __init__(self, most: Callable[[], int], free: Callable[[], int]) -> None:
        self._most = most
        self._free = free
        self._models: OrderedDict[str, DiffusionModel] = OrderedDict()

    @property
    def names(self) -> tuple[str, ...]:
        """The models that wait, the longest there first."""
        return tuple(self._models)

    def put(self, model: DiffusionModel, *, coming: int) -> bool:
        """Take a model off its device, where there is room for it beside ``coming`` bytes that are to be loaded.

        Returns whether there was. Where moving it fails the model is of no more use.

        Raises:
            RuntimeError, MemoryError: as torch raises them while the weights move.
        """
        size, most = model.weight_bytes, self._most()
        if size > most:
            return False
        while sum(other.weight_bytes for other in self._models.values()) > most - size:
            self._drop_one()
        if not self.make_room(coming + (0 if model.is_offloaded else size)):
            return False
        model.leave_device()
        self._models[model.spec.name] = model
        return True

    def take(self, name: str) -> DiffusionModel | None:
        """Hand over a model that waits here; it is still to be brought back onto its device."""
        return self._models.pop(name, None)

    def make_room(self, size: int) -> bool:
        """Let go of models until ``size`` bytes are free besides the spare ones; whether they are."""
        while self._free() < size + SPARE:
            if not self._models:
                return False
            self._drop_one()
        return True

    def clear(self) -> None:
        """Let go of every model."""
        self._models.clear()

    def _drop_one(self) -> None:
        self._models.popitem(last=False)
        gc.collect()  # a pipeline's modules refer to one another

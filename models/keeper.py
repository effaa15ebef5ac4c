"""Keeps loaded models on one device: loaded once, and the least recently used leaves when memory is short.

It leaves for the machine's memory where that has room, which is quicker to come back from than the disk.

Importing this imports no torch; that happens when the first model is loaded, and never for the null family.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from models import machine, weights
from models.errors import DeviceLost, OutOfMemory
from models.host_memory import HostMemory
from models.null import Null
from models.spec import Family, Speed
from models.speed import prepare

if TYPE_CHECKING:
    import torch

    from models.diffusion import DiffusionModel
    from models.spec import Memory, ModelSpec, OnLoad, Resident

WORKING_MEMORY = 2 * 2**30  # bytes: what a call needs besides the weights, at the least


class Keeper:
    """Implements ``models.spec.ModelKeeper``. Not thread safe: one thread, the device's, calls it.

    Whoever holds on to a ``Resident`` keeps its memory from being freed: ask for it anew for each call.
    """

    def __init__(
        self,
        *,
        cache_dir: Path,
        device: str | None = None,
        threads: int | None = None,
        local_files_only: bool = False,
        free_memory: Callable[[], int] | None = None,
        host_memory: int | None = None,
        free_host_memory: Callable[[], int] | None = None,
        speed: Speed = Speed(),  # noqa: B008 - it cannot change
    ) -> None:
        """Load nothing yet.

        ``cache_dir`` is for what is made here, compiled code for one; ``device`` is as in ``models.device.choose``;
        ``threads`` bounds what torch uses of a CPU, its own choice by default;
        ``local_files_only`` forbids fetching from the hub; ``free_memory`` tells the bytes left on the device, which
        are the device's own figure by default; ``host_memory`` bounds the bytes of models that wait in the machine's
        memory, by default this card's share of the half of it, and nothing where the device is no card;
        ``free_host_memory`` tells the bytes left of it, the machine's figure by default; ``speed`` is every model's.
        """
        self._cache_dir = cache_dir
        self._wanted_device = device
        self._threads = threads
        self._local_files_only = local_files_only
        self._free_memory = free_memory
        self._speed = speed
        self._device: torch.device | None = None
        self._residents: OrderedDict[str, Null | DiffusionModel] = OrderedDict()  # the least recently used first
        self._host = HostMemory(
            self._host_share if host_memory is None else lambda: host_memory,
            free_host_memory or (lambda: machine.memory().free),
        )

    @property
    def resident_names(self) -> tuple[str, ...]:
        """The loaded models, the least recently used first."""
        return tuple(self._residents)

    @property
    def waiting_names(self) -> tuple[str, ...]:
        """The models that wait in the machine's memory, the longest there first."""
        return self._host.names

    def is_resident(self, name: str) -> bool:
        return name in self._residents

    def resident(self, spec: ModelSpec, on_load: OnLoad) -> Resident:
        """As ``ModelKeeper.resident`` says.

        Raises:
            DeviceUnfit: the device that was asked for is not there.
        """
        if spec.name not in self._residents:
            self._residents[spec.name] = self._brought(spec, on_load)
        self._residents.move_to_end(spec.name)
        return self._residents[spec.name]

    def memory(self) -> Memory | None:
        """As ``ModelKeeper.memory`` says."""
        if self._device is None:
            return None
        from models import device as devices

        try:
            return devices.memory(self._device)
        except RuntimeError:  # a lost device tells nothing
            return None

    def close(self) -> None:
        """Let go of every model."""
        self._residents.clear()
        self._host.clear()

    def _brought(self, spec: ModelSpec, on_load: OnLoad) -> Null | DiffusionModel:
        """Bring a model onto the device: from host memory, else from its weights."""
        if spec.family is Family.NULL:
            return Null(spec=spec)
        waiting = self._host.take(spec.name)
        if waiting is None:
            return self._loaded(spec, on_load)

        def back() -> DiffusionModel:
            on_load(f"{spec.name}: bringing {waiting.weight_bytes / 2**30:.1f} GiB of weights back from host memory")
            waiting.enter_device()
            return waiting

        return self._fitted(spec, back, on_load, size=waiting.weight_bytes, from_disk=0)

    def _loaded(self, spec: ModelSpec, on_load: OnLoad) -> DiffusionModel:
        from models.quiet import quiet_libraries

        prepare(self._speed, cache_dir=self._cache_dir)
        on_load(f"{spec.name}: starting torch and diffusers")
        quiet_libraries()
        from models import device as devices

        device = self._device = devices.choose(self._wanted_device)
        if self._threads is not None:
            devices.use_threads(self._threads)
        if device.type == "cpu":
            machine.keep_freed_memory()
        folder = weights.folder(
            spec, cache_dir=self._cache_dir, local_files_only=self._local_files_only, on_load=on_load
        )
        size = weights.parameters(folder, spec.variant) * devices.dtype(device, spec.dtype).itemsize

        def load() -> DiffusionModel:
            on_load(f"{spec.name}: loading {size / 2**30:.1f} GiB of weights onto {device}")
            make_room = partial(self._make_room, spec.name)
            model = _family(spec.family).load(
                spec=spec, folder=folder, device=device, make_room=make_room, speed=self._speed
            )
            if model.compiles:
                on_load(f"{spec.name}: compiling, which takes minutes where it was not compiled before")
                model.warm_up()
            return model

        self._host.make_room(size)
        return self._fitted(spec, load, on_load, size=size, from_disk=size)

    def _fitted(
        self, spec: ModelSpec, bring: Callable[[], DiffusionModel], on_load: OnLoad, *, size: int, from_disk: int
    ) -> DiffusionModel:
        """Bring a model of ``size`` bytes onto the device, others off it where it does not fit beside them.

        ``from_disk`` are the bytes that go through the machine's memory for it.
        """
        from models import device as devices
        from models.failure import first_line, is_device_lost, is_out_of_memory

        device = self._on
        free_memory = self._free_memory or (lambda: devices.memory(device).free)
        while self._residents and free_memory() < size + WORKING_MEMORY:
            self._evict_one(on_load, coming=from_disk)
        while True:
            try:
                return bring()
            except (RuntimeError, MemoryError) as error:
                if is_device_lost(error):
                    raise DeviceLost(
                        f"Device {device} was lost while loading {spec.name}: {first_line(error)}"
                    ) from error
                if not is_out_of_memory(error):
                    raise
                if not self._residents:
                    raise OutOfMemory(
                        f"{device.type.upper()} Out of Memory while loading {spec.name}, whose weights take "
                        f"{size / 2**30:.1f} GiB: use a device with more memory, or end what else runs on it"
                    ) from error
            self._evict_one(on_load, coming=from_disk)

    def _make_room(self, name: str) -> bool:
        """Unload the least recently used of the other models, for a call of this one; whether there was one.

        The null family has no weights: unloading it makes no room.
        """
        others = [other for other, model in self._residents.items() if other != name and not isinstance(model, Null)]
        if not others:
            return False
        self._residents.move_to_end(others[0], last=False)
        self._evict_one(lambda what: None, coming=0)
        return True

    def _evict_one(self, on_load: OnLoad, *, coming: int) -> None:
        from models.device import release_memory

        name, resident = self._residents.popitem(last=False)
        where = "for lack of memory" if isinstance(resident, Null) else self._moved_to_host(resident, coming=coming)
        on_load(f"unloading {name}, the least recently used, {where}")
        del resident
        gc.collect()  # a pipeline's modules refer to one another
        release_memory(self._on)

    def _moved_to_host(self, model: DiffusionModel, *, coming: int) -> str:
        """Move a model off the device, into host memory where that has room; in words, where it went."""
        from models.failure import first_line, is_device_lost

        try:
            return "to host memory" if self._host.put(model, coming=coming) else "for lack of memory"
        except (RuntimeError, MemoryError) as error:
            if is_device_lost(error):
                raise DeviceLost(
                    f"Device {self._on} was lost while unloading {model.spec.name}: {first_line(error)}"
                ) from error
            return f"for lack of memory; host memory does not take it: {first_line(error)}"

    @property
    def _on(self) -> torch.device:
        """The device, which the first model has chosen."""
        if self._device is None:
            raise AssertionError("nothing was loaded yet")
        return self._device

    def _host_share(self) -> int:
        """Bytes of the machine's memory that models may wait in: a worker of each card takes its share of the half."""
        return machine.memory().total // 2 // machine.cards() if self._on.type == "cuda" else 0


def _family(family: Family) -> type[DiffusionModel]:
    """Import the one family that is asked for: the others' classes take time to import as well."""
    match family:
        case Family.SDXL:
            from models.sdxl import StableDiffusionXL

            return StableDiffusionXL
        case Family.WAN:
            from models.wan import Wan

            return Wan
        case Family.NULL:
            raise AssertionError("the null family has nothing to load")

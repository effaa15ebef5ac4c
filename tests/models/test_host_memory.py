"""Models that leave their device for the machine's memory, and come back. Here the device is a CPU: no byte moves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from models import weights
from models.catalog import BUILTIN, with_entries
from models.diffusion import DiffusionModel
from models.errors import DeviceLost, OutOfMemory
from models.host_memory import SPARE
from models.keeper import Keeper
from models.ladder import Rung
from tests.models.calls import call, ignore

PLENTY = 2**40  # bytes
SIZE = 2**30  # bytes, more than any model here has
SHAPES = BUILTIN["shapes"]
SECOND, THIRD, FOURTH = (replace(SHAPES, name=name) for name in ("second", "third", "fourth"))
NULL = with_entries({"null-image": {"family": "null", "task": "text2image"}})["null-image"]


class Machine:
    """Memory as the keeper sees it. The device has room for one model, the machine's memory for ``holds`` of them."""

    def __init__(self, holds: int = 9, most: int = PLENTY) -> None:
        self.device_free = 0
        self.most = most
        self.holds = holds
        self.kept: Keeper | None = None

    def free(self) -> int:
        """Bytes that are free in the machine's memory."""
        assert self.kept is not None
        return SPARE + (self.holds - len(self.kept.waiting_names)) * SIZE


def keeper(cache_dir: Path, machine: Machine | None = None) -> Keeper:
    """Return a keeper on a machine."""
    machine = machine or Machine()
    machine.kept = Keeper(
        cache_dir=cache_dir,
        device="cpu",
        free_memory=lambda: machine.device_free,
        host_memory=machine.most,
        free_host_memory=machine.free,
    )
    return machine.kept


def quietly(what: str) -> None:
    """An ``on_load`` that does nothing."""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that weights were read from."""
    found: list[Path] = []
    read = StableDiffusionXLPipeline.from_pretrained

    def noted(folder: Path, **keywords: Any) -> Any:
        found.append(folder)
        return read(folder, **keywords)

    monkeypatch.setattr(StableDiffusionXLPipeline, "from_pretrained", noted)
    return found


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Where pipelines were moved to; an exception put first into ``moves`` is raised by the next move."""
    found: list[Any] = []
    move = StableDiffusionXLPipeline.to

    def noted(self: Any, device: Any, **keywords: Any) -> Any:
        if found and isinstance(found[0], Exception):
            raise found.pop(0)
        found.append(str(device))
        return move(self, device, **keywords)

    monkeypatch.setattr(StableDiffusionXLPipeline, "to", noted)
    return found


def test_a_model_comes_back_from_host_memory_unread_and_unchanged(cache_dir: Path, reads: list[Path]) -> None:
    """The same picture, to the bit; meanwhile the other one waits."""
    kept, told = keeper(cache_dir), list[str]()
    asked = call(steps=2)
    before = kept.resident(SHAPES, quietly).generate(asked, ignore)[0]
    kept.resident(SECOND, told.append)
    assert "unloading shapes, the least recently used, to host memory" in told
    assert (kept.resident_names, kept.waiting_names) == (("second",), ("shapes",))
    assert not kept.is_resident("shapes")
    told.clear()
    again = kept.resident(SHAPES, told.append)
    assert told[-1] == "shapes: bringing 0.0 GiB of weights back from host memory"
    assert (kept.resident_names, kept.waiting_names) == (("shapes",), ("second",))
    assert np.array_equal(again.generate(asked, ignore)[0], before)
    assert len(reads) == 2
    kept.close()
    assert kept.waiting_names == ()


def test_weights_move_to_the_machine_and_back_to_the_device(cache_dir: Path, moves: list[Any]) -> None:
    """What is moved is the whole pipeline."""
    kept = keeper(cache_dir)
    for spec in (SHAPES, SECOND, SHAPES):
        kept.resident(spec, quietly)
    assert moves == ["cpu"] * 5  # shapes there, shapes off, second there, second off, shapes there


def test_where_the_machine_has_no_room_a_model_is_dropped(cache_dir: Path, reads: list[Path]) -> None:
    """And read again when it is needed."""
    kept, told = keeper(cache_dir, Machine(holds=0)), list[str]()
    kept.resident(SHAPES, quietly)
    kept.resident(SECOND, told.append)
    assert "unloading shapes, the least recently used, for lack of memory" in told
    assert kept.waiting_names == ()
    kept.resident(SHAPES, quietly)
    assert len(reads) == 3


def test_a_cpu_keeps_nothing_in_host_memory(cache_dir: Path) -> None:
    """Its memory is the machine's: what has to leave has to leave it."""
    kept = Keeper(cache_dir=cache_dir, device="cpu", free_memory=lambda: 0)
    for spec in (SHAPES, SECOND):
        kept.resident(spec, quietly)
    assert (kept.resident_names, kept.waiting_names) == (("second",), ())


def test_the_longest_there_leaves_first(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for two, and for what is read on its way to the device."""
    monkeypatch.setattr(DiffusionModel, "weight_bytes", SIZE)
    monkeypatch.setattr(weights, "parameters", lambda *_: SIZE // 4)
    kept = keeper(cache_dir, Machine(holds=3))
    found = []
    for spec in (SHAPES, SECOND, THIRD, FOURTH, NULL, SECOND, THIRD):
        kept.resident(spec, quietly)
        found.append(kept.waiting_names)
    assert found == [
        (),
        ("shapes",),
        ("shapes", "second"),
        ("second", "third"),
        ("second", "third"),
        ("third", "fourth"),
        ("fourth", "second"),
    ]


def test_no_more_waits_than_a_worker_may_take(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others on the machine want memory, too: two models of the size wait at most, and none that is larger."""
    monkeypatch.setattr(DiffusionModel, "weight_bytes", SIZE)
    kept = keeper(cache_dir, Machine(most=2 * SIZE))
    for spec in (SHAPES, SECOND, THIRD, FOURTH):
        kept.resident(spec, quietly)
    assert kept.waiting_names == ("second", "third")
    monkeypatch.setattr(DiffusionModel, "weight_bytes", 2 * SIZE + 1)
    kept.resident(SHAPES, quietly)
    assert kept.waiting_names == ("second", "third")


def test_what_computes_offloaded_needs_no_more_room_to_wait(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are in the machine's memory already."""
    monkeypatch.setattr(DiffusionModel, "weight_bytes", SIZE)
    for offloaded, waiting in ((False, ()), (True, ("shapes",))):
        monkeypatch.setattr(DiffusionModel, "is_offloaded", offloaded)
        kept = keeper(cache_dir, Machine(holds=0))
        kept._host.make_room = lambda size: size < SIZE  # type: ignore[method-assign]
        for spec in (SHAPES, SECOND):
            kept.resident(spec, quietly)
        assert kept.waiting_names == waiting


def test_what_waits_makes_room_for_what_is_read(cache_dir: Path) -> None:
    """Another program has taken memory since: the one that waits longest leaves before anything is read."""
    machine = Machine()
    kept = keeper(cache_dir, machine)
    for spec in (SHAPES, SECOND):
        kept.resident(spec, quietly)
    assert kept.waiting_names == ("shapes",)
    machine.holds = 1
    waiting = {}
    kept.resident(THIRD, lambda what: waiting.update({what: kept.waiting_names}))
    assert waiting["third: starting torch and diffusers"] == ("shapes",)
    assert waiting["third: loading 0.0 GiB of weights onto cpu"] == ("second",)


def test_a_model_that_worked_by_tiles_comes_back_as_it_was_loaded(cache_dir: Path) -> None:
    """What worked for a size is remembered by the ladder, and set up anew when that size comes."""
    kept = keeper(cache_dir)
    model = _model(kept, SHAPES)
    model._stand_on(Rung.TILED)
    assert model._pipeline.vae.use_tiling
    kept.resident(SECOND, quietly)
    assert _model(kept, SHAPES) is model
    assert not model._pipeline.vae.use_tiling
    assert model.generate(call(steps=1), ignore)[0].shape == (64, 64, 3)


def test_a_model_whose_way_to_host_memory_fails_is_dropped(
    cache_dir: Path, reads: list[Path], moves: list[Any]
) -> None:
    """The machine had less memory than it said: the model is read again."""
    kept, told = keeper(cache_dir), list[str]()
    kept.resident(SHAPES, quietly)
    moves.insert(0, RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    kept.resident(SECOND, told.append)
    reason = "host memory does not take it: DefaultCPUAllocator: can't allocate memory"
    assert f"unloading shapes, the least recently used, for lack of memory; {reason}" in told
    kept.resident(SHAPES, quietly)
    assert len(reads) == 3


def test_a_device_that_is_lost_on_the_way_to_host_memory_is_told(cache_dir: Path, moves: list[Any]) -> None:
    """No model can be used on it any more."""
    kept = keeper(cache_dir)
    kept.resident(SHAPES, quietly)
    moves.insert(0, torch.AcceleratorError("CUDA error: unspecified launch failure"))
    with pytest.raises(DeviceLost, match="lost while unloading shapes"):
        kept.resident(SECOND, quietly)


def test_a_model_that_does_not_come_back_for_lack_of_memory_drives_others_out_first(
    cache_dir: Path, moves: list[Any]
) -> None:
    """And where there is no other, it says so, and is read the next time."""
    machine = Machine()
    kept = keeper(cache_dir, machine)
    for spec in (SHAPES, SECOND):
        kept.resident(spec, quietly)
    machine.device_free = PLENTY
    moves.insert(0, torch.OutOfMemoryError("CUDA out of memory."))
    kept.resident(SHAPES, quietly)
    assert kept.resident_names == ("shapes",)
    assert kept.waiting_names == ("second",)
    kept._residents.clear()
    moves.insert(0, torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(OutOfMemory, match="while loading second"):
        kept.resident(SECOND, quietly)
    assert len(kept.waiting_names) == 0


def _model(kept: Keeper, spec: Any) -> DiffusionModel:
    model = kept.resident(spec, quietly)
    assert isinstance(model, DiffusionModel)
    return model

"""Which models stay loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from models.catalog import BUILTIN, with_entries
from models.errors import DeviceLost, DeviceUnfit, ModelMissing, OutOfMemory
from models.keeper import Keeper
from tests.models.calls import call, ignore

PLENTY = 2**40  # bytes
SHAPES, MOTION = BUILTIN["shapes"], BUILTIN["motion"]
SECOND = replace(SHAPES, name="second")
NULL = with_entries({"null-image": {"family": "null", "task": "text2image"}})["null-image"]


def keeper(cache_dir: Path, free_memory: Callable[[], int] = lambda: PLENTY) -> Keeper:
    """Return a keeper that believes in the given memory."""
    return Keeper(cache_dir=cache_dir, device="cpu", free_memory=free_memory)


def quietly(what: str) -> None:
    """An ``on_load`` that does nothing."""


def test_a_model_is_loaded_once_and_works(cache_dir: Path) -> None:
    """The second request gets the same object, and no word of loading."""
    kept = keeper(cache_dir)
    told: list[str] = []
    first = kept.resident(SHAPES, told.append)
    assert told[-1] == "shapes: loading 0.0 GiB of weights onto cpu"
    told.clear()
    assert kept.resident(SHAPES, told.append) is first
    assert told == []
    assert first.spec is SHAPES
    assert first.generate(call(steps=1), ignore)[0].shape == (64, 64, 3)


def test_while_memory_lasts_every_model_stays(cache_dir: Path) -> None:
    """In the order of their last use."""
    kept = keeper(cache_dir)
    for spec in (SHAPES, MOTION, NULL, SHAPES):
        kept.resident(spec, quietly)
    assert kept.resident_names == ("motion", "null-image", "shapes")
    assert kept.is_resident("motion")
    kept.close()
    assert not kept.is_resident("motion")


def test_the_least_recently_used_leaves_when_memory_is_short(cache_dir: Path) -> None:
    """As many as it takes, and no more."""
    figures = [PLENTY, 0, PLENTY]
    kept = keeper(cache_dir, lambda: figures.pop(0))
    for spec in (SHAPES, MOTION, NULL):
        kept.resident(spec, quietly)
    kept.resident(SHAPES, quietly)
    told: list[str] = []
    kept.resident(SECOND, told.append)
    assert "unloading motion, the least recently used, for lack of memory" in told
    assert kept.resident_names == ("null-image", "shapes", "second")


def test_with_nothing_left_to_unload_it_loads_all_the_same(cache_dir: Path) -> None:
    """The estimate may be wrong, and the device has the last word."""
    kept = keeper(cache_dir, lambda: 0)
    kept.resident(SHAPES, quietly)
    kept.resident(SECOND, quietly)
    assert kept.resident_names == ("second",)


def failing_to_move(monkeypatch: pytest.MonkeyPatch, errors: list[Exception]) -> None:
    """Let the real pipeline raise each of ``errors`` in turn on its way to the device, and then arrive."""
    move = StableDiffusionXLPipeline.to

    def attempt(self: Any, *arguments: Any, **keywords: Any) -> Any:
        if errors:
            raise errors.pop(0)
        return move(self, *arguments, **keywords)

    monkeypatch.setattr(StableDiffusionXLPipeline, "to", attempt)


def test_lack_of_memory_while_loading_unloads_others_and_tries_again(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after another, the least recently used first."""
    kept = keeper(cache_dir)
    for spec in (NULL, SHAPES, MOTION):
        kept.resident(spec, quietly)
    failing_to_move(monkeypatch, [torch.OutOfMemoryError("CUDA out of memory.")] * 2)
    kept.resident(SECOND, quietly)
    assert kept.resident_names == ("motion", "second")


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), OutOfMemory, "CPU Out of Memory while loading shapes"),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), DeviceLost, "lost while loading shapes"),
    ],
)
def test_what_loading_raises_is_translated(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type[Exception], words: str
) -> None:
    """As in a call; nothing is taken to be loaded."""
    failing_to_move(monkeypatch, [error])
    kept = keeper(cache_dir)
    with pytest.raises(expected, match=words):
        kept.resident(SHAPES, quietly)
    assert not kept.is_resident("shapes")


def test_a_missing_model_costs_no_other_its_place(cache_dir: Path) -> None:
    """It is found missing before anything is unloaded."""
    kept = keeper(cache_dir, lambda: 0)
    kept.resident(SHAPES, quietly)
    with pytest.raises(ModelMissing):
        kept.resident(replace(SHAPES, name="gone", builtin="gone"), quietly)
    assert kept.resident_names == ("shapes",)


def test_a_device_that_is_not_there_is_told_at_the_first_model(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any weights are fetched."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceUnfit, match="cuda:3"):
        Keeper(cache_dir=cache_dir, device="cuda:3").resident(SHAPES, quietly)

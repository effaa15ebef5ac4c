"""A device whose memory does not suffice: what is tried, in which order, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.catalog import BUILTIN
from models.diffusion import DiffusionModel
from models.errors import OutOfMemory
from models.keeper import Keeper
from models.ladder import Ladder, Rung
from tests.models.calls import call, ignore, item

LOADED = ["shapes", "motion"]


@pytest.fixture
def scarce(load: Callable[[str], DiffusionModel], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Rung]]:
    """Let the real decoder of a model run out of memory while ``short`` says so; the rungs it was called on."""

    def made(model: DiffusionModel, short: Callable[[Any], bool]) -> list[Rung]:
        decoder = model._pipeline.vae.decoder
        forward, rungs = decoder.forward, []

        def limited(*arguments: Any, **keywords: Any) -> Any:
            rungs.append(model._rung)
            if short(model):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return forward(*arguments, **keywords)

        monkeypatch.setattr(decoder, "forward", limited)
        return rungs

    return made


def untiled(model: DiffusionModel) -> bool:
    """Memory suffices for tiles only."""
    return not model._pipeline.vae.use_tiling


def always(model: DiffusionModel) -> bool:
    """Memory suffices for nothing."""
    return True


def test_with_the_cache_given_back_the_same_call_is_tried_again(
    load: Callable[[str], DiffusionModel], scarce: Callable[..., list[Rung]]
) -> None:
    """What lacked once need not lack twice; the picture is the same as ever."""
    model = load("shapes")
    (before,) = model.generate(call(), ignore)
    shortages = iter([True])
    rungs = scarce(model, lambda _: next(shortages, False))
    (after,) = model.generate(call(), ignore)
    assert rungs == [Rung.PLAIN, Rung.PLAIN]
    assert np.array_equal(before, after)


@pytest.mark.parametrize("name", LOADED)
def test_decoding_by_tiles_is_remembered_for_the_size_and_no_other(
    load: Callable[[str], DiffusionModel], scarce: Callable[..., list[Rung]], name: str
) -> None:
    """The next job of the size begins with what worked, one of another size as if nothing had happened."""
    model = load(name)
    large = [True]
    rungs = scarce(model, lambda model: untiled(model) and large[0])
    model.generate(call(width=128), ignore)
    assert set(rungs) == {Rung.PLAIN, Rung.TILED}
    rungs.clear()
    model.generate(call(width=128), ignore)
    assert set(rungs) == {Rung.TILED}
    large[0] = False
    rungs.clear()
    model.generate(call(width=64), ignore)
    assert set(rungs) == {Rung.PLAIN}
    assert not model._pipeline.vae.use_tiling


def test_tiles_show_what_the_whole_shows(cache_dir: Path, scarce: Callable[..., list[Rung]]) -> None:
    """The picture is as large, and differs only in what a tile's decoder does not see of its surroundings."""
    model = Keeper(cache_dir=cache_dir, device="cpu").resident(BUILTIN["shapes"], lambda what: None)
    assert isinstance(model, DiffusionModel)
    large = call(width=768, height=768)  # a tile is 512
    (whole,) = model.generate(large, ignore)
    scarce(model, untiled)
    (tiled,) = model.generate(large, ignore)
    assert tiled.shape == whole.shape
    assert np.abs(tiled.astype(int) - whole).mean() < 2


def test_only_when_nothing_helps_it_is_out_of_memory_and_the_next_job_is_untouched(
    load: Callable[[str], DiffusionModel], scarce: Callable[..., list[Rung]]
) -> None:
    """On a CPU there is nothing above tiles; a later call of the size begins below them again."""
    model = load("shapes")
    (before,) = model.generate(call(), ignore)
    short = [True]
    rungs = scarce(model, lambda _: short[0])
    with pytest.raises(OutOfMemory, match=r"CPU Out of Memory during image generation \(64x64\)"):
        model.generate(call(), ignore)
    assert rungs == [Rung.PLAIN, Rung.PLAIN, Rung.TILED]
    short[0] = False
    (after,) = model.generate(call(), ignore)
    assert np.array_equal(before, after)


def test_too_many_at_once_are_refused_and_so_many_are_not_tried_again(
    load: Callable[[str], DiffusionModel], scarce: Callable[..., list[Rung]]
) -> None:
    """Half of them fit; whoever asks for as many again hears so at once, without a step."""
    model = load("shapes")
    model._pipeline.vae.disable_slicing()
    many = [item(seed) for seed in range(4)]
    forward = model._pipeline.unet.forward
    sizes: list[int] = []

    def limited(sample: torch.Tensor, *arguments: Any, **keywords: Any) -> Any:
        sizes.append(len(sample))
        if len(sample) > 4:  # two items, each with and without its prompt
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(sample, *arguments, **keywords)

    model._pipeline.unet.forward = limited
    with pytest.raises(OutOfMemory, match="4 at once"):
        model.generate(call(*many, steps=1), ignore)
    assert sizes == [8, 8]
    with pytest.raises(OutOfMemory, match="4 at once"):
        model.generate(call(*many, steps=1), ignore)
    assert sizes == [8, 8]
    assert len(model.generate(call(*many[:2], steps=1), ignore)) == 2


def test_offloading_comes_last_and_ends_with_the_size_that_needed_it(
    load: Callable[[str], DiffusionModel], scarce: Callable[..., list[Rung]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked of the pipeline for the device, and taken back for the next size; its hooks are freed after a call.

    Without a card the pipeline's own offloading cannot run here: it is only seen to be asked for.
    """
    model = load("shapes")
    model._ladder = Ladder(tuple(Rung))
    asked: list[str] = []
    pipeline = model._pipeline
    monkeypatch.setattr(pipeline, "enable_model_cpu_offload", lambda device: asked.append(f"offload {device}"))
    monkeypatch.setattr(pipeline, "maybe_free_model_hooks", lambda: asked.append("free"))
    monkeypatch.setattr(pipeline, "remove_all_hooks", lambda: asked.append("load"))
    short = [True]
    scarce(model, lambda model: short[0] and "offload cpu" not in asked)
    model.generate(call(width=128), ignore)
    assert [what for what in asked if what != "free"] == ["offload cpu"]
    assert asked[-1] == "free"
    asked.clear()
    short[0] = False
    model.generate(call(width=64), ignore)
    assert [what for what in asked if what != "free"] == ["load"]


def test_other_models_leave_before_a_call_gets_slower(
    cache_dir: Path, scarce: Callable[..., list[Rung]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least recently used first, as when a model is loaded."""
    keeper = Keeper(cache_dir=cache_dir, device="cpu", free_memory=lambda: 2**40)
    keeper.resident(BUILTIN["motion"], lambda what: None)
    shapes = keeper.resident(BUILTIN["shapes"], lambda what: None)
    assert isinstance(shapes, DiffusionModel)
    rungs = scarce(shapes, lambda _: keeper.is_resident("motion"))
    shapes.generate(call(), ignore)
    assert rungs == [Rung.PLAIN, Rung.PLAIN]
    assert keeper.resident_names == ("shapes",)

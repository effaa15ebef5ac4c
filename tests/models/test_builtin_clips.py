"""The shipped video model, by what its clips show: read back without a learned judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.builtin.moving import motion_of
from models.builtin.reading import read_picture
from models.catalog import BUILTIN
from models.keeper import Keeper
from models.spec import Call, Item, Resident
from tests.models.calls import ignore

if TYPE_CHECKING:
    from models.spec import Frames

RIGHT = "a red circle moves from left to right on a white background"
GROWING = "a yellow square that grows, on blue"


def asked(prompt: str, *, seed: int = 1) -> Item:
    """Return an item with the contract's own guidance."""
    return Item(prompt=prompt, negative_prompt="", seed=seed, guidance_scale=5.0)


def seen(clip: Frames) -> tuple[str, str, str | None]:
    """Return the background, and the colour and the kind of the thing, at the beginning of a clip."""
    reading = read_picture(clip[0])
    return reading.background, reading.regions[0].colour, reading.regions[0].kind


@pytest.fixture(scope="module")
def motion(cache_dir: Path) -> Resident:
    """The model, loaded once, through the catalogue."""
    return Keeper(cache_dir=cache_dir, device="cpu").resident(BUILTIN["motion"], lambda _: None)


@pytest.fixture(scope="module")
def both(motion: Resident) -> list[Frames]:
    """Two clips from one call."""
    items = (asked(RIGHT, seed=1), asked(GROWING, seed=2))
    return list(motion.generate(Call(width=256, height=256, frames=17, steps=10, items=items), ignore))


def test_every_clip_of_a_batch_shows_its_own_prompt(both: list[Frames]) -> None:
    """Its shape, its colours and its motion."""
    assert [clip.shape for clip in both] == [(17, 256, 256, 3)] * 2
    assert [motion_of(clip) for clip in both] == ["moving right", "growing"]
    assert [seen(clip) for clip in both] == [("white", "red", "circle"), ("blue", "yellow", "square")]


def test_another_size_and_length_show_the_same_motion_whole(motion: Resident) -> None:
    """The shape stays as wide as it is high, and the motion takes the whole time."""
    previews: list[Sequence[Frames]] = []

    def look(paint: Callable[[], Sequence[Frames]]) -> None:
        previews.append(paint())

    call = Call(width=400, height=300, frames=40, steps=10, items=(asked(RIGHT),), on_look=look)
    (clip,) = motion.generate(call, ignore)
    assert clip.shape == (40, 300, 400, 3)
    assert motion_of(clip) == "moving right"
    assert seen(clip) == ("white", "red", "circle")
    assert [len(pictures) for pictures in previews] == [1] * 10
    assert previews[-1][0].shape == (48, 64, 3)
    assert read_picture(np.asarray(previews[-1][0])).background == "white"


def test_a_clip_shows_the_same_without_its_neighbours(motion: Resident, both: list[Frames]) -> None:
    """Alone, a prompt and a seed give the clip that they give in a batch, and a short one its beginning."""
    call = Call(width=256, height=256, frames=16, steps=10, items=(asked(GROWING, seed=2),))
    (alone,) = motion.generate(call, ignore)
    assert np.abs(alone.astype(int) - both[1][:16]).max() <= 1

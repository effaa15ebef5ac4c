"""The shipped image model, by what its pictures show: read back without a learned judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.builtin.reading import Reading, read_picture
from models.catalog import BUILTIN
from models.keeper import Keeper
from models.spec import Call, Item
from tests.models.calls import ignore

if TYPE_CHECKING:
    from models.spec import Frames

MIXED = {  # prompt: background, and the colour and the kind of what is on it
    "a large red circle on a white background": ("white", "red", "circle"),
    "a large yellow ring on a blue background": ("blue", "yellow", "ring"),
    "a large black square on a cyan background": ("cyan", "black", "square"),
    "a large white heart on a green background": ("green", "white", "heart"),
}


def drawn(cache_dir: Path, *items: Item) -> list[Frames]:
    """Draw the items in one call, as a worker does."""
    keeper = Keeper(cache_dir=cache_dir, device="cpu")
    call = Call(width=256, height=256, steps=20, items=items)
    return list(keeper.resident(BUILTIN["shapes"], lambda _: None).generate(call, ignore))


def asked(prompt: str, *, seed: int = 1, negative_prompt: str = "") -> Item:
    """Return an item with the contract's own guidance."""
    return Item(prompt=prompt, negative_prompt=negative_prompt, seed=seed, guidance_scale=7.5)


def seen(reading: Reading) -> tuple[str, str, str | None]:
    """Return the background, and the colour and the kind of the largest thing."""
    return reading.background, reading.regions[0].colour, reading.regions[0].kind


@pytest.fixture(scope="module")
def mixed(cache_dir: Path) -> list[Frames]:
    """Pictures of all those prompts, from one call."""
    return drawn(cache_dir, *(asked(prompt, seed=seed) for seed, prompt in enumerate(MIXED, start=1)))


def test_every_picture_of_a_mixed_batch_shows_its_own_prompt(mixed: list[Frames]) -> None:
    """None has its neighbour's colours or shape."""
    assert [seen(read_picture(picture)) for picture in mixed] == list(MIXED.values())


def test_a_picture_shows_the_same_without_its_neighbours(cache_dir: Path, mixed: list[Frames]) -> None:
    """Alone, a prompt and a seed give the picture that they give in a batch, to a shade here and there."""
    prompt = list(MIXED)[1]
    (alone,) = drawn(cache_dir, asked(prompt, seed=2))
    assert np.abs(alone.astype(int) - mixed[1]).mean() < 1


def test_a_seed_makes_another_picture_of_the_same_prompt(cache_dir: Path, mixed: list[Frames]) -> None:
    """Both show what is asked for."""
    prompt, shown = next(iter(MIXED.items()))
    (other,) = drawn(cache_dir, asked(prompt, seed=12))
    assert seen(read_picture(other)) == shown
    assert np.abs(other.astype(int) - mixed[0]).mean() > 1

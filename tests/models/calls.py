"""Small calls for tests of models."""

from __future__ import annotations

from models.spec import Call, Item


def item(seed: int = 1, guidance_scale: float = 5.0, prompt: str = "a red car", negative_prompt: str = "") -> Item:
    """Return an item that differs from its neighbours in what is given."""
    return Item(prompt=prompt, negative_prompt=negative_prompt, seed=seed, guidance_scale=guidance_scale)


def call(*items: Item, width: int = 64, height: int = 64, steps: int = 3, frames: int = 1) -> Call:
    """Return a call that takes a moment only; without items, for one of seed 1."""
    return Call(width=width, height=height, steps=steps, frames=frames, items=items or (item(),))


def ignore(step: int, steps: int) -> None:
    """An ``on_step`` that does nothing."""

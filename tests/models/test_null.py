"""The generator without a model."""

from __future__ import annotations

import time

import numpy as np
import pytest

from models.catalog import with_entries
from models.null import Null
from tests.models.calls import call, ignore, item


def null(task: str, step_seconds: float = 0.0) -> Null:
    """Return a null model of the task."""
    return Null(spec=with_entries({"n": {"family": "null", "task": task, "step_seconds": step_seconds}})["n"])


@pytest.mark.parametrize(
    ("task", "shape"), [("text2image", (77, 65, 3)), ("text2video", (16, 77, 65, 3))], ids=["image", "video"]
)
def test_it_paints_what_the_call_asks_for(task: str, shape: tuple[int, ...]) -> None:
    """Exact sizes and frames; the same for the same prompt and seed, else another, and never one colour."""
    frames = 16 if task == "text2video" else 1
    asked = call(item(1), item(1), item(2), item(1, prompt="b"), width=65, height=77, frames=frames)
    first, again, other_seed, other_prompt = null(task).generate(asked, ignore)
    assert first.shape == shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other_seed)
    assert not np.array_equal(first, other_prompt)
    assert len(np.unique(first)) > 2


def test_it_sleeps_once_for_each_step_of_a_call() -> None:
    """Whatever the number of items."""
    seen: list[int] = []
    start = time.monotonic()
    null("text2image", 0.01).generate(call(item(1), item(2), steps=5), lambda step, steps: seen.append(step))
    assert 0.05 <= time.monotonic() - start < 0.5
    assert seen == [1, 2, 3, 4, 5]


def test_what_on_step_raises_comes_out() -> None:
    """As from a real model."""

    def stop(step: int, steps: int) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        null("text2image").generate(call(), stop)

"""Which jobs share a pipeline call, and the calls that come of it; and that the core is pure."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import daemon.core
from daemon.core.plan import HEAD_START, Work, calls, fits, preferred, weight
from daemon.core.request import Request
from tests.core.samples import FILMER, PAINTER


def work(*seeds: int, alone: bool = False, **fields: Any) -> Work:
    """A picture job with these seeds."""
    return Work(spec=PAINTER, request=Request(prompt="a cat", **fields), seeds=seeds or (1,), alone=alone)


def film(seed: int = 1, **fields: Any) -> Work:
    """A video job."""
    return Work(spec=FILMER, request=Request(prompt="a cat", **fields), seeds=(seed,))


def test_an_empty_batch_takes_any_job() -> None:
    """Also one that is too large for the limit, or runs alone."""
    assert fits([], work(1, 2, 3, 4), max_items=1)
    assert fits([], work(alone=True), max_items=8)


@pytest.mark.parametrize("fields", [{"width": 256}, {"height": 256}, {"num_inference_steps": 10}])
def test_jobs_of_another_shape_do_not_share_a_call(fields: dict[str, Any]) -> None:
    """Size and steps belong to the call."""
    assert not fits([work()], work(**fields), max_items=8)


def test_jobs_that_differ_in_what_an_item_has_share_a_call() -> None:
    """Prompt, seed and guidance are each item's own; a video's options do not matter to a picture."""
    assert fits([work()], work(5, guidance_scale=2.0, negative_prompt="rain", num_frames=80), max_items=8)


def test_videos_are_told_apart_by_their_own_size_and_frames() -> None:
    """And never mixed with pictures."""
    assert fits([film()], film(width=256, fps=15, video_guidance_scale=3.0), max_items=8)
    for other in (film(num_frames=17), film(video_width=256), film(video_height=256), work()):
        assert not fits([film()], other, max_items=8)


def test_a_batch_is_full_at_the_smaller_of_both_limits() -> None:
    """The items count, not the jobs."""
    assert fits([work(1, 2)], work(1, 2), max_items=4)
    assert not fits([work(1, 2)], work(1, 2, 3), max_items=4)
    small = replace(PAINTER, max_batch=3)
    assert not fits([replace(work(1, 2), spec=small)], replace(work(1, 2), spec=small), max_items=8)


def test_a_job_that_has_cost_a_worker_its_life_runs_alone() -> None:
    """Neither joins nor is joined."""
    assert not fits([work()], work(alone=True), max_items=8)
    assert not fits([work(alone=True)], work(), max_items=8)


def test_a_large_call_may_take_longer_in_proportion() -> None:
    """Pictures and frames count by their pixels, and a small call as four megapixels."""
    assert weight([work()]) == weight([work(1, 2, 3, width=1024, height=1024)]) == 1.0
    assert weight([work(1, 2, 3, 4, width=1000, height=1000), work(5, width=1000, height=1000)]) == 1.25
    assert weight([film(video_width=800, video_height=500, num_frames=80)]) == 8.0


def test_a_batch_becomes_one_call_whose_items_know_their_job() -> None:
    """In order, each item with its own prompt, seed and guidance."""
    [(call, owners)] = calls([work(1, 2), work(7, guidance_scale=2.0, negative_prompt="rain")], max_items=8)
    assert owners == [0, 0, 1]
    assert (call.width, call.height, call.steps, call.frames) == (512, 512, 20, 1)
    assert [item.seed for item in call.items] == [1, 2, 7]
    assert (call.items[2].guidance_scale, call.items[2].negative_prompt) == (2.0, "rain")


def test_a_job_with_more_items_than_its_model_takes_becomes_several_calls() -> None:
    """Also where a catalogue says nought."""
    for most, sizes in ((3, [3, 1]), (1, [1, 1, 1, 1]), (0, [1, 1, 1, 1])):
        made = calls([replace(work(1, 2, 3, 4), spec=replace(PAINTER, max_batch=most))], max_items=8)
        assert [len(call.items) for call, _ in made] == sizes
        assert [item.seed for call, _ in made for item in call.items] == [1, 2, 3, 4]


def test_a_video_call_has_its_own_size_guidance_and_frames() -> None:
    """The picture's fields are not looked at."""
    [(call, owners)] = calls(
        [film(9, num_frames=33, video_width=256, width=999, video_guidance_scale=2.0)], max_items=8
    )
    assert (call.width, call.height, call.frames, owners) == (256, 512, 33, [0])
    assert (call.items[0].guidance_scale, call.items[0].seed) == (2.0, 9)


@pytest.mark.parametrize(("jobs", "sizes"), [(1, [4]), (4, [4]), (6, [4, 4])])
def test_exact_calls_all_have_as_many_items_as_may_be(jobs: int, sizes: list[int]) -> None:
    """The last item fills what is free, and belongs to nobody there."""
    made = calls([work(seed) for seed in range(jobs)], max_items=4, exact=True)
    assert [len(call.items) for call, _ in made] == sizes
    assert [owner for _, owners in made for owner in owners] == list(range(jobs))
    for call, owners in made:
        assert [item.seed for item in call.items] == [*owners, *owners[-1:] * (4 - len(owners))]


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def queued(*seconds: float, loaded: set[int]) -> list[int]:
    """The order of jobs queued so many seconds after noon; ``loaded`` are the places whose model is."""
    return preferred([(NOON + timedelta(seconds=after), place in loaded) for place, after in enumerate(seconds)])


def test_jobs_of_a_loaded_model_come_first_within_a_bound() -> None:
    """A job that waits for another model is passed over only by those that came at most so long after it."""
    bound = HEAD_START.total_seconds()
    assert queued(0, 1, bound - 1, bound + 1, loaded={1, 2, 3}) == [1, 2, 0, 3]


@pytest.mark.parametrize("loaded", [set(), {0, 1, 2}])
def test_where_no_job_is_to_be_preferred_the_order_stays(loaded: set[int]) -> None:
    """It is the window's, which knows more than the time of the last write."""
    assert queued(5, 0, 9, loaded=loaded) == [0, 1, 2]


MODULES = sorted(module.name for module in pkgutil.iter_modules(daemon.core.__path__, "daemon.core."))
PURE = {
    "__future__",
    "base64",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "google_crc32c",
    "itertools",
    "re",
    "typing",
    "unicodedata",
}


@pytest.mark.parametrize("name", MODULES)
def test_the_core_reaches_for_no_clock_no_chance_and_no_outside(name: str) -> None:
    """Its modules import values and rules only, so that every decision can be repeated."""
    source = Path(str(importlib.import_module(name).__file__)).read_text("utf-8")
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Attribute):
            assert node.attr not in ("now", "utcnow", "today"), f"{name} asks a clock"
    assert imported <= PURE | {"daemon", "models", "pydantic", "pydantic_core"}


def test_a_call_has_no_more_items_than_the_worker_allows() -> None:
    """The operator's limit holds for the pictures of one request too."""
    assert [len(call.items) for call, _ in calls([work(1, 2, 3, 4)], max_items=3)] == [3, 1]

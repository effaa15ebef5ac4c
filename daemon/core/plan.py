"""Which jobs share a pipeline call, and what that call is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.core.request import Request
from models.spec import Call, Item, ModelSpec, Task

HEAD_START = timedelta(seconds=30)  # of jobs whose model is loaded; about what loading another one takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one job asks of the device: ``seeds`` has one for each picture, or one for the video."""

    spec: ModelSpec
    request: Request
    seeds: tuple[int, ...]
    alone: bool = False  # it may have cost a worker its life: nothing runs beside it

    @property
    def shape(self) -> tuple[str, int, int, int, int]:
        """What must be equal in one call: model, width, height, steps and frames."""
        request = self.request
        if self.spec.task is Task.TEXT2IMAGE:
            return self.spec.name, request.width, request.height, request.num_inference_steps, 1
        return (
            self.spec.name,
            request.video_width,
            request.video_height,
            request.num_inference_steps,
            request.num_frames,
        )

    def items(self) -> tuple[Item, ...]:
        request = self.request
        video = self.spec.task is Task.TEXT2VIDEO
        guidance = request.video_guidance_scale if video else request.guidance_scale
        return tuple(
            Item(prompt=request.prompt, negative_prompt=request.negative_prompt, seed=seed, guidance_scale=guidance)
            for seed in self.seeds
        )


def weight(works: Sequence[Work]) -> float:
    """How many times as long as a small call this one may take for a step.

    1 for up to four megapixels of pictures or frames, in proportion above: 81 frames of 832 x 480 pixels weigh 8.
    """
    _, width, height, _, frames = works[0].shape
    items = sum(len(work.seeds) for work in works)
    return max(1.0, items * frames * width * height / 4e6)


def fits(batch: Sequence[Work], candidate: Work, *, max_items: int) -> bool:
    """Whether a job may join the call of a batch. An empty batch takes any job, however large."""
    if not batch:
        return True
    if candidate.alone or any(work.alone for work in batch):
        return False
    items = sum(len(work.seeds) for work in (*batch, candidate))
    return candidate.shape == batch[0].shape and items <= min(max_items, candidate.spec.max_batch)


def preferred(queued: Sequence[tuple[datetime, bool]]) -> list[int]:
    """The order in which to claim jobs: their places, by when each was queued and whether its model is loaded.

    A job of a loaded model counts as queued ``HEAD_START`` sooner, because it costs no loading. So a job is passed over
    only by those that came so long after it, and none waits for ever. Where all are alike their order stays.
    """
    if len({loaded for _, loaded in queued}) < 2:
        return list(range(len(queued)))
    return sorted(range(len(queued)), key=lambda place: queued[place][0] - HEAD_START * queued[place][1])


def calls(batch: Sequence[Work], *, max_items: int, exact: bool = False) -> list[tuple[Call, list[int]]]:
    """The pipeline calls of a batch, each with the index into ``batch`` that every item of it belongs to.

    Jobs that ``fits`` put together make one call; a single job with more than ``max_items`` items, or more than its
    model takes, makes several. With ``exact`` every call has just as many items as may be, the last of its own repeated
    where they are fewer, and those behind the indices belong to nobody: networks compute the same bits for an item
    whatever its neighbours, but not whatever their number.
    """
    first = batch[0]
    _, width, height, steps, frames = first.shape
    items = [(item, index) for index, work in enumerate(batch) for item in work.items()]
    size = max(1, min(max_items, first.spec.max_batch))

    def filled(part: tuple[Item, ...]) -> tuple[Item, ...]:
        return part + part[-1:] * (size - len(part)) if exact else part

    return [
        (
            Call(width=width, height=height, steps=steps, frames=frames, items=filled(tuple(item for item, _ in part))),
            [index for _, index in part],
        )
        for part in (items[start : start + size] for start in range(0, len(items), size))
    ]

"""One batch on the device: from claimed jobs to their frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from daemon.core import plan
from daemon.core.errors import Interrupted, LeaseLost
from daemon.core.policy import Progress
from daemon.heartbeat import COUNTED_FROM
from daemon.held import Held
from models.spec import ModelKeeper

if TYPE_CHECKING:
    from models.spec import Frames

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.5  # seconds between two previews
# Seconds after which a generation goes on only once its attempt is counted, so that a job that kills us does so only so
# many times. That write is under way since ``COUNTED_FROM``, so nothing waits here unless the store is slow.
COUNTED_WITHIN = 0.5


class Generation:
    """Runs the calls of a batch. ``members`` are those jobs that are still wanted; a job that goes leaves at a step.

    ``count`` writes that generation has begun, as the heartbeat does where a step takes long: an attempt counts only
    once that is done. A generation so short that it is over before is spared the write. ``leave`` gets a job that is
    no longer wanted, ``moved`` at each step the moment (monotonic) at which it will end; ``loading`` is called while a
    model loads.
    """

    def __init__(
        self,
        batch: Sequence[Held],
        *,
        max_items: int,
        exact: bool,
        count: Callable[[Sequence[Held]], Sequence[Future[None]]],
        leave: Callable[[Held], None],
        moved: Callable[[float], None],
        loading: Callable[[], None],
        interrupted: Callable[[], bool],
        previews: bool,
    ) -> None:
        self.members = list(batch)
        self._batch = batch
        self._max_items = max_items
        self._exact = exact
        self._count = count
        self._counted = False
        self._leave = leave
        self._moved = moved
        self._loads = loading
        self._interrupted = interrupted
        self._previews = previews
        self._look_at = 0.0  # by the monotonic clock
        self._began = time.monotonic()
        self._whole = 0  # steps of all calls
        self._done = 0  # steps of the calls before the present one

    def frames(self, keeper: ModelKeeper) -> list[tuple[Held, list[Frames]]]:
        """The frames of every member.

        Raises:
            LeaseLost: nobody wants the batch any more.
            Interrupted: we were told to stop.
            ModelError: as in ``models.spec``.
        """
        began = time.monotonic()
        resident = keeper.resident(self._batch[0].work.spec, self._loading)
        self._began = time.monotonic()
        self._moved(float("inf"))
        for held in self._batch:
            held.begun_at = self._began
        # What cost workers may do so at once.
        self._wait_for_count([held for held in self._batch if not held.unharmed])
        calls = plan.calls([held.work for held in self._batch], max_items=self._max_items, exact=self._exact)
        self._whole = sum(self._batch[0].work.request.num_inference_steps for _ in calls)
        frames: list[list[Frames]] = [[] for _ in self._batch]
        for call, owners in calls:
            watched = replace(
                call,
                on_look=partial(self._look, owners) if self._previews else None,
                on_warning=partial(self._warn, owners),
            )
            pictures = resident.generate(watched, self._on_step)[: len(owners)]
            for owner, picture in zip(owners, pictures, strict=True):
                frames[owner].append(picture)
            self._done += call.steps
        for held in self._batch:
            held.generated = True
            held.timings |= {"load": self._began - began, "generate": time.monotonic() - self._began}
        return [(held, pictures) for held, pictures in zip(self._batch, frames, strict=True) if held in self.members]

    def _loading(self, what: str) -> None:
        self._loads()
        log.info("model.loading", model=self._batch[0].work.spec.name, what=what)
        for held in self._batch:
            held.progress = Progress(phase="loading", steps=held.work.request.num_inference_steps)

    def _look(self, owners: Sequence[int], paint: Callable[[], Sequence[Frames]]) -> None:
        """Keep a small picture of what forms, now and then; where that fails, it is not tried again in this batch."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY
        try:
            for owner, picture in zip(owners, paint()[: len(owners)], strict=True):
                self._batch[owner].preview = picture
        except Exception as exc:  # noqa: BLE001 - a look must not cost anybody a picture
            self._look_at = float("inf")
            log.warning("preview.failed", model=self._batch[0].work.spec.name, error=str(exc))

    def _warn(self, owners: Sequence[int], index: int, what: str) -> None:
        """Keep what a model says of an item for its document; a filled call has items of nobody."""
        if index < len(owners):
            self._batch[owners[index]].warnings[what] = None

    def _on_step(self, step: int, _steps: int) -> None:
        now = time.monotonic()
        done, whole = self._done + step, self._whole
        left = (now - self._began) / done * (whole - done)
        self._moved(now + left)
        progress = Progress(phase="generating", step=done, steps=whole, eta_seconds=round(left, 1))
        for held in self.members:
            held.progress = progress
        if self._interrupted():
            raise Interrupted
        for held in [held for held in self.members if held.gone is not None]:
            self.members.remove(held)
            self._leave(held)
        if not self.members:
            raise LeaseLost
        self._count_from(now - self._began)

    def _count_from(self, lasted: float) -> None:
        if self._counted or lasted <= COUNTED_FROM:
            return
        if lasted <= COUNTED_WITHIN:
            self._count(self.members)
        else:
            self._wait_for_count(self.members)
            self._counted = True

    def _wait_for_count(self, members: Sequence[Held]) -> None:
        """Wait until their attempts are counted, but not for ever: a lease must not end over it."""
        if members:
            wait(self._count(members), timeout=self._batch[0].lease_seconds / 6)

"""One thread keeps every lease of this worker alive, and writes progress on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Lock

import structlog

from daemon.core.errors import DocumentTooLarge, StoreUnavailable
from daemon.core.job import JobId
from daemon.held import Held

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.25  # seconds between two looks at what is due
AGAIN_AFTER = 2.0  # seconds until a renewal that failed is tried again
LASTING = 1.0  # seconds for which a job is held before a cancellation may be worth listening for
LATELY = 60.0  # seconds for which one that lasted speaks for others to come
COUNTED_FROM = 0.1  # seconds of generation from which the attempt is counted; many a short one is over before


class Heartbeat:
    """Renews what it is given to keep, each job by itself, so that one slow write delays no other.

    ``interval`` is the time between two renewals of a job, ``progress_interval`` the shortest between two that have
    progress to tell; both in seconds. ``note`` gets the address and token of everything held, at every claim, and once
    nothing is held any more.
    """

    def __init__(
        self,
        *,
        interval: float,
        progress_interval: float,
        note: Callable[[list[tuple[JobId, str]]], None],
        threads: int = 4,
    ) -> None:
        self._interval = interval
        self._progress_interval = progress_interval
        self._note = note
        self._held: dict[JobId, Held] = {}
        self._running: dict[JobId, Future[None]] = {}
        self._counting: dict[JobId, Future[None]] = {}
        self._tried: dict[JobId, float] = {}
        self._lock = Lock()
        self._wake = Event()
        self._busy_at = time.monotonic()
        self._lasted_at = float("-inf")
        self._unnoted = False
        self._closed = False
        self._error: BaseException | None = None
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="renew")

    def keep(self, batch: Sequence[Held]) -> None:
        """Renew these jobs from now on, until ``forget``."""
        with self._lock:
            for held in batch:
                self._held[held.id] = held
                self._tried[held.id] = held.renewed_at
            self._noted()

    def forget(self, held: Held) -> None:
        with self._lock:
            if self._held.get(held.id) is held:
                del self._held[held.id]
                self._tried.pop(held.id, None)
                self._counting.pop(held.id, None)
                self._busy_at = time.monotonic()
                if self._busy_at - held.claimed_at > LASTING:
                    self._lasted_at = self._busy_at
                if not self._held:  # else the next batch's note leaves it out: giving back what has ended does nothing
                    self._noted()

    def held(self) -> list[Held]:
        with self._lock:
            return list(self._held.values())

    @property
    def busy_at(self) -> float:
        """The last moment, by the monotonic clock, at which anything was held."""
        with self._lock:
            return time.monotonic() if self._held else self._busy_at

    def lasting(self) -> bool:
        """Whether jobs last, of those held now or lately: then their clients may want to cancel them."""
        now = time.monotonic()
        with self._lock:
            held = any(now - held.claimed_at > LASTING for held in self._held.values())
            return held or now - self._lasted_at < LATELY

    def look(self, jobs: Iterable[JobId]) -> None:
        """Renew these at once, where they are ours: a hint says that something about them has changed."""
        with self._lock:
            for job in jobs:
                if job in self._tried:
                    self._tried[job] = float("-inf")
        self._wake.set()

    def count(self, batch: Sequence[Held]) -> list[Future[None]]:
        """Write of jobs that the device has begun with that it has; the writes that are not done yet."""
        with self._lock:
            if self._closed:
                return []
            return [self._counted(held) for held in batch if held.gone is None and not held.counted]

    def _counted(self, held: Held) -> Future[None]:
        running = self._counting.get(held.id)
        if running is None or running.done():
            running = self._counting[held.id] = self._submit(held)
        return running

    def run(self, stopped: Event) -> None:
        """Renew what is due until ``stopped``."""
        while not stopped.is_set():
            self._wake.wait(self._pause())
            self._wake.clear()
            self.beat()
            if (
                self._error is not None
            ):  # a defect of ours: a lease that silently ends would bring the job back for ever
                raise self._error
        with self._lock:
            self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _pause(self) -> float:
        with self._lock:
            return COUNTED_FROM if any(_is_uncounted(held) for held in self._held.values()) else LOOK_EVERY

    def beat(self) -> None:
        """Begin a renewal of everything that is due."""
        now = time.monotonic()
        with self._lock:
            for job, held in self._held.items():
                running = self._running.get(job)
                if held.gone is not None or (running is not None and not running.done()):
                    continue
                interval = self._progress_interval if held.unwritten_progress else self._interval
                if now - self._tried[job] >= interval:
                    self._tried[job] = now
                    self._running[job] = self._submit(held)
                elif _is_uncounted(held) and now - (held.begun_at or now) >= COUNTED_FROM:
                    self._running[job] = self._counted(held)
            self._running = {job: future for job, future in self._running.items() if not future.done()}

    def _noted(self) -> None:
        try:
            self._note([(job, held.token) for job, held in self._held.items()])
        except OSError as exc:  # a full disk: a restart will have to wait for its old leases, that is all
            if not self._unnoted:
                log.warning("state.unwritable", error=str(exc))
            self._unnoted = True

    def _submit(self, held: Held) -> Future[None]:
        future = self._pool.submit(self._renew, held)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: Future[None]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self._error = self._error or error

    def _renew(self, held: Held) -> None:
        try:
            held.renew()
        except (StoreUnavailable, DocumentTooLarge) as exc:
            if isinstance(exc, DocumentTooLarge):  # then at least not for an address that nobody must have
                held.hide_preview()
            log.warning("job.renewal_failed", job=held.id.path, error=str(exc))
            with self._lock:
                if held.id in self._tried:
                    self._tried[held.id] = time.monotonic() - self._interval + AGAIN_AFTER


def _is_uncounted(held: Held) -> bool:
    """Whether the device is at it and its document does not say so yet."""
    return held.begun_at is not None and not held.generated and not held.counted

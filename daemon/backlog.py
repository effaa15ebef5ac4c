"""How much waits in the queue, and for how long: what an autoscaler needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Lock

from daemon.core.errors import StoreUnavailable
from daemon.core.job import Collection
from daemon.core.ports import Store

FRESH = 15.0  # seconds for which a figure holds: whoever scrapes more often costs no more reads
PATIENCE = 2.0  # seconds that a scrape waits for the store; the next one finds the answer that came later


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The queue at one moment. ``oldest`` is the seconds since the last write of the job at its head."""

    depth: int
    oldest: float


class Backlog:
    """Asks the store when somebody looks, beside the scrape, so that a store that is away holds no scrape back."""

    def __init__(
        self, store: Store, collections: Sequence[Collection], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._collections = collections
        self._clock = clock
        self._waiting: Waiting | None = None
        self._asked_at = float("-inf")
        self._answered = Event()
        self._answered.set()
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="backlog")

    def look(self) -> Waiting | None:
        """The queue, at most 15 seconds old; ``None`` where the store cannot tell."""
        with self._lock:
            if self._answered.is_set() and self._clock() - self._asked_at >= FRESH:
                self._asked_at = self._clock()
                self._answered.clear()
                self._thread.submit(self._ask)
        return self._waiting if self._answered.wait(PATIENCE) else None

    def _ask(self) -> None:
        try:
            head = self._store.window(self._collections, limit=1)
            age = max((self._store.now() - job.updated_at).total_seconds() for job in head) if head else 0.0
            self._waiting = Waiting(depth=self._store.queued(self._collections), oldest=max(0.0, age))
        except StoreUnavailable:
            self._waiting = None
        finally:
            self._answered.set()

"""How much this worker may take on: one call on the device, one batch ready, a few jobs being finished."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, Lock

from daemon.held import Held


class Room:
    """Bounds what is claimed, generated and finished at the same time. Thread safe.

    The next batch is claimed when the device is free or expected to be within ``prefetch`` seconds, so that no daemon
    hoards what an idle one could do. While more than ``finishing`` jobs wait for encode, upload and completion, no call
    begins; so there are never more of them than that and one batch.
    """

    def __init__(self, *, prefetch: float, finishing: int) -> None:
        self._prefetch = prefetch
        self._limit = finishing
        self._ready: deque[list[Held]] = deque()
        self._running: Sequence[Held] = ()
        self._ends_at = float("inf")
        self._moved_at = time.monotonic()
        self._finishing = 0
        self._closed = False
        # Each is woken only where it can go on: waking a thread at every step costs the device's own thread time.
        self._lock = Lock()
        self._claimable = Condition(self._lock)
        self._takeable = Condition(self._lock)

    def wait_for_claim(self, seconds: float) -> bool:
        """Wait at most so long for room for another batch; whether there is."""
        with self._claimable:
            return self._claimable.wait_for(self._may_claim, seconds)

    def put(self, batch: list[Held]) -> bool:
        """Hand a claimed batch to the device; ``False`` once closed."""
        with self._lock:
            if self._closed:
                return False
            self._ready.append(batch)
            self._wake()
            return True

    def take(self) -> list[Held] | None:
        """Wait for the next batch, and until what it makes can be finished; ``None`` once closed."""
        with self._takeable:
            self._running, self._ends_at = (), float("inf")
            self._wake()
            self._takeable.wait_for(self._may_take)
            if self._closed:
                return None
            batch = self._ready.popleft()
            self._running, self._moved_at = batch, time.monotonic()
            return batch

    def moved(self, ends_at: float) -> None:
        """Tell that the device made a step, and when the running call will end, by the monotonic clock."""
        with self._lock:
            self._ends_at, self._moved_at = ends_at, time.monotonic()
            self._wake()

    def loading(self) -> None:
        """Tell that the device waits for a model, for however long: it is not stuck before it moves again."""
        with self._lock:
            self._moved_at = float("inf")

    def stuck(self, limit: Callable[[Sequence[Held]], float]) -> Sequence[Held]:
        """The running batch, where its device has not made a step within the limit, in seconds, that it has."""
        with self._lock:
            batch = self._running
            return batch if batch and time.monotonic() - self._moved_at > limit(batch) else ()

    def finishing(self, change: int) -> None:
        """Count jobs into the finisher, and out again."""
        with self._lock:
            self._finishing += change
            self._wake()

    @property
    def running(self) -> Sequence[Held]:
        """The batch on the device."""
        return self._running

    @property
    def in_finishing(self) -> int:
        """The jobs in the finisher."""
        return self._finishing

    def close(self) -> list[Held]:
        """Let ``take`` return ``None`` from now on; what was ready and will not run here."""
        with self._lock:
            self._closed = True
            left = [held for batch in self._ready for held in batch]
            self._ready.clear()
            self._wake()
            return left

    def _wake(self) -> None:
        if self._may_claim():
            self._claimable.notify_all()
        if self._may_take():
            self._takeable.notify_all()

    def _may_take(self) -> bool:
        return self._closed or bool(self._ready and self._finishing <= self._limit)

    def _may_claim(self) -> bool:
        if self._closed or self._ready or self._finishing > self._limit:
            return False
        if any(held.work.alone for held in self._running):
            return False
        return not self._running or self._ends_at - time.monotonic() <= self._prefetch

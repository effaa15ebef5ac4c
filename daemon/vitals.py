"""Whether a worker lives, and whether it claims: what ``/healthz``, ``/readyz`` and systemd's watchdog are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

CLAIMING = "claiming"


class Vitals:
    """The last sign of life of each thread, and what the worker does, in words. Thread safe.

    A thread gives a sign whenever it asks whether to stop, and whenever it calls the store. Waiting is no silence:
    each thread is allowed the longest wait that it may have, for work or for an answer. Whether anything remote can
    be reached says nothing about life; it says whether the worker claims.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.doing = "starting"
        self.store_trouble: str | None = None  # of the last call of the store
        self._clock = clock
        self._within: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()

    def expect(self, thread: str, *, within: float) -> None:
        """Expect signs of the thread of this name from now on, no further apart than so many seconds."""
        with self._lock:
            self._within[thread], self._last[thread] = within, self._clock()

    def forget(self, thread: str) -> None:
        """Expect no more signs: the thread has ended as it should."""
        with self._lock:
            self._within.pop(thread, None)

    @contextmanager
    def working(self, *, within: float) -> Iterator[None]:
        """Expect signs of the thread that calls while the block runs: one of a pool, which otherwise rests unseen."""
        name = threading.current_thread().name
        self.expect(name, within=within)
        try:
            yield
        finally:
            self.forget(name)

    def sign(self) -> None:
        """Give a sign of the thread that calls."""
        name = threading.current_thread().name
        if name in self._within:
            self._last[name] = self._clock()

    def silent(self) -> list[str]:
        """The threads that have given no sign for too long."""
        now = self._clock()
        with self._lock:
            return [name for name, within in self._within.items() if now - self._last[name] > within]

    def idle_reason(self) -> str | None:
        """Why the worker claims nothing; ``None`` where it claims."""
        if self.doing != CLAIMING:
            return self.doing
        return self.store_trouble

    def asked(self, stopped: Event) -> Event:
        """The same event for threads to look at, each look being a sign of life."""
        return _Asked(stopped, self)


class _Asked(Event):
    def __init__(self, event: Event, vitals: Vitals) -> None:
        super().__init__()
        self._event = event
        self._vitals = vitals

    def is_set(self) -> bool:
        self._vitals.sign()
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        self._vitals.sign()
        try:
            return self._event.wait(timeout)
        finally:
            self._vitals.sign()

    def set(self) -> None:
        self._event.set()

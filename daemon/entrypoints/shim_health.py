"""Whether the shim could accept a call now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from daemon.core.job import Collection, JobId
from daemon.core.ports import Store

FRESH = 5.0  # seconds: nobody makes us read the store more often by asking more often
NOBODY = JobId(user_id="easeld", collection=Collection.IMAGES, file_uid="readyz")  # a document that never exists


class Readiness:
    """The last time that the store answered."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._answered: float | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """Read from the store, unless it answered just now.

        Raises:
            StoreUnavailable: it is away.
        """
        with self._lock:
            if self._answered is None or self._clock() - self._answered > FRESH:
                self._store.read(NOBODY)
                self._answered = self._clock()

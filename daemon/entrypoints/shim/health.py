"""Whether the shim lives, and could accept a call now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fastapi import APIRouter
from starlette.responses import Response

from daemon.core.job import Collection, JobId
from daemon.core.ports import Store
from daemon.entrypoints.shim.answers import answer
from daemon.entrypoints.shim.calls import Calls

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


def health(store: Store, calls: Calls) -> APIRouter:
    """``/healthz`` and ``/readyz`` of a shim that runs alone."""
    router = APIRouter(tags=["health"])
    readiness = Readiness(store)

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> Response:
        """Whether the store can be reached, so that calls will be accepted."""
        await calls.run(readiness.check)
        return answer({"status": "ready"})

    return router

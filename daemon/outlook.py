"""When a queued job's turn comes, asked of the store and not of any worker."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from daemon.core.errors import StoreUnavailable
from daemon.core.job import Collection, Document, JobId, Status
from daemon.core.pace import Pace, Turn, pace_of, turn
from daemon.core.ports import Store
from daemon.core.record import moment

LOOKED_AT = 20  # completed jobs, and running ones: the newest
FRESH = 15.0  # seconds for which the pace holds
FRESH_TURN = 5.0  # seconds for which a job's turn holds: whoever asks more often costs nothing
REMEMBERED = 1000  # jobs' turns; the oldest is forgotten first


class Outlook:
    """Counts the jobs before one, and knows the pace at which jobs have lately ended. Thread safe."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._pace: tuple[float, Pace | None] | None = None  # asked at, and the pace
        self._turns: OrderedDict[JobId, tuple[float, Turn]] = OrderedDict()

    def turn(self, document: Document) -> Turn | None:
        """When its turn comes; ``None`` where it does not wait, or nobody can tell: it is no more than a courtesy."""
        fields = document.fields or {}
        created = moment(fields.get("created_at"))
        if fields.get("status") != Status.QUEUED or created is None:
            return None
        known = self._turns.get(document.id)
        if known is not None and self._clock() - known[0] < FRESH_TURN:
            return known[1]
        try:
            found = turn(self._store.queued(tuple(Collection), before=created), self.pace())
        except StoreUnavailable:
            return None
        self._turns[document.id] = (self._clock(), found)
        self._turns.move_to_end(document.id)
        while len(self._turns) > REMEMBERED:
            self._turns.popitem(last=False)
        return found

    def pace(self) -> Pace | None:
        """How the queue moves; ``None`` where nobody can tell.

        Raises:
            StoreUnavailable: the store is away.
        """
        if self._pace is None or self._clock() - self._pace[0] >= FRESH:
            completed = self._store.newest(status=Status.COMPLETED, limit=LOOKED_AT)
            processing = self._store.newest(status=Status.PROCESSING, limit=LOOKED_AT)
            self._pace = (self._clock(), pace_of(completed, processing, self._store.now()))
        return self._pace[1]

"""How long the jobs of a worker that died or froze wait until somebody gives them back."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from threading import Event, Lock

from daemon.core.job import TERMINAL, Collection, Document, JobId, Status
from daemon.core.ports import Store
from daemon.core.record import holder
from tests.chaos.clients import surely

LOOK_EVERY = 0.1  # seconds
PAGE = 200  # documents in one query


class Rescues:
    """Looks after bereaved jobs, straight in the store. ``run`` has a thread of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._waiting: dict[tuple[JobId, str], float] = {}
        self.seconds: list[float] = []

    def bereave(self, worker: str) -> None:
        """This worker has just died or frozen: note what it holds."""
        now = time.monotonic()
        for document in self._processing():
            lease = holder(document.fields)
            if lease is not None and lease.worker == worker:
                with self._lock:
                    self._waiting.setdefault((document.id, lease.token), now)

    def holder_of(self, job: JobId) -> str | None:
        """The token of whoever holds a job now."""
        lease = holder(surely(lambda: self._store.read(job)).fields)
        return None if lease is None else lease.token

    def ended(self, job: JobId) -> bool:
        """Whether a job is over, or its document gone."""
        fields = surely(lambda: self._store.read(job)).fields
        return fields is None or fields.get("status") in TERMINAL

    def run(self, stopped: Event) -> None:
        """Note when each is given back, until ``stopped``."""
        while not stopped.wait(LOOK_EVERY):
            with self._lock:
                waiting = dict(self._waiting)
            for (job, token), since in waiting.items():
                if self.holder_of(job) != token:
                    self.seconds.append(time.monotonic() - since)
                    with self._lock:
                        del self._waiting[job, token]

    @property
    def p95(self) -> float:
        """Of all that were given back; 0 where there were none."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else 0.0

    def _page(self, after: Document | None) -> list[Document]:
        return self._store.by_name(tuple(Collection), status=Status.PROCESSING, limit=PAGE, after=after)

    def _processing(self) -> Iterable[Document]:
        page: list[Document] = []
        while True:
            after = page[-1] if page else None
            page = surely(partial(self._page, after))
            yield from page
            if len(page) < PAGE:
                return

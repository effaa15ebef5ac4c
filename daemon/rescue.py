"""Looks after jobs that no worker looks after: expired leases, and cancellations."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from threading import Event

import structlog

from daemon.core import lifecycle
from daemon.core.errors import DocumentTooLarge, StoreUnavailable
from daemon.core.job import Collection, Decide, Document, JobId, Refusal, Status, Why
from daemon.core.policy import Policy
from daemon.core.ports import Store
from daemon.heartbeat import Heartbeat
from daemon.unwritable import Unwritable

log = structlog.get_logger(__name__)

PAGE = 200  # documents in one query
MAX_PAGES = 20  # in one pass
SWEEP_EVERY = 300.0  # seconds between two passes by name, for documents whose ``modified`` is missing or mistyped
CANCEL_POLL = 5.0  # seconds


class Rescue:
    """Gives back what dead workers held. Every worker does; the store lets one of them win."""

    def __init__(self, store: Store, policy: Policy, *, interval: float, rescued: Callable[[Document], None]) -> None:
        self._store = store
        self.interval = interval
        self._lease = timedelta(seconds=policy.lease_seconds)
        self._expire = partial(lifecycle.expire, max_attempts=policy.max_attempts, max_expiries=policy.max_expiries)
        self._rescued = rescued
        self._after: Document | None = None  # behind it: what is not known to be nobody's
        self._swept = float("-inf")
        self._unwritable = Unwritable(store)

    def give_back(self, claims: Iterable[tuple[JobId, str]]) -> None:
        """Give back what an earlier life of this worker held when it died.

        Raises:
            StoreUnavailable: what is left over is rescued when its lease ends.
        """
        for job, token in claims:
            if self._end(self._store.read(job), partial(self._expire, dead=token)):
                log.info("job.taken_back", job=job.path)

    def run(self, stopped: Event) -> None:
        """Look every ``interval`` seconds, jittered, until ``stopped``."""
        while not stopped.is_set():
            try:
                self.look()
            except StoreUnavailable as exc:
                log.warning("rescue.postponed", error=str(exc))
            stopped.wait(self.interval * random.uniform(0.8, 1.2))

    def look(self) -> None:
        """One pass.

        Raises:
            StoreUnavailable: the next pass goes on.
        """
        before = self._store.now() - self._lease
        for _ in range(MAX_PAGES):
            page = self._store.stale(before=before, limit=PAGE, after=self._after)
            if self._expire_all(page) or len(page) < PAGE:
                break
            self._after = page[-1]  # documents of an older worker's stay untouched, and would hide ours for ever
        if time.monotonic() - self._swept < SWEEP_EVERY:
            return
        self._after = None
        page = []
        while True:
            page = self._store.by_name(
                tuple(Collection), status=Status.PROCESSING, limit=PAGE, after=page[-1] if page else None
            )
            self._expire_all(page)
            if len(page) < PAGE:
                break
        self._swept = time.monotonic()

    def _expire_all(self, documents: Iterable[Document]) -> bool:
        """Expire what can be; whether anything was."""
        return sum(self._end(document, self._expire) for document in documents) > 0

    def _end(self, document: Document, decide: Decide) -> bool:
        if self._unwritable.skip(document):
            return False
        try:
            result = self._store.update(document, decide)
        except DocumentTooLarge as exc:
            result = self._unwritable.give_up(document, exc) or Refusal(why=Why.DONE)
        if isinstance(result, Refusal):
            return False
        self._rescued(result)
        return True


class Cancellations:
    """Ends queued jobs whose clients asked for it, and makes this worker look at those that it holds itself."""

    def __init__(self, store: Store, heartbeat: Heartbeat, *, cancelled: Callable[[Document], None]) -> None:
        self._store = store
        self._heartbeat = heartbeat
        self._cancelled = cancelled
        self._unwritable = Unwritable(store)
        self.wake = Event()

    def run(self, stopped: Event) -> None:
        """Look when woken, and every few seconds, until ``stopped``."""
        while not stopped.is_set():
            self.wake.clear()
            try:
                self.look()
            except StoreUnavailable as exc:
                log.warning("cancellations.postponed", error=str(exc))
            self.wake.wait(CANCEL_POLL * random.uniform(0.8, 1.0))

    def look(self) -> None:
        """One pass.

        Raises:
            StoreUnavailable: the next pass goes on.
        """
        held: list[JobId] = []
        for document in self._store.cancelling(limit=PAGE):
            if (document.fields or {}).get("status") == Status.PROCESSING:
                held.append(document.id)
                continue
            if self._unwritable.skip(document):
                continue
            try:
                result: Document | Refusal | None = self._store.update(document, lifecycle.cancel)
            except DocumentTooLarge as exc:
                result = self._unwritable.give_up(document, exc)
            if isinstance(result, Document):
                self._cancelled(result)
        if held:
            self._heartbeat.look(held)

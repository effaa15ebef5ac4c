"""Finds queued jobs and claims them: the hint says when to look, the poll is the truth."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from threading import Event

import structlog

from daemon.core import lifecycle
from daemon.core.errors import DocumentTooLarge, StoreUnavailable
from daemon.core.job import Collection, Document, JobId, Refusal, Status, Why
from daemon.core.plan import fits
from daemon.core.policy import Policy, Ticket
from daemon.core.ports import Store
from daemon.core.record import holder
from daemon.held import Held
from daemon.quota import Quota

log = structlog.get_logger(__name__)

WINDOW = 50  # documents looked at in one query
MAX_PAGES = 20  # windows paged through in one pass, where nothing in them can be claimed
POLL_WITH_LISTENER = 30.0  # seconds between two passes while the listener proves alive
POLL_ALONE = 2.0  # seconds between two passes without it
SWEEP_EVERY = 300.0  # seconds between two passes by name, for documents that the window hides
LONGEST_SPREAD = 16.0  # places in the window by which the order of two workers may differ


class Claimer:
    """Claims jobs for one worker; used by one thread."""

    def __init__(
        self,
        store: Store,
        policy: Policy,
        *,
        worker: str,
        collections: Sequence[Collection],
        listener_alive: Callable[[], bool],
        ended: Callable[[Document], None],
        max_batch: int,
        quota: int | None = None,
    ) -> None:
        self._store = store
        self._quota = Quota(store=store, most=quota)
        self._policy = policy
        self._worker = worker
        self._collections = collections
        self._listener_alive = listener_alive
        self._ended = ended
        self._max_batch = max_batch
        self._spread = 0.0
        self._resume: Document | None = None
        self._swept = time.monotonic() - SWEEP_EVERY
        self._unwritable: dict[JobId, int] = {}
        self.wake = Event()

    def ticket(self) -> Ticket:
        """A claim unlike any other."""
        return Ticket(worker=self._worker, token=secrets.token_hex(16), seed=secrets.randbits(32))

    def next(self, stopped: Event) -> list[Held]:
        """Wait for claimable jobs and claim one, with others that fit into its call; empty once ``stopped``."""
        trouble = False
        while not stopped.is_set():
            self.wake.clear()
            until: datetime | None = None
            try:
                batch, until = self._pass()
                trouble = False
                if batch:
                    return batch
                wait = self._pause(until)
            except StoreUnavailable as exc:
                if not trouble:
                    log.warning("store.unavailable", error=str(exc))
                trouble, wait = True, POLL_ALONE
            self.wake.wait(wait if until is not None else wait * random.uniform(0.8, 1.0))
        return []

    def _pause(self, until: datetime | None) -> float:
        poll = POLL_WITH_LISTENER if self._listener_alive() else POLL_ALONE
        if until is None:
            return poll
        return min(poll, max(0.0, (until - self._store.now()).total_seconds()) + 0.001)

    def _pass(self) -> tuple[list[Held], datetime | None]:
        """Look through the queue once; what was claimed, and when something else becomes claimable."""
        earliest: datetime | None = None
        for page in self._pages():
            batch: list[Held] = []
            for document in self._order(page):
                if batch and not self._joins(batch, document):
                    continue
                claimed = self._claim(document)
                if isinstance(claimed, Held):
                    batch.append(claimed)
                    if len(batch) >= self._max_batch:
                        break
                elif claimed is not None:
                    earliest = min(earliest or claimed, claimed)
            if batch:
                return batch, None
        return [], earliest

    def _pages(self) -> Iterator[list[Document]]:
        """The window, and as long as it hides something behind jobs that cannot be claimed yet, what lies behind it.

        The first window is looked at in every pass; a queue longer than ``MAX_PAGES`` is gone on with in the next one.
        """
        page = self._store.window(self._collections, limit=WINDOW)
        yield page
        after = self._resume if len(page) == WINDOW else None
        for _ in range(MAX_PAGES):
            if len(page) < WINDOW:
                self._resume = None
                break
            after = after or page[-1]
            page = self._store.window(self._collections, limit=WINDOW, after=after)
            yield page
            self._resume = after = page[-1] if page else None
        if time.monotonic() - self._swept >= SWEEP_EVERY:
            yield from self._sweep()
            self._swept = time.monotonic()

    def _sweep(self) -> Iterator[list[Document]]:
        page: list[Document] = []
        while True:
            page = self._store.by_name(
                self._collections, status=Status.QUEUED, limit=WINDOW, after=page[-1] if page else None
            )
            if page:
                yield page
            if len(page) < WINDOW:
                return

    def _order(self, page: list[Document]) -> list[Document]:
        """Older ones first on the whole; the more claims are lost to others, the more shuffled."""
        places = [(place + random.uniform(0.0, self._spread), document) for place, document in enumerate(page)]
        return [document for _, document in sorted(places, key=lambda entry: entry[0])]

    def _joins(self, batch: Sequence[Held], document: Document) -> bool:
        candidate = lifecycle.preview(document, policy=self._policy)
        return candidate is not None and fits([held.work for held in batch], candidate, max_items=self._max_batch)

    def _claim(self, document: Document) -> Held | datetime | None:
        """Claim one document: the job, or the moment to look again, or neither."""
        if self._unwritable.get(document.id) == document.version:
            return None
        ticket, began = self.ticket(), time.monotonic()
        try:
            take = partial(lifecycle.take, policy=self._policy, ticket=ticket)
            result = self._store.claim(document, self._quota.decision(document, take))
        except DocumentTooLarge as exc:
            self._give_up(document, exc)
            return None
        lost = isinstance(result, Refusal) and result.why is Why.LOST
        self._spread = min(LONGEST_SPREAD, max(1.0, 2 * self._spread)) if lost else 0.9 * self._spread
        if lost:
            result = self._store.read(document.id)  # a commit whose answer was lost looks like losing
        if isinstance(result, Refusal):
            return result.until if result.why is Why.NOT_YET else None
        lease = holder(result.fields)
        if lease is None or lease.token != ticket.token:
            if not lost:
                self._ended(result)
            return None
        held = Held(self._store, result, self._policy)
        held.timings["queued"] = (result.updated_at - document.updated_at).total_seconds()
        held.timings["claim"] = time.monotonic() - began
        log.info("job.claimed", job=held.id.path, attempt=held.mark.attempt, model=held.work.spec.name)
        return held

    def _give_up(self, document: Document, cause: DocumentTooLarge) -> None:
        """End a document that has no room for our fields; where not even that can be written, skip this version."""
        try:
            result = self._store.claim(document, lifecycle.give_up)
        except DocumentTooLarge:
            self._unwritable[document.id] = document.version
            log.warning("job.unwritable", job=document.id.path, error=str(cause), todo="make the document smaller")
        else:
            if isinstance(result, Document):
                self._ended(result)

"""Finds queued jobs to claim: the hint says when to look, the poll is the truth."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from threading import Event

import structlog

from daemon.claims import Claims
from daemon.core import lifecycle
from daemon.core.errors import StoreUnavailable
from daemon.core.job import Collection, Document, Status
from daemon.core.plan import fits, preferred
from daemon.core.policy import Policy, Ticket
from daemon.core.ports import Store
from daemon.held import Held

log = structlog.get_logger(__name__)

WINDOW = 50  # documents looked at in one query
BEHIND = WINDOW // 2  # documents in a window that was full before, from which the queue still counts as long
FRESH = 1.0  # seconds for which what a window left over is claimed from without looking again
MAX_PAGES = 20  # windows paged through in one pass, where nothing in them can be claimed
POLL_WITH_LISTENER = 30.0  # seconds between two passes while the listener proves alive
POLL_ALONE = 2.0  # seconds between two passes without it
SWEEP_EVERY = 300.0  # seconds between two passes by name, for documents that the window hides


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
        news: Callable[[], list[Document]] = list,
        ended: Callable[[Document], None],
        max_batch: int,
        loaded: Callable[[str], bool] = lambda _: True,
        quota: int | None = None,
    ) -> None:
        self._store = store
        self._policy = policy
        self._claims = Claims(store, policy, worker=worker, ended=ended, max_batch=max_batch, quota=quota)
        self._collections = collections
        self._listener_alive = listener_alive
        self._news = news
        self._quiet = False  # whether the last look through the queue found nothing to claim
        self._max_batch = max_batch
        self._loaded = loaded
        self.behind = False  # whether more waits than we claim from for now: then no hint is needed that something does
        self._left: list[Document] = []  # of the last window, behind what was claimed of it
        self._in_window = 0  # documents in the last window
        self._looked = float("-inf")
        self._resume: Document | None = None
        self._swept = time.monotonic() - SWEEP_EVERY
        self._sweep_after: Document | None = None
        self.wake = Event()

    def ticket(self) -> Ticket:
        """A claim unlike any other."""
        return self._claims.ticket()

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
        if found := self._claims.found():
            return found, None
        earliest: datetime | None = None
        for page, in_window in self._pages():
            waiting = self._order(page)
            while waiting:
                company = self._company(waiting)
                taken = {document.id for document in company}
                waiting = [document for document in waiting if document.id not in taken]
                batch, until = self._claims.make(company)
                if batch:
                    self._left, self._quiet = waiting, False
                    self.behind = in_window == WINDOW or (self.behind and in_window >= BEHIND)
                    return batch, None
                if until is not None:
                    earliest = min(earliest or until, until)
        self._quiet, self.behind = True, False
        return [], earliest

    def _company(self, documents: Sequence[Document]) -> list[Document]:
        """The first of the documents, with others that fit into its call."""
        company, works = [documents[0]], [lifecycle.preview(documents[0], policy=self._policy)]
        for document in documents[1:]:
            if len(company) >= self._max_batch or works[0] is None:
                break
            work = lifecycle.preview(document, policy=self._policy)
            if work is not None and fits([work for work in works if work], work, max_items=self._max_batch):
                company.append(document)
                works.append(work)
        return company

    def _pages(self) -> Iterator[tuple[list[Document], int]]:
        """The window, and as long as it hides something behind jobs that cannot be claimed yet, what lies behind it.

        The first window is looked at in every pass; a queue longer than ``MAX_PAGES`` is gone on with in the next one.
        When the sweep is due, a page of it comes first, so that a queue that never empties does not starve it. Where
        nothing was waiting, what the listener has just heard of comes before the window: an idle worker need not ask.

        Each comes with the number of documents in the first window, where it is of that, and else with 0.
        """
        news = self._news()
        if time.monotonic() - self._swept >= SWEEP_EVERY:
            yield self._sweep(), 0
        if self._quiet and news:
            yield sorted(news, key=lambda document: document.updated_at), 0
        elif self._keeps():
            yield self._left, self._in_window
        self._left, self._looked = [], time.monotonic()
        page = self._store.window(self._collections, limit=WINDOW)
        self._in_window = len(page)
        yield page, len(page)
        after = self._resume if len(page) == WINDOW else None
        for _ in range(MAX_PAGES):
            if len(page) < WINDOW:
                self._resume = None
                break
            after = after or page[-1]
            page = self._store.window(self._collections, limit=WINDOW, after=after)
            yield page, 0  # what comes before it cannot be claimed, so this is no long queue of ours
            self._resume = after = page[-1] if page else None

    def _keeps(self) -> bool:
        """Whether what the last window left over will do: enough of it, fresh, and no other worker after the same."""
        fresh = time.monotonic() - self._looked < FRESH and self._claims.uncontested
        return fresh and len(self._left) >= self._max_batch

    def _sweep(self) -> list[Document]:
        """The next page of the queue by name."""
        page = self._store.by_name(self._collections, status=Status.QUEUED, limit=WINDOW, after=self._sweep_after)
        self._sweep_after = page[-1] if len(page) == WINDOW else None
        if self._sweep_after is None:
            self._swept = time.monotonic()
        return page

    def _order(self, page: list[Document]) -> list[Document]:
        """Older ones first on the whole, of loaded models sooner; the more are lost to others, the more shuffled."""
        if not all(self._loaded(name) for name in self._policy.models):  # else there is nothing to prefer
            queued = [(document.updated_at, self._is_loaded(document)) for document in page]
            page = [page[place] for place in preferred(queued)]
        places = [(place + random.uniform(0.0, self._claims.spread), document) for place, document in enumerate(page)]
        return [document for _, document in sorted(places, key=lambda entry: entry[0])]

    def _is_loaded(self, document: Document) -> bool:
        work = lifecycle.preview(document, policy=self._policy)
        return work is None or self._loaded(work.spec.name)  # what no call can be made of costs no loading

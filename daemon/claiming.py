"""Finds queued jobs and claims them: the hint says when to look, the poll is the truth."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from threading import Event

import structlog

from daemon.core import lifecycle
from daemon.core.errors import DocumentTooLarge, StoreUnavailable
from daemon.core.job import Collection, Decide, Document, JobId, Refusal, Status, Why
from daemon.core.plan import fits, preferred
from daemon.core.policy import Policy, Ticket
from daemon.core.ports import Store
from daemon.core.record import holder
from daemon.held import Held
from daemon.quota import Quota
from daemon.unwritable import Unwritable

log = structlog.get_logger(__name__)

WINDOW = 50  # documents looked at in one query
FRESH = 1.0  # seconds for which what a window left over is claimed from without looking again
MAX_PAGES = 20  # windows paged through in one pass, where nothing in them can be claimed
POLL_WITH_LISTENER = 30.0  # seconds between two passes while the listener proves alive
POLL_ALONE = 2.0  # seconds between two passes without it
SWEEP_EVERY = 300.0  # seconds between two passes by name, for documents that the window hides
LONGEST_SPREAD = 16.0  # places in the window by which the order of two workers may differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A claim to be made. One that is repeated alone bears the same token: it may have gone through in company."""

    document: Document
    ticket: Ticket
    decide: Decide
    began: float = field(default_factory=time.monotonic)


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
        self._quota = Quota(store=store, most=quota)
        self._policy = policy
        self._worker = worker
        self._collections = collections
        self._listener_alive = listener_alive
        self._news = news
        self._quiet = False  # whether the last look through the queue found nothing to claim
        self._ended = ended
        self._max_batch = max_batch
        self._loaded = loaded
        self._pool = ThreadPoolExecutor(max_batch, thread_name_prefix="claim")
        self._spread = 0.0
        self._left: list[Document] = []  # of the last window, behind what was claimed of it
        self._looked = float("-inf")
        self._resume: Document | None = None
        self._swept = time.monotonic() - SWEEP_EVERY
        self._sweep_after: Document | None = None
        self._unwritable = Unwritable(store)
        self._unknown: dict[JobId, str] = {}  # tokens of claims of which we heard no outcome
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
        if found := self._found():
            return found, None
        earliest: datetime | None = None
        for page in self._pages():
            waiting = self._order(page)
            while waiting:
                company = self._company(waiting)
                taken = {document.id for document in company}
                waiting = [document for document in waiting if document.id not in taken]
                batch, until = self._claim_all(company)
                if batch:
                    self._left, self._quiet = waiting, False
                    return batch, None
                if until is not None:
                    earliest = min(earliest or until, until)
        self._quiet = True
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

    def _claim_all(self, company: Sequence[Document]) -> tuple[list[Held], datetime | None]:
        """Claim documents together: those that are ours now, and when another may be."""
        each = map if self._quota.most is None else self._pool.map  # a quota asks the store
        attempts = list(each(self._attempt, [one for one in company if not self._unwritable.skip(one)]))
        batch: list[Held] = []
        earliest: datetime | None = None
        trouble: StoreUnavailable | None = None
        for claim in self._together(attempts):
            try:
                claimed = claim()
            except StoreUnavailable as exc:
                trouble = exc
                continue
            if isinstance(claimed, Held):
                batch.append(claimed)
            elif claimed is not None:
                earliest = min(earliest or claimed, claimed)
        if trouble is not None and not batch:  # what we hold already goes on
            raise trouble
        return batch, earliest

    def _together(self, attempts: Sequence[Attempt]) -> Iterator[Callable[[], Held | datetime | None]]:
        """What becomes of each attempt: all in one call, or where one stands in the way, each by itself, at once."""
        results = None
        if len(attempts) > 1:
            try:
                results = self._store.claim_together([(attempt.document, attempt.decide) for attempt in attempts])
            except StoreUnavailable:
                self._unknown |= {attempt.document.id: attempt.ticket.token for attempt in attempts}
                raise
        if results is not None:
            return (partial(self._became, *pair) for pair in zip(attempts, results, strict=True))
        if len(attempts) > 1:
            return iter([self._pool.submit(self._claim, attempt).result for attempt in attempts])
        return (partial(self._claim, attempt) for attempt in attempts)

    def _pages(self) -> Iterator[list[Document]]:
        """The window, and as long as it hides something behind jobs that cannot be claimed yet, what lies behind it.

        The first window is looked at in every pass; a queue longer than ``MAX_PAGES`` is gone on with in the next one.
        When the sweep is due, a page of it comes first, so that a queue that never empties does not starve it. Where
        nothing was waiting, what the listener has just heard of comes before the window: an idle worker need not ask.
        """
        news = self._news()
        if time.monotonic() - self._swept >= SWEEP_EVERY:
            yield self._sweep()
        if self._quiet and news:
            yield sorted(news, key=lambda document: document.updated_at)
        elif self._keeps():
            yield self._left
        self._left, self._looked = [], time.monotonic()
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

    def _keeps(self) -> bool:
        """Whether what the last window left over will do: enough of it, fresh, and no other worker after the same."""
        fresh = time.monotonic() - self._looked < FRESH and self._spread < 1.0
        return fresh and len(self._left) >= self._max_batch

    def _sweep(self) -> list[Document]:
        """The next page of the queue by name."""
        page = self._store.by_name(self._collections, status=Status.QUEUED, limit=WINDOW, after=self._sweep_after)
        self._sweep_after = page[-1] if len(page) == WINDOW else None
        if self._sweep_after is None:
            self._swept = time.monotonic()
        return page

    def _found(self) -> list[Held]:
        """A job that we hold without having heard so: the store went away in the middle of the claim."""
        while self._unknown:
            job, token = next(iter(self._unknown.items()))
            document = self._store.read(job)
            del self._unknown[job]
            lease = holder(document.fields)
            if lease is not None and lease.token == token:
                return [Held(self._store, document, self._policy)]
        return []

    def _order(self, page: list[Document]) -> list[Document]:
        """Older ones first on the whole, of loaded models sooner; the more are lost to others, the more shuffled."""
        if not all(self._loaded(name) for name in self._policy.models):  # else there is nothing to prefer
            queued = [(document.updated_at, self._is_loaded(document)) for document in page]
            page = [page[place] for place in preferred(queued)]
        places = [(place + random.uniform(0.0, self._spread), document) for place, document in enumerate(page)]
        return [document for _, document in sorted(places, key=lambda entry: entry[0])]

    def _is_loaded(self, document: Document) -> bool:
        work = lifecycle.preview(document, policy=self._policy)
        return work is None or self._loaded(work.spec.name)  # what no call can be made of costs no loading

    def _attempt(self, document: Document) -> Attempt:
        ticket = self.ticket()
        take = partial(lifecycle.take, policy=self._policy, ticket=ticket)
        return Attempt(document=document, ticket=ticket, decide=self._quota.decision(document, take))

    def _claim(self, attempt: Attempt) -> Held | datetime | None:
        """Claim one document: the job, or the moment to look again, or neither."""
        document = attempt.document
        try:
            result = self._store.claim(document, attempt.decide)
        except DocumentTooLarge as exc:
            ended = self._unwritable.give_up(document, exc)
            if ended is not None:
                self._ended(ended)
            return None
        except StoreUnavailable:
            self._unknown[document.id] = attempt.ticket.token
            raise
        return self._became(attempt, result)

    def _became(self, attempt: Attempt, result: Document | Refusal) -> Held | datetime | None:
        document = attempt.document
        lost = isinstance(result, Refusal) and result.why is Why.LOST
        self._spread = min(LONGEST_SPREAD, max(1.0, 2 * self._spread)) if lost else 0.9 * self._spread
        if lost:
            result = self._store.read(document.id)  # a commit whose answer was lost looks like losing
        if isinstance(result, Refusal):
            return result.until if result.why is Why.NOT_YET else None
        lease = holder(result.fields)
        if lease is None or lease.token != attempt.ticket.token:
            if not lost:
                self._ended(result)
            return None
        held = Held(self._store, result, self._policy)
        held.timings["queued"] = (result.updated_at - document.updated_at).total_seconds()
        held.timings["claim"] = time.monotonic() - attempt.began
        log.info("job.claimed", job=held.id.path, attempt=held.mark.attempt, model=held.work.spec.name)
        return held

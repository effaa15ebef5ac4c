"""Makes claims: several in one call where that goes, and keeps in mind those of which no outcome was heard."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import structlog

from daemon.core import lifecycle
from daemon.core.errors import DocumentTooLarge, StoreUnavailable
from daemon.core.job import Decide, Document, JobId, Refusal, Why
from daemon.core.plan import fits
from daemon.core.policy import Policy, Ticket
from daemon.core.ports import Store
from daemon.core.record import holder
from daemon.held import Held
from daemon.quota import Quota
from daemon.unwritable import Unwritable

log = structlog.get_logger(__name__)

LONGEST_SPREAD = 16.0  # places in the window by which the order of two workers may differ

Outcome = Held | datetime | None
"""A job that is ours now, or the moment at which the document may be claimed, or neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim to be made. Made again by itself it bears the same token: it may have gone through in company."""

    document: Document
    ticket: Ticket
    decide: Decide
    began: float = field(default_factory=time.monotonic)


class Claims:
    """The claims of one worker; used by one thread. ``ended`` gets a document that a claim has ended instead."""

    def __init__(
        self,
        store: Store,
        policy: Policy,
        *,
        worker: str,
        ended: Callable[[Document], None],
        max_batch: int,
        quota: int | None,
    ) -> None:
        self._store = store
        self._policy = policy
        self._worker = worker
        self._ended = ended
        self._max_batch = max_batch
        self._quota = Quota(store=store, most=quota)
        self._unwritable = Unwritable(store)
        self._pool = ThreadPoolExecutor(max_batch, thread_name_prefix="claim")
        self._unknown: dict[JobId, Claim] = {}  # of which we heard no outcome
        self.spread = 0.0  # places in the window by which to shuffle it; the more claims are lost to others, the more

    @property
    def uncontested(self) -> bool:
        """Whether no other worker seems to be after the same documents."""
        return self.spread < 1.0

    def ticket(self) -> Ticket:
        """A claim unlike any other."""
        return Ticket(worker=self._worker, token=secrets.token_hex(16), seed=secrets.randbits(32))

    def make(self, company: Sequence[Document]) -> tuple[list[Held], datetime | None]:
        """Claim documents: those that are ours now, and when another may be.

        Raises:
            StoreUnavailable: the store is away, and nothing is ours, for all that we know.
        """
        each = map if self._quota.most is None else self._pool.map  # a quota asks the store
        claims = list(each(self._claim, [one for one in company if not self._unwritable.skip(one)]))
        # Also where others are after the same documents: what is refused costs less than what goes through saves.
        results = self._together(claims) if len(claims) > 1 else None
        if results is None:
            return self._gathered(self._begun(claims))
        settled = [partial(self._settle, claim, result) for claim, result in zip(claims, results, strict=True)]
        return self._gathered(settled)

    def found(self) -> list[Held]:
        """Jobs that we hold without having heard so, as many as fit into one call: the store went away meanwhile.

        Raises:
            StoreUnavailable: it is still away.
        """
        batch: list[Held] = []
        left: dict[JobId, Claim] = {}
        for job, claim in self._unknown.items():
            document = self._store.read(job)
            if not _is_held(document, claim):
                continue
            held = self._held(document, claim)
            if fits([other.work for other in batch], held.work, max_items=self._max_batch):
                batch.append(held)
            else:
                left[job] = claim
        self._unknown = left
        return batch

    def _claim(self, document: Document) -> Claim:
        ticket = self.ticket()
        take = partial(lifecycle.take, policy=self._policy, ticket=ticket)
        return Claim(document=document, ticket=ticket, decide=self._quota.decision(document, take))

    def _together(self, claims: Sequence[Claim]) -> list[Document | Refusal] | None:
        try:
            return self._store.claim_together([(claim.document, claim.decide) for claim in claims])
        except StoreUnavailable:
            self._unknown |= {claim.document.id: claim for claim in claims}
            raise

    def _begun(self, claims: Sequence[Claim]) -> list[Callable[[], Outcome]]:
        """Make each claim by itself, all at the same time."""
        if len(claims) == 1:
            return [partial(self._make, claims[0])]
        futures: list[Future[Outcome]] = [self._pool.submit(self._make, claim) for claim in claims]
        return [future.result for future in futures]

    def _gathered(self, outcomes: Sequence[Callable[[], Outcome]]) -> tuple[list[Held], datetime | None]:
        batch: list[Held] = []
        earliest: datetime | None = None
        trouble: StoreUnavailable | None = None
        for outcome in outcomes:
            try:
                became = outcome()
            except StoreUnavailable as exc:
                trouble = exc
                continue
            if isinstance(became, Held):
                batch.append(became)
            elif became is not None:
                earliest = min(earliest or became, became)
        if trouble is not None and not batch:  # what we hold already goes on
            raise trouble
        return batch, earliest

    def _make(self, claim: Claim) -> Outcome:
        try:
            result = self._store.claim(claim.document, claim.decide)
        except DocumentTooLarge as exc:
            ended = self._unwritable.give_up(claim.document, exc)
            if ended is not None:
                self._ended(ended)
            return None
        except StoreUnavailable:
            self._unknown[claim.document.id] = claim
            raise
        return self._settle(claim, result)

    def _settle(self, claim: Claim, result: Document | Refusal) -> Outcome:
        lost = isinstance(result, Refusal) and result.why is Why.LOST
        self.spread = min(LONGEST_SPREAD, max(1.0, 2 * self.spread)) if lost else 0.9 * self.spread
        if lost:  # a commit whose answer was lost looks like that, too
            try:
                result = self._store.read(claim.document.id)
            except StoreUnavailable:
                self._unknown[claim.document.id] = claim
                raise
        if isinstance(result, Refusal):
            return result.until if result.why is Why.NOT_YET else None
        if not _is_held(result, claim):
            if not lost:
                self._ended(result)
            return None
        held = self._held(result, claim)
        log.info("job.claimed", job=held.id.path, attempt=held.mark.attempt, model=held.work.spec.name)
        return held

    def _held(self, document: Document, claim: Claim) -> Held:
        held = Held(self._store, document, self._policy)
        held.renewed_at = claim.began  # from before the call: the lease may only seem shorter than it is
        held.timings["queued"] = (document.updated_at - claim.document.updated_at).total_seconds()
        held.timings["claim"] = time.monotonic() - claim.began
        return held


def _is_held(document: Document, claim: Claim) -> bool:
    lease = holder(document.fields)
    return lease is not None and lease.token == claim.ticket.token

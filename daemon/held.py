"""A job that this worker holds: its last known document, and the one way to write it."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from daemon.core import lifecycle, request
from daemon.core.job import Decide, Document, JobId, Refusal, Why
from daemon.core.objects import Mark
from daemon.core.plan import Work
from daemon.core.policy import Policy, Progress, Ticket
from daemon.core.ports import Store
from daemon.core.record import Record, holder

if TYPE_CHECKING:
    from models.spec import Frames

LEASE_MARGIN = 5.0  # seconds before its end at which a lease that was not renewed counts as doubtful; a third at most


class Held:
    """One claim of one job. Thread safe: heartbeat, device and finisher write through the same lock.

    ``gone`` is set once a write was refused: the claim is over, and says why. ``progress`` belongs to the device
    thread; the heartbeat writes it. ``unharmed`` says that nothing has gone wrong with this job yet.
    """

    def __init__(self, store: Store, document: Document, policy: Policy) -> None:
        lease = holder(document.fields)
        if lease is None:
            raise ValueError(f"{document.id} is not held")
        record = Record.of(document.fields or {})
        self.id: JobId = document.id
        self.token = lease.token
        self.lease_seconds = lease.seconds
        self.mark = Mark(document=document.id.path, token=lease.token, attempt=lease.attempt, claimed=document.version)
        self.work = Work(
            spec=policy.models[str(record.raw.get("model"))],
            request=request.validate(record.request or {}, max_prompt_characters=policy.max_prompt_characters),
            seeds=record.seeds,
            alone=record.cost_workers,
        )
        self.unharmed = lease.attempt == 1 and not record.cost_workers
        self.replaces = record.replaces
        # Media go up in the order of their names, and are deleted in the other one. So where the first claim of a life
        # finds the base name free, nobody has left anything, and once its job is completed there is nothing to clean.
        self.alone_in_bucket = self.unharmed
        self.litter = True  # whether something may lie in the bucket that no document names
        self.timings: dict[str, float] = {}  # seconds per stage
        self.warnings: dict[str, None] = {}  # for the client, each once, in the order in which they came
        self.progress = Progress(phase="claimed", steps=self.work.request.num_inference_steps)
        self.preview: Frames | None = None  # a small picture of what the device is making, for the page
        self.shows_preview = True  # whether its document may tell of one in the bucket, where that is wanted at all
        self.preview_url: str | None = None
        self.gone: Refusal | None = None
        self.claimed_at = time.monotonic()
        self.renewed_at = self.claimed_at
        self.begun_at: float | None = None  # the moment, by the monotonic clock, at which the device began with it
        self.generated = False
        self._written = self._told
        self._store = store
        self._document = document
        self._lock = Lock()

    @property
    def document(self) -> Document:
        """The document as this claim last saw or wrote it."""
        return self._document

    @property
    def counted(self) -> bool:
        """Whether the document says that generation has begun, which is when the attempt counts."""
        lease = holder(self._document.fields)
        return lease is not None and lease.started

    @property
    def unwritten_progress(self) -> bool:
        return self._told != self._written

    @property
    def _told(self) -> Progress:
        """The progress as the document is told it."""
        return replace(self.progress, preview_url=self.preview_url)

    def hide_preview(self) -> None:
        """Tell the document of no preview any more: something speaks against it."""
        self.shows_preview, self.preview_url = False, None

    @property
    def doubtful(self) -> bool:
        """Whether the lease may have ended by now, for all that we know."""
        margin = min(LEASE_MARGIN, self.lease_seconds / 3)
        return time.monotonic() - self.renewed_at > self.lease_seconds - margin

    def write(self, decide: Decide, *, afresh: bool = False) -> Document | Refusal:
        """Decide and write. A refusal ends the claim; so does a write that ends or gives back the job.

        Decides on the document as last known, or with ``afresh`` on a new reading: after a refusal we know it no more.

        Raises:
            StoreUnavailable: nothing is known of the outcome; write again, or renew.
        """
        with self._lock:
            asked = time.monotonic()
            result = self._store.update(self.id if afresh else self._document, decide)
            if isinstance(result, Refusal):
                self.gone = result
                return result
            self._document = result
            lease = holder(result.fields)
            if lease is None or lease.token != self.token:
                self.gone = Refusal(why=Why.DONE)
            self.renewed_at = asked  # from before the call: the lease may only seem shorter than it is
            return result

    def renew(self) -> bool:
        """Prolong the lease, write the progress and whether generation has begun; ``False`` where the claim is over.

        Raises:
            StoreUnavailable: the lease goes on until it ends by itself.
        """
        if self.gone is not None:
            return False
        progress = self._told
        started = self.begun_at is not None
        result = self.write(partial(lifecycle.renew, token=self.token, started=started, progress=progress))
        self._written = progress
        return isinstance(result, Document)

    def reclaim(self, policy: Policy, ticket: Ticket) -> Held | None:
        """Start over with what the document asks for now; ``None`` where there is nothing to start."""
        with self._lock:
            result = self._store.update(
                self.id, partial(lifecycle.reclaim, token=self.token, policy=policy, ticket=ticket)
            )
        lease = holder(result.fields) if isinstance(result, Document) else None
        if isinstance(result, Document) and lease is not None and lease.token == ticket.token:
            return Held(self._store, result, policy)
        return None

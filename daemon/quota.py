"""How many jobs a user may have queued and processing at once. Off by default, and then nothing is asked of the store.

Two that come at the same moment may both get the last place: a count and a write are not one step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from daemon.core import quotas
from daemon.core.job import Decide, Document, JobId, Refusal, Status
from daemon.core.ports import Store
from daemon.core.record import moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Counts one user's active jobs in both collections; ``most`` of ``None`` is no limit."""

    store: Store
    most: int | None

    def has_room(self, document: Document) -> bool:
        """For the shim: whether a call that means this document may add a job. What it has accepted it never refuses.

        Raises:
            StoreUnavailable: the store is away.
        """
        if self.most is None or not quotas.adds_a_job(document):
            return True
        return len(self._active(document.id, limit=self.most + 1)) < self.most

    def decision(self, document: Document, take: Decide) -> Decide:
        """For the worker: ``take``, or to fail a document that may be taken now and exceeds its user's quota.

        Raises:
            StoreUnavailable: the store is away.
        """
        if self.most is None or not quotas.came_directly(document):
            return take
        if isinstance(take(document, self.store.now()), Refusal) or not self.is_exceeded_by(document):
            return take
        return partial(quotas.refuse, most=self.most)

    def is_exceeded_by(self, document: Document) -> bool:
        """Whether so many of its user's active jobs are older than a document.

        Raises:
            StoreUnavailable: the store is away.
        """
        if self.most is None:
            return False
        return len(self._active(document.id, limit=self.most, older_than=document)) >= self.most

    def _active(self, job: JobId, *, limit: int, older_than: Document | None = None) -> list[JobId]:
        """A user's other active jobs, up to ``limit`` of each status."""
        before = None if older_than is None else moment((older_than.fields or {}).get("created_at"))
        if older_than is not None and before is None:  # of no age; the rules of the database let no app write so
            return []
        found = [
            document.id
            for status in (Status.PROCESSING, Status.QUEUED)
            for document in self.store.newest(status=status, limit=limit, user_id=job.user_id, before=before)
        ]
        return [other for other in found if other != job]

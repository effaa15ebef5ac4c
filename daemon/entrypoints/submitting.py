"""Calls into the store: which document each means, and the one write. Blocking."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog

from daemon.core import submission as submissions
from daemon.core.errors import DocumentTooLarge, StoreUnavailable
from daemon.core.job import Collection, Document, JobId, Refusal, Why
from daemon.core.ports import Intake, Settled, Store, Update
from daemon.core.quotas import message
from daemon.core.request import Submission
from daemon.quota import Quota

log = structlog.get_logger(__name__)


class QuotaReached(Exception):
    """The call's user has as many jobs as the quota allows."""


Outcome = JobId | QuotaReached | DocumentTooLarge | StoreUnavailable


def submit(store: Store, call: Submission, *, quota: int | None = None) -> JobId:
    """Write a valid call into its document, and return which that is. A document that exists decides, else the call.

    Raises:
        QuotaReached: its user may not add a job now.
        StoreUnavailable: the store is away; nothing is half written.
        DocumentTooLarge: the document would be.
    """
    likely, unlikely = (store.read(job) for job in _candidates(call))
    document: Document = unlikely if likely.fields is None and unlikely.fields is not None else likely
    if not Quota(store=store, most=quota).has_room(document):
        log.info("call.over_quota", job=document.id.path)
        raise QuotaReached(message(quota or 0))
    written = store.update(document, partial(submissions.submit, values=call.values))
    _tell(document.id, written.why if isinstance(written, Refusal) else None)
    return document.id


def submit_each(store: Intake, calls: Sequence[Submission], *, quota: int | None = None) -> list[Outcome]:
    """As ``submit`` for each of many calls, together where nothing has to be counted for them first.

    Raises:
        StoreUnavailable: the store is away; nothing is half written.
    """
    if quota is not None:
        return [_submit_alone(store, call, quota) for call in calls]
    updates = [
        Update(candidates=_candidates(call), decide=partial(submissions.submit, values=call.values)) for call in calls
    ]
    outcomes: list[Outcome] = []
    told = log.bind()  # once: else it is bound anew for every line
    for settled in store.update_each(updates):
        if isinstance(settled, Settled):
            _tell(settled.job, settled.why, told)
        outcomes.append(settled.job if isinstance(settled, Settled) else settled)
    return outcomes


def _submit_alone(store: Store, call: Submission, quota: int) -> Outcome:
    try:
        return submit(store, call, quota=quota)
    except (QuotaReached, DocumentTooLarge, StoreUnavailable) as exc:
        return exc


def _tell(job: JobId, why: Why | None, told: Any = log) -> None:
    told.info("call.accepted", job=job.path, outcome="written" if why is None else why.name.lower())


def _candidates(call: Submission) -> tuple[JobId, JobId]:
    likely = Collection.of(call.task)
    (unlikely,) = set(Collection) - {likely}
    return call.job(likely), call.job(unlikely)

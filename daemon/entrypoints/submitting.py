"""A call into the store: which document it means, and the one write. Blocking."""

from __future__ import annotations

from functools import partial

import structlog

from daemon.core import submission as submissions
from daemon.core.job import Collection, Document, JobId, Refusal
from daemon.core.ports import Store
from daemon.core.quotas import message
from daemon.core.request import Submission
from daemon.quota import Quota

log = structlog.get_logger(__name__)


class QuotaReached(Exception):
    """The call's user has as many jobs as the quota allows."""


def submit(store: Store, submission: Submission, *, quota: int | None = None) -> JobId:
    """Write a valid call into its document, and return which that is.

    Raises:
        QuotaReached: its user may not add a job now.
        StoreUnavailable: the store is away; nothing is half written.
        DocumentTooLarge: the document would be.
    """
    document = find(store, submission)
    if quota is not None and not Quota(store=store, most=quota).has_room(document):
        log.info("call.over_quota", job=document.id.path)
        raise QuotaReached(message(quota))
    written = store.update(document, partial(submissions.submit, values=submission.values))
    outcome = written.why.name.lower() if isinstance(written, Refusal) else "written"
    log.info("call.accepted", job=document.id.path, outcome=outcome)
    return document.id


def find(store: Store, submission: Submission) -> Document:
    """The document that a call means: one that exists decides, in either collection; else what the call asks for."""
    likely = Collection.of(submission.task)
    wanted = store.read(submission.job(likely))
    if wanted.fields is not None:
        return wanted
    (unlikely,) = set(Collection) - {likely}
    other = store.read(submission.job(unlikely))
    return wanted if other.fields is None else other

"""A call into the store: which document it means, and the one write. Blocking."""

from __future__ import annotations

from functools import partial

import structlog

from daemon.core import submission as submissions
from daemon.core.job import Collection, Document, JobId, Refusal
from daemon.core.ports import Store
from daemon.core.request import Submission

log = structlog.get_logger(__name__)


def submit(store: Store, submission: Submission) -> JobId:
    """Write a valid call into its document, and return which that is.

    Raises:
        StoreUnavailable: the store is away; nothing is half written.
        DocumentTooLarge: the document would be.
    """
    document = find(store, submission)
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

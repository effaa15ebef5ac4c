"""Which documents a quota is about, and how one that exceeds it ends. Pure."""

from __future__ import annotations

from datetime import datetime

from daemon.core.errors import Rejected
from daemon.core.job import TERMINAL, Changes, Document, Refusal, Status, Why
from daemon.core.life import failed, submitted_anew


def message(most: int) -> str:
    """What a user is told."""
    return f"Too many generations at once: at most {most} may be queued or processing"


def adds_a_job(document: Document) -> bool:
    """Whether a call adds a job to its user's: not where it was accepted already, is being made, or has ended."""
    fields = document.fields
    if fields is None:
        return True
    status = fields.get("status")
    if status == Status.QUEUED:
        return not submitted_anew(fields)
    return status != Status.PROCESSING and status not in TERMINAL


def came_directly(document: Document) -> bool:
    """Whether a queued document is there without a call, which would have counted."""
    fields = document.fields
    return fields is not None and fields.get("status") == Status.QUEUED and not submitted_anew(fields)


def refuse(document: Document, now: datetime, *, most: int) -> Changes | Refusal:  # noqa: ARG001 - as every decision
    """Fail a document that came directly and exceeds its user's quota."""
    if not came_directly(document):
        return Refusal(why=Why.NOT_QUEUED)
    return failed(document, Rejected(message(most)))

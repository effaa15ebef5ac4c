"""What the shim writes: the queued document, and nothing else. Pure, like ``lifecycle``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from daemon.core import request as requests
from daemon.core.job import DELETE, SERVER_TIME, Changes, Document, Refusal, Status, Why
from daemon.core.life import asked, begun_anew, stale_seed, submitted_anew
from daemon.core.record import Record, moment
from daemon.core.request import Canonical


def submit(document: Document, now: datetime, *, values: Canonical) -> Changes | Refusal:
    """Queue a call's request; the same request again is never a second generation.

    Absent: create. Queued: merge. Processing with another request: merge, the worker starts over. Ended: a new life
    where its client failed it, where the request differs from the one that failed, or where the document was completed
    before its call came. Of no status that we know: queue it. Otherwise nothing is written.
    """
    fields = document.fields
    given = {name: value for name, value in values.items() if value is not None}
    if fields is None:
        return _create(document, given)
    before = asked(fields)
    merged = before | given
    record = Record.of(fields)
    different = not requests.same(merged, record.request or before)
    changed = {name: value for name, value in given.items() if fields.get(name) != value}
    match fields.get("status"):
        case Status.QUEUED if submitted_anew(fields) and merged == before:
            return Refusal(why=Why.DONE)
        case Status.QUEUED:
            if stale_seed(fields) and "seed" not in given:  # else the call would make it the client's
                changed = {"seed": DELETE} | changed
            return Changes(reason="job.submitted", fields=changed | {"submitted_at": SERVER_TIME})
        case Status.PROCESSING if record.lease is not None and different and merged != before:
            return Changes(reason="job.resubmitted", fields=changed | {"submitted_at": SERVER_TIME})
        case Status.PROCESSING:
            return Refusal(why=Why.DONE)
        case Status.COMPLETED | Status.FAILED | Status.CANCELLED if not _begins_anew(fields, different=different):
            return Refusal(why=Why.DONE)
        case _:  # ended, or of no status that we know: the call is what queues it
            again: dict[str, Any] = {"status": Status.QUEUED.value, "submitted_at": SERVER_TIME}
            if "created_at" not in fields:
                again["created_at"] = SERVER_TIME
            return Changes(reason="job.resubmitted", fields=begun_anew(fields) | given | again)


def ask_to_cancel(document: Document, now: datetime) -> Changes | Refusal:
    """Ask for the end of an active job, in its client's name."""
    fields = document.fields
    if fields is None:
        return Refusal(why=Why.ABSENT)
    active = fields.get("status") in (Status.QUEUED, Status.PROCESSING)
    if not active or fields.get("cancel_requested") is True:
        return Refusal(why=Why.DONE)
    return Changes(reason="job.cancel_requested", fields={"cancel_requested": True})


def _create(document: Document, given: Mapping[str, Any]) -> Changes:
    fields = {
        **given,
        "status": Status.QUEUED.value,
        "generated": False,
        "error": False,
        "user_id": document.id.user_id,
        "file_uid": document.id.file_uid,
        "created_at": SERVER_TIME,
        "submitted_at": SERVER_TIME,
    }
    return Changes(reason="job.submitted", fields=fields, create=True)


def _begins_anew(fields: Mapping[str, Any], *, different: bool) -> bool:
    if fields.get("status") == Status.COMPLETED:
        return different and moment(fields.get("submitted_at")) is None
    failed_by_client = fields.get("status") == Status.FAILED and moment(fields.get("failed_at")) is None
    return different or failed_by_client

"""One life of a document, from one queuing to its terminal state: how it begins, ends and is given back.

The building blocks of the transitions in ``lifecycle``; pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daemon.core import request as requests
from daemon.core.errors import JobError
from daemon.core.job import DELETE, SERVER_TIME, TERMINAL, Changes, Document, Fields, Status
from daemon.core.policy import Outcome
from daemon.core.record import Record, moment, texts

RESULTS = (  # what a terminal state leaves on a document
    "images",
    "image_url",
    "image_count",
    "videos",
    "video_url",
    "video_info",
    "completed_at",
    "failed_at",
    "cancelled_at",
    "error_message",
    "error_type",
    "task_type",
)
MAX_MESSAGE_BYTES = 1000


def new_life(fields: Fields) -> dict[str, Any]:
    """What has to go from a document, and be reset, when a new life begins on it."""
    changes: dict[str, Any] = {name: DELETE for name in (*RESULTS, "progress") if name in fields}
    if stale_seed(fields):
        changes["seed"] = DELETE
    for name in ("error", "generated"):
        if fields.get(name, False) is not False:
            changes[name] = False
    return changes


def begun_anew(fields: Fields) -> dict[str, Any]:
    """A new life that the shim or the operator begins: as ``new_life``, and nothing in our map or asked of the old one.

    Only the media that the document names are remembered: the new life may replace them.
    """
    changes = new_life(fields) | {name: DELETE for name in ("cancel_requested", "easeld") if name in fields}
    if replaces := texts(fields.get("images")) | texts(fields.get("videos")):
        changes["easeld"] = {"replaces": sorted(replaces)}
    return changes


def stale_seed(fields: Fields) -> bool:
    """Whether the seed on a document is the last result's: we wrote it there, nobody asks for it."""
    return fields.get("seed") is not None and asked(fields)["seed"] is None


def asked(fields: Fields) -> dict[str, Any]:
    """The canonical request of a document in any state; a seed that we wrote there ourselves is not asked for.

    On a document that was queued again by a mere update, a seed equal to the last result's counts as ours; on one that
    was called for again since (``submitted_at``), it is the client's.
    """
    wanted = requests.canonical(fields)
    record = Record.of(fields)
    if record.result is None or record.result.seed is None or wanted["seed"] != record.result.seed:
        return wanted
    if fields.get("status") in TERMINAL:
        wanted["seed"] = (record.request or {}).get("seed")
    elif not submitted_anew(fields):
        wanted["seed"] = None
    return wanted


def submitted_anew(fields: Fields) -> bool:
    """Whether a call of the shim stands behind the present life, or the one to begin."""
    submitted, result = moment(fields.get("submitted_at")), Record.of(fields).result
    if submitted is None:
        return False
    return result is None or result.finished_at is None or submitted > result.finished_at


def queued(document: Document, reason: str, ours: Mapping[str, Any]) -> Changes:
    """Give a held job back to the queue, in the same life; ``ours`` are the counters to set.

    It carries no error and no result then, not even one that its client wrote there.
    """
    before = document.fields or {}
    kept = {name: value for name, value in Record.of(before).raw.items() if name not in ("lease", "not_before")}
    fields = {
        **new_life(before),
        "status": Status.QUEUED.value,
        "modified": SERVER_TIME,
        "progress": DELETE,
        "easeld": kept | dict(ours),
    }
    return Changes(reason=reason, fields=fields)


def cancelled() -> dict[str, Any]:
    """The fields of a job that its client cancelled."""
    return {"status": Status.CANCELLED.value, "generated": False, "error": False, "cancelled_at": SERVER_TIME}


def failed(document: Document, error: JobError, *, token: str | None = None) -> Changes:
    """End a job with an error; ``token`` is the claim's that ends it, where one does."""
    message = str(error).encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore")
    fields = {
        "status": Status.FAILED.value,
        "generated": False,
        "error": True,
        "error_message": message,
        "error_type": error.error_type,
        "failed_at": SERVER_TIME,
    }
    return terminal(document, "job.failed", fields, token=token)


def terminal(
    document: Document,
    reason: str,
    fields: Mapping[str, Any],
    *,
    token: str | None = None,
    ours: Mapping[str, Any] | None = None,
    outcome: Outcome | None = None,
) -> Changes:
    """The one write that ends a life: result in, lease and everything of the last life out."""
    before = document.fields or {}
    record = Record.of(before)
    result = {
        "token": token,
        "attempt": record.lease.attempt if record.lease and token else None,
        "seed": outcome.seed if outcome else None,
        "generations": list(outcome.generations) if outcome else [],
        "finished_at": SERVER_TIME,
    }
    fresh = before.get("status") == Status.QUEUED and record.new_life
    kept = {} if fresh else {name: record.raw[name] for name in ("request", "model", "seeds") if name in record.raw}
    clean = {name: DELETE for name in (*RESULTS, "progress", "cancel_requested") if name in before}
    finishes = 0 if fresh else record.finishes
    return Changes(
        reason=reason,
        fields={
            **clean,
            **({"seed": DELETE} if fresh and stale_seed(before) else {}),
            **fields,
            "modified": SERVER_TIME,
            "user_id": document.id.user_id,
            "file_uid": document.id.file_uid,
            "easeld": {**kept, **(ours or {}), "result": result, "finishes": finishes + 1},
        },
    )

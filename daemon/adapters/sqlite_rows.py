"""How the embedded store writes a document down: its fields as JSON, and columns for the queries."""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from daemon.adapters.boot_clock import from_microseconds, to_microseconds
from daemon.core.job import Document, Fields, JobId, Status

# JSON has no times and no bytes: they become maps of one name that starts with "$". A name of a client's that starts
# so gets one "$" more, so that nothing can be mistaken.
TIME, BYTES = "$time", "$bytes"
PLAIN = frozenset({str, int, float, bool, type(None)})  # JSON as they are

# Firestore's order of types, which decides who is first in the window (null and numbers come before times).
NULL, BOOLEAN, NUMBER, MOMENT, OTHER = range(5)

SCHEMA = """
CREATE TABLE documents (
    path TEXT PRIMARY KEY,
    collection TEXT,            -- null: no job's path
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    fields TEXT NOT NULL,
    status TEXT,
    created_rank INTEGER,       -- the type's place in Firestore's order; null: there is no created_at
    created_value,              -- orders values of that type
    modified INTEGER,           -- null: missing, or no time
    cancel_requested INTEGER NOT NULL
);
CREATE INDEX documents_window ON documents (created_rank, created_value, path, collection)
    WHERE status = 'queued' AND created_rank IS NOT NULL;
CREATE INDEX documents_by_name ON documents (status, path, collection);
CREATE INDEX documents_stale ON documents (modified, path) WHERE status = 'processing';
CREATE INDEX documents_cancelling ON documents (path)
    WHERE cancel_requested = 1 AND status IN ('queued', 'processing');
CREATE TABLE state (
    counter INTEGER NOT NULL,       -- the version of the last commit
    committed_at INTEGER NOT NULL,  -- its time
    images INTEGER NOT NULL,        -- the version of the last commit that left an image queued
    videos INTEGER NOT NULL,        -- the same of a video
    cancelling INTEGER NOT NULL     -- the same of an active document with cancel_requested
);
INSERT INTO state VALUES (0, 0, 0, 0, 0);
CREATE TABLE boots (boot TEXT PRIMARY KEY, ahead INTEGER NOT NULL)
"""


SELECT = "SELECT path, version, updated_at, fields FROM documents"
UPSERT = """
INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET
    version = excluded.version, updated_at = excluded.updated_at, fields = excluded.fields, status = excluded.status,
    created_rank = excluded.created_rank, created_value = excluded.created_value, modified = excluded.modified,
    cancel_requested = excluded.cancel_requested
"""


def encode(fields: Fields) -> str:
    """The fields as JSON; ``decode`` gives them back exactly, sequences as lists.

    Raises:
        TypeError: a value is of a type that documents do not hold.
    """
    return json.dumps(_pack(fields), separators=(",", ":"))


def decode(text: str) -> dict[str, Any]:
    """The inverse of ``encode``; times are in UTC."""
    fields: dict[str, Any] = json.loads(text, object_hook=_unpack)
    return fields


def age_key(fields: Fields) -> tuple[int | None, int | float]:
    """Rank and value that order documents by ``created_at`` as Firestore does; rank ``None`` without the field."""
    if "created_at" not in fields:
        return None, 0
    value = fields["created_at"]
    match value:
        case None:
            return NULL, 0
        case bool():
            return BOOLEAN, int(value)
        case int() if -(2**63) <= value < 2**63:
            return NUMBER, value
        case int():
            return NUMBER, math.copysign(math.inf, value)
        case float():
            return NUMBER, -math.inf if math.isnan(value) else value
        case datetime():
            return MOMENT, to_microseconds(value)
        case _:
            return OTHER, 0


def columns(fields: Fields) -> tuple[str | None, int | None, int | float, int | None, int]:
    """``status``, ``created_rank``, ``created_value``, ``modified`` and ``cancel_requested`` of a row."""
    status, modified = fields.get("status"), fields.get("modified")
    return (
        str(status) if isinstance(status, str) else None,
        *age_key(fields),
        to_microseconds(modified) if isinstance(modified, datetime) else None,
        int(fields.get("cancel_requested") is True),
    )


def _pack(value: Any) -> Any:
    if type(value) in PLAIN:
        return value
    if isinstance(value, Mapping):
        return {f"${name}" if name.startswith("$") else name: _pack(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(item) for item in value]
    if isinstance(value, datetime):
        return {TIME: to_microseconds(value)}
    if isinstance(value, bytes):
        return {BYTES: b64encode(value).decode()}
    return value


def _unpack(found: dict[str, Any]) -> Any:
    if len(found) == 1:
        if TIME in found:
            return from_microseconds(found[TIME])
        if BYTES in found:
            return b64decode(found[BYTES])
    return {name.removeprefix("$"): item for name, item in found.items()}


def as_document(job: JobId, row: tuple[str, int, int, str], now: datetime) -> Document:
    """The document in a row of ``SELECT``, read at ``now``."""
    _, version, updated_at, fields = row
    return Document(
        id=job, fields=decode(fields), version=version, updated_at=from_microseconds(updated_at), read_at=now
    )


def concerned(fields: Fields, collection: str | None) -> Iterator[str]:
    """The marks that move when these fields are committed."""
    active = fields.get("status") in (Status.QUEUED, Status.PROCESSING)
    if fields.get("status") == Status.QUEUED and collection is not None:
        yield collection
    if active and fields.get("cancel_requested") is True:
        yield "cancelling"

"""Many updates of the embedded store in one transaction, with four statements for all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from daemon.adapters.boot_clock import from_microseconds
from daemon.adapters.sqlite_rows import SELECT, UPSERT, as_document, columns, concerned, encode
from daemon.core.job import Document, JobId, Refusal, apply
from daemon.core.ports import Settled, Update


def settle_each(
    connection: sqlite3.Connection, updates: Sequence[Update], *, clock: Callable[[], int]
) -> list[Settled]:
    """Read, decide and write all of them inside an open transaction, where nobody is quicker.

    ``clock`` is the store's time in microseconds.

    Raises:
        sqlite3.DataError: one of the documents is too large; the transaction has to be rolled back.
    """
    documents = _read(connection, {job.path: job for update in updates for job in update.candidates}, clock())
    counter, committed_at = connection.execute("SELECT counter, committed_at FROM state").fetchone()
    rows: dict[str, tuple[Any, ...]] = {}
    moved: dict[str, int] = {}
    settled = []
    for update in updates:
        found = (documents[job] for job in update.candidates)
        document = next((one for one in found if one.fields is not None), documents[update.candidates[0]])
        job = document.id
        changes = update.decide(document, document.read_at)
        if isinstance(changes, Refusal):
            settled.append(Settled(job=job, why=changes.why))
            continue
        counter, committed_at = counter + 1, max(clock(), committed_at + 1)
        now = from_microseconds(committed_at)
        fields = apply(document.fields, changes, now)
        documents[job] = Document(id=job, fields=fields, version=counter, updated_at=now, read_at=now)
        collection = job.collection.value if JobId.parse(job.path) == job else None
        rows[job.path] = (job.path, collection, counter, committed_at, encode(fields), *columns(fields))
        moved |= dict.fromkeys(concerned(fields, collection), counter)
        settled.append(Settled(job=job))
    if rows:
        connection.executemany(UPSERT, rows.values())
        marks = "".join(f", {mark} = ?" for mark in moved)
        connection.execute(
            f"UPDATE state SET counter = ?, committed_at = ?{marks}",  # noqa: S608 - the marks are ours
            (counter, committed_at, *moved.values()),
        )
    return settled


def _read(connection: sqlite3.Connection, jobs: dict[str, JobId], microseconds: int) -> dict[JobId, Document]:
    now = from_microseconds(microseconds)
    documents = {job: Document(id=job, fields=None, version=0, updated_at=now, read_at=now) for job in jobs.values()}
    marks = ", ".join("?" for _ in jobs)
    for row in connection.execute(f"{SELECT} WHERE path IN ({marks})", list(jobs)):
        documents[jobs[row[0]]] = as_document(jobs[row[0]], row, now)
    return documents

"""The embedded store: documents in one SQLite file, for any number of threads and daemons on one machine."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from daemon.adapters.boot_clock import MachineClock, from_microseconds, to_microseconds
from daemon.adapters.database import Log, connect, prepare, transaction
from daemon.adapters.sqlite_bulk import settle_each
from daemon.adapters.sqlite_rows import MOMENT, SCHEMA, SELECT, UPSERT, age_key, as_document, columns, concerned, encode
from daemon.adapters.sqlite_wake import Doorbell, Watcher
from daemon.core.errors import DocumentTooLarge, StoreUnavailable
from daemon.core.job import Changes, Collection, Decide, Document, JobId, Refusal, Status, Why, apply
from daemon.core.ports import Settled, Subscription, Update

LEAP = 1_000_000  # versions left out at a new start of the machine, more than a power cut can take back


class SqliteStore:
    """Documents in the file ``path``; beside it lie SQLite's own files and the sockets of listening processes.

    A commit survives the death of any process. A power cut, too, takes back nothing that anybody was promised: every
    write but those that leave a document processing (claims and renewals, repeated by whoever comes next) is on the
    disk when the call returns. Times are the machine's boot clock, shifted so that they look like UTC; the shift is
    kept in the file, so that all processes agree and a jump of the wall clock changes nothing.
    """

    def __init__(self, path: Path, *, clock: MachineClock | None = None) -> None:
        self._path = path
        self._clock = clock or MachineClock.of_this_machine()
        self._closed = False
        self._idle: deque[sqlite3.Connection] = deque()
        self._writing = threading.Lock()  # threads queue here rather than in SQLite, whose waiting is by sleeps
        with self._translated(), ExitStack() as undo:
            prepare(path, SCHEMA, version=1)
            self._writer = undo.enter_context(closing(self._connect()))
            self._ahead = self._start()
            self._log = undo.enter_context(closing(Log(path)))
            self._log.sync(self._log.committed())
            undo.pop_all()
        self._doorbell = Doorbell(Path(f"{path}-wake"))
        self._watcher = Watcher(self._connect, self._doorbell)

    def read(self, job: JobId) -> Document:
        with self._reading() as connection:
            row = connection.execute(f"{SELECT} WHERE path = ?", (job.path,)).fetchone()
            now = self.now()
        if row is None:
            return Document(id=job, fields=None, version=0, updated_at=now, read_at=now)
        return as_document(job, row, now)

    def update(self, target: Document | JobId, decide: Decide) -> Document | Refusal:
        document = target if isinstance(target, Document) else self.read(target)
        while True:
            result = self._try(document, decide)
            if result is not None:
                return result
            document = self.read(document.id)

    def claim(self, document: Document, decide: Decide) -> Document | Refusal:
        return self._try(document, decide) or Refusal(why=Why.LOST)

    def claim_together(self, claims: Sequence[tuple[Document, Decide]]) -> list[Document | Refusal] | None:
        """In one transaction."""
        try:
            return [result or Refusal(why=Why.LOST) for result in self._try_all(claims)]
        except DocumentTooLarge:
            return None

    def update_each(self, updates: Sequence[Update]) -> list[Settled | DocumentTooLarge | StoreUnavailable]:
        """In one transaction, so that they share its cost and one wait for the disk."""
        settled: list[Settled | DocumentTooLarge | StoreUnavailable] = []
        with self._writing, self._translated():
            self._check_open()
            try:
                with transaction(self._writer):
                    settled += settle_each(self._writer, updates, clock=self._microseconds)
            except sqlite3.DataError:  # one of them is too large: each by itself then
                settled += [self._settle_alone(update) for update in updates]
            commit = self._log.committed()
        self._doorbell.ring()
        with self._translated():
            self._log.sync(commit)
        return settled

    def window(self, collections: Sequence[Collection], *, limit: int, after: Document | None = None) -> list[Document]:
        key = (-1, 0, "") if after is None else (*age_key(after.fields or {}), after.id.path)
        return self._query(
            "documents_window",
            f"status = 'queued' AND created_rank IS NOT NULL AND collection IN ({_marks(collections)})"
            " AND (created_rank, created_value, path) > (?, ?, ?) ORDER BY created_rank, created_value, path",
            (*collections, *key),
            limit,
        )

    def by_name(
        self, collections: Sequence[Collection], *, status: str, limit: int, after: Document | None = None
    ) -> list[Document]:
        return self._query(
            "documents_by_name",
            f"status = ? AND collection IN ({_marks(collections)}) AND path > ? ORDER BY path",
            (str(status), *collections, "" if after is None else after.id.path),
            limit,
        )

    def stale(self, *, before: datetime, limit: int, after: Document | None = None) -> list[Document]:
        modified = (after.fields or {}).get("modified") if after is not None else None
        key = (to_microseconds(modified), after.id.path) if after is not None and modified else (-(2**62), "")
        return self._query(
            "documents_stale",
            "status = 'processing' AND collection IS NOT NULL AND modified < ?"
            " AND (modified, path) > (?, ?) ORDER BY modified, path",
            (to_microseconds(before), *key),
            limit,
        )

    def cancelling(self, *, limit: int) -> list[Document]:
        return self._query(
            "documents_cancelling",
            "cancel_requested = 1 AND status IN ('queued', 'processing') AND collection IS NOT NULL ORDER BY path",
            (),
            limit,
        )

    def newest(
        self, *, status: str, limit: int, user_id: str | None = None, before: datetime | None = None
    ) -> list[Document]:
        last = None if before is None else to_microseconds(before)
        folder = "generations/" if user_id is None else f"generations/{user_id}/"
        return self._query(
            "documents_by_name",
            "status = ? AND created_rank IS NOT NULL AND collection IS NOT NULL AND substr(path, 1, ?) = ?"
            " AND (? IS NULL OR created_rank = ? AND created_value < ?)"
            " ORDER BY created_rank DESC, created_value DESC, path DESC",
            (str(status), len(folder), folder, last, MOMENT, last),
            limit,
        )

    def queued(self, collections: Sequence[Collection], *, before: datetime | None = None) -> int:
        index, where, values = "documents_by_name", "", tuple[int, ...]()
        if before is not None:
            index, where = "documents_window", " AND created_rank = ? AND created_value < ?"
            values = (MOMENT, to_microseconds(before))
        with self._reading() as connection:
            return int(
                connection.execute(
                    f"SELECT count(*) FROM documents INDEXED BY {index}"  # noqa: S608 - question marks only
                    f" WHERE status = 'queued' AND collection IN ({_marks(collections)}){where}",
                    (*collections, *values),
                ).fetchone()[0]
            )

    def now(self) -> datetime:
        return from_microseconds(self._clock.since_boot() + self._ahead)

    def listen(self, collections: Sequence[Collection], wake: Callable[[], None]) -> Subscription:
        return self._listen([str(collection) for collection in collections], wake)

    def listen_cancellations(
        self,
        collections: Sequence[Collection],  # noqa: ARG002 - one mark tells of them all
        wake: Callable[[], None],
    ) -> Subscription:
        return self._listen(["cancelling"], wake)

    def probe(self) -> list[str]:
        everything = list(Collection)
        try:
            self.window(everything, limit=1)
            self.by_name(everything, status=Status.QUEUED, limit=1)
            self.stale(before=self.now(), limit=1)
            self.cancelling(limit=1)
        except StoreUnavailable as exc:
            return [str(exc)]
        return []

    def close(self) -> None:
        """Wait for the write in progress, then let go of the file. Later calls raise ``StoreUnavailable``."""
        self._watcher.close()
        with self._writing, self._translated():
            if self._closed:
                return
            self._closed = True
            self._doorbell.close()
            self._log.close()
            self._writer.close()
        while self._idle:
            self._idle.pop().close()

    def _try(self, document: Document, decide: Decide) -> Document | Refusal | None:
        """One try on this version of the document; ``None`` where it is no longer that version."""
        [result] = self._try_all([(document, decide)])
        return result

    def _try_all(self, claims: Sequence[tuple[Document, Decide]]) -> list[Document | Refusal | None]:
        """One try on each; where one raises, none is written."""
        now = self.now()
        decided = [(document, _possible(document, decide(document, now))) for document, decide in claims]
        if all(isinstance(changes, Refusal) for _, changes in decided):
            return [changes for _, changes in decided if isinstance(changes, Refusal)]
        with self._writing, self._translated():
            self._check_open()
            with transaction(self._writer):
                results = [
                    changes if isinstance(changes, Refusal) else self._write(document, changes)
                    for document, changes in decided
                ]
            commit = self._log.committed()
        written = [result for result in results if isinstance(result, Document)]
        if any(any(concerned(document.fields or {}, document.id.collection)) for document in written):
            self._doorbell.ring()
        if any((document.fields or {}).get("status") != Status.PROCESSING for document in written):
            with self._translated():
                self._log.sync(commit)
        return results

    def _settle_alone(self, update: Update) -> Settled | DocumentTooLarge:
        try:
            with transaction(self._writer):
                return settle_each(self._writer, [update], clock=self._microseconds)[0]
        except sqlite3.DataError as exc:
            return DocumentTooLarge(f"SQLite refuses the document: {exc}")

    def _microseconds(self) -> int:
        return self._clock.since_boot() + self._ahead

    def _write(self, document: Document, changes: Changes) -> Document | None:
        path = document.id.path
        counter, committed_at, present = self._writer.execute(
            "SELECT counter, committed_at, (SELECT version FROM documents WHERE path = ?) FROM state", (path,)
        ).fetchone()
        if (present or 0) != document.version:
            return None
        counter += 1
        microseconds = max(self._clock.since_boot() + self._ahead, committed_at + 1)
        now = from_microseconds(microseconds)
        fields = apply(document.fields, changes, now)
        collection = document.id.collection.value if JobId.parse(path) == document.id else None
        self._writer.execute(
            UPSERT,
            (path, collection, counter, microseconds, encode(fields), *columns(fields)),
        )
        marks = list(concerned(fields, collection))
        moved = "".join(f", {mark} = ?" for mark in marks)
        self._writer.execute(
            f"UPDATE state SET counter = ?, committed_at = ?{moved}",  # noqa: S608 - the marks are ours
            (counter, microseconds, *(counter for _ in marks)),
        )
        return Document(id=document.id, fields=fields, version=counter, updated_at=now, read_at=now)

    def _start(self) -> int:
        """How far our time is ahead of the boot clock, in microseconds: agreed on at the first use after each boot.

        Never before the last commit. Versions leap, because commits that a power cut took back may have marked media.
        """
        clock = self._clock
        with transaction(self._writer):
            committed_at = self._writer.execute("SELECT committed_at FROM state").fetchone()[0]
            known = self._writer.execute("SELECT ahead FROM boots WHERE boot = ?", (clock.boot,)).fetchone()
            if known is not None and clock.since_boot() + known[0] >= committed_at:
                return int(known[0])
            ahead: int = max(clock.wall(), committed_at + 1) - clock.since_boot()
            self._writer.execute("INSERT OR REPLACE INTO boots VALUES (?, ?)", (clock.boot, ahead))
            self._writer.execute("UPDATE state SET counter = counter + ?", (LEAP,))
            return ahead

    def _query(self, index: str, where: str, values: Sequence[Any], limit: int) -> list[Document]:
        with self._reading() as connection:
            rows = connection.execute(f"{SELECT} INDEXED BY {index} WHERE {where} LIMIT ?", (*values, limit))
            found = [(JobId.parse(row[0]), row) for row in rows]
            now = self.now()
        return [as_document(job, row, now) for job, row in found if job is not None]

    def _listen(self, marks: Sequence[str], wake: Callable[[], None]) -> Subscription:
        self._check_open()
        return self._watcher.subscribe(marks, wake)

    def _connect(self) -> sqlite3.Connection:
        return connect(self._path)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._translated():
            self._check_open()
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            finally:
                self._idle.append(connection) if not self._closed else connection.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"The store {self._path} is closed")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DataError as exc:
            raise DocumentTooLarge(f"SQLite refuses the document: {exc}") from exc
        except (sqlite3.Error, OSError) as exc:
            raise StoreUnavailable(f"The store {self._path} cannot be used: {exc}") from exc


def _possible(document: Document, changes: Changes | Refusal) -> Changes | Refusal:
    """A decision, as far as the document that it was made for allows it."""
    if isinstance(changes, Changes) and document.fields is None and not changes.create:
        return Refusal(why=Why.ABSENT)
    if isinstance(changes, Changes) and document.fields is not None and changes.create:
        return Refusal(why=Why.LOST)
    return changes


def _marks(collections: Sequence[Collection]) -> str:
    return ", ".join("?" for _ in collections)

"""An app's hand in the embedded store: whole documents set and deleted, at any path."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

from daemon.core.job import DELETE, Changes, Collection, Document, Fields, JobId
from daemon.core.ports import Store


class SqliteClient:
    """Sets through the store, and deletes and moves away by a connection of its own."""

    def __init__(self, path: Path, store: Store) -> None:
        self.path = path
        self.store = store

    def set(self, path: str, fields: Fields) -> None:
        job = JobId.parse(path)
        if job is not None:
            self._set(job, fields)
            return
        stand_in = JobId(user_id="stand-in", collection=Collection.IMAGES, file_uid="stand-in")
        self._set(stand_in, fields)
        self._run("UPDATE documents SET path = ?, collection = NULL WHERE path = ?", path, stand_in.path)

    def delete(self, path: str) -> None:
        self._run("DELETE FROM documents WHERE path = ?", path)

    def _set(self, job: JobId, fields: Fields) -> None:
        def decide(document: Document, now: datetime) -> Changes:
            gone = {name: DELETE for name in document.fields or {} if name not in fields}
            return Changes(reason="client.set", fields={**gone, **fields}, create=document.fields is None)

        result = self.store.update(job, decide)
        assert isinstance(result, Document), result

    def _run(self, statement: str, *values: str) -> None:
        with closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            connection.execute(statement, values)

"""What the folder keeps beside the bytes of each object: generation, checksum, metadata and a rename to finish."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from daemon.adapters.database import Log, connect
from daemon.core.crc32c import as_text
from daemon.core.objects import StoredObject

CHUNK = 1 << 20  # bytes

# AUTOINCREMENT: a generation is never given twice, not even after its object was deleted.
SCHEMA = """
CREATE TABLE objects (
    generation INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT UNIQUE NOT NULL,
    staged TEXT,                -- the temporary name that the file had; if it still has it, the rename is to be done
    crc32c TEXT NOT NULL,
    size INTEGER NOT NULL,      -- bytes; with the next tells whether a person changed the file
    modified INTEGER NOT NULL,  -- nanoseconds since 1970, by the file system
    content_type TEXT,
    metadata TEXT NOT NULL
);
CREATE INDEX objects_staged ON objects (staged)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the index says of an object."""

    object: StoredObject
    staged: str | None
    modified: int  # nanoseconds


class Index:
    """The table of objects. Not thread safe: used under the folder's lock."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)
        self._connection.execute("BEGIN IMMEDIATE")  # a first access, which makes the log
        self._connection.execute("COMMIT")
        self._log = Log(path)

    def find(self, name: str) -> Entry | None:
        row = self._connection.execute(
            "SELECT generation, staged, crc32c, size, modified, metadata FROM objects WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            return None
        generation, staged, crc32c, size, modified, metadata = row
        stored = StoredObject(name=name, generation=generation, crc32c=crc32c, size=size, metadata=json.loads(metadata))
        return Entry(object=stored, staged=staged, modified=modified)

    def record(
        self,
        name: str,
        *,
        crc32c: str,
        size: int,
        modified: int,
        staged: str | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> int:
        """Make this the object's present generation, in one commit; returns it."""
        cursor = self._connection.execute(
            "INSERT OR REPLACE INTO objects (name, staged, crc32c, size, modified, content_type, metadata)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (name, staged, crc32c, size, modified, content_type, json.dumps(dict(metadata or {}))),
        )
        return cursor.lastrowid or 0  # never 0 after an INSERT

    def touch(self, name: str, *, modified: int) -> None:
        """The same bytes bear another time of change now."""
        self._connection.execute("UPDATE objects SET modified = ? WHERE name = ?", (modified, name))

    def forget(self, name: str) -> None:
        self._connection.execute("DELETE FROM objects WHERE name = ?", (name,))

    def name_of_staged(self, staged: str) -> str | None:
        """The object that a temporary file is to become, if it got as far as that."""
        row = self._connection.execute("SELECT name FROM objects WHERE staged = ?", (staged,)).fetchone()
        return None if row is None else str(row[0])

    def committed(self) -> int:
        """Everything so far, for ``sync``."""
        return self._log.committed()

    def sync(self, commit: int) -> None:
        """Return once it survives a power cut. The one method that needs no lock."""
        self._log.sync(commit)

    def close(self) -> None:
        self._log.close()
        self._connection.close()


def checksum(path: Path) -> str:
    """The CRC32C of a file, as ``crc32c`` writes it."""
    found = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found = google_crc32c.extend(found, chunk)
    return as_text(found)

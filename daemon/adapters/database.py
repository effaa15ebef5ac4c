"""SQLite files of ours: opened in WAL mode, by several processes at once, with their schema in place."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUSY = 10.0  # seconds to wait for another process's write


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, to be used by one thread at a time.

    A commit survives the death of the process by itself, and a power cut once its ``Log`` is synced.
    """
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -256")  # KiB: the system caches as well, and memory stays flat
    connection.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone stops at the drive's cache
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    return connection


def prepare(path: Path, schema: str, *, version: int) -> None:
    """Make the file, its folder and its tables if they are not there yet; any number of processes may do it at once.

    Raises:
        sqlite3.Error: it cannot be done, or a newer easeld made the file.
        OSError: the folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = connect(path)
    try:
        _write_ahead(connection)
        with transaction(connection):
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found > version:
                raise sqlite3.DatabaseError(f"it has format {found}, made by a newer easeld; this one knows {version}")
            if found < version:
                for statement in schema.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version}")
    finally:
        connection.close()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction, begun with the write lock so that nothing read in it can be out of date at its end."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class Log:
    """The write-ahead log of a file that a connection has written to and keeps open, brought to the disk by need.

    Commits of several threads share one wait for the disk, and none waits under the write lock.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(f"{path}-wal", os.O_RDONLY)
        self._waiting = threading.Lock()
        self._closed = False
        self.commits = 0
        self.synced = 0

    def committed(self) -> int:
        """Count a commit, while still alone at the connection; returns what ``sync`` wants."""
        self.commits += 1
        return self.commits

    def sync(self, commit: int) -> None:
        """Return once the commit survives a power cut.

        Raises:
            OSError: it may not.
        """
        with self._waiting:
            if self.synced < commit and not self._closed:
                newest = self.commits
                sync(self._descriptor)
                self.synced = newest

    def close(self) -> None:
        """Sync what is left, and let go of the file."""
        with self._waiting:
            if not self._closed:
                self._closed = True
                try:
                    sync(self._descriptor)
                finally:
                    os.close(self._descriptor)


def sync(descriptor: int) -> None:
    """Bring a file, or a folder's entries, through the drive's cache."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def _write_ahead(connection: sqlite3.Connection) -> None:
    # The change of mode does not wait for other connections as a write does, so we wait for it here.
    deadline = time.monotonic() + BUSY
    mode = None
    while mode is None:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise sqlite3.OperationalError("its file system does not allow SQLite's WAL mode")

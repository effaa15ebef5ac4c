"""The embedded blob store: each object a file of its own name under one folder, for several processes at once."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from daemon.adapters.database import prepare, sync
from daemon.adapters.folder_index import SCHEMA, Entry, Index, checksum
from daemon.core.crc32c import crc32c
from daemon.core.errors import BlobsUnavailable, JobError, Rejected, Retryable
from daemon.core.objects import ContentType, Mark, Placement, StoredObject

OURS = ".easeld"  # our folder under the root; no object may be named so
MAX_PART_BYTES = 255  # of one part of a path, on every file system that we know


class FolderBlobs:
    """Objects under ``root``; what Cloud Storage keeps beside the bytes is in an index, ``root/.easeld/objects.db``.

    The index is an SQLite file, because one commit there is then the moment at which an object changes: first the new
    file is whole on the disk under a temporary name, then the index says so and names it, and once that is on the disk
    too, the file is renamed into its place. Whoever finds a named temporary file that is still there finishes the
    rename. A file that a person put there or changed is an object without metadata, of a generation of its own. One
    lock file keeps processes apart; nobody waits for the disk under it in the common case. A power cut takes nothing
    back on file systems that bring a new file's name to the disk with its content: ext4, XFS, Btrfs and APFS do.
    """

    def __init__(self, root: Path, base_url: str) -> None:
        self._root = root
        self._base_url = base_url.rstrip("/")
        self._staged = root / OURS / "staged"
        self._threads = threading.Lock()
        self._closed = False
        database = root / OURS / "objects.db"
        with self._translated(), ExitStack() as undo:
            self._staged.mkdir(parents=True, exist_ok=True)
            prepare(database, SCHEMA, version=1)
            self._lock = os.open(root / OURS / "lock", os.O_RDWR | os.O_CREAT, 0o666)
            undo.callback(os.close, self._lock)
            with self._locked():
                self._index = Index(database)
                self._recover()
            undo.pop_all()

    def look(self, name: str) -> StoredObject | None:
        path = self._path(name)
        with self._translated(name), self._locked():
            entry = self._present(name, path)
        return None if entry is None else entry.object

    def put(self, name: str, content: bytes, placement: Placement) -> int | None:
        path = self._path(name)
        if crc32c(content) != placement.crc32c:
            raise Retryable(f"{name} changed on its way to the folder: its checksum differs")
        with self._translated(name), self._stage(content) as staged:
            with ExitStack() as undo, self._locked():
                undo.callback(staged.unlink)
                if self._generation(name, path) != placement.generation:
                    return None
                self._make_folder(path.parent)
                generation = self._index.record(
                    name,
                    staged=staged.name,
                    crc32c=placement.crc32c,
                    size=len(content),
                    modified=staged.stat().st_mtime_ns,
                    content_type=placement.content_type,
                    metadata=placement.mark.metadata(),
                )
                commit = self._index.committed()
                undo.pop_all()
            # Without the lock, so that many objects share the waits for the disk. Whoever needs this one before it is
            # in its place puts it there.
            self._index.sync(commit)
            self._move(staged, path)
            return generation

    def delete(self, name: str, generation: int) -> bool:
        path = self._path(name)
        with self._translated(name), self._locked():
            if generation == 0 or self._generation(name, path) != generation:
                return False
            path.unlink()  # first, because an entry without a file is no object, but a file without an entry is one
            self._index.forget(name)
        with self._translated(name):
            _sync_folder(path.parent)
        return True

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        with self._translated(prefix), self._locked():
            self._recover()
        start = self._root
        if parent := prefix.rpartition("/")[0]:
            try:
                start = self._path(parent)
            except Rejected:
                return  # nothing can be there
        for folder, folders, files in os.walk(start):
            folders[:] = sorted(name for name in folders if Path(folder, name) != self._root / OURS)
            for file in sorted(files):
                name = Path(folder, file).relative_to(self._root).as_posix()
                found = None
                if name.startswith(prefix):
                    with suppress(Rejected):  # a socket, say, or bytes that are no text: a person's, but no object
                        found = self.look(name)
                if found is not None:
                    yield found

    def address(self, name: str, mark: Mark, *, version: int | None = None) -> str:  # noqa: ARG002  # a file has one
        return f"{self._base_url}/{quote(name)}"

    def probe(self) -> list[str]:
        name = f"easeld-probe/{secrets.token_hex(8)}.png"
        mark = Mark(document="easeld-probe", token="probe", attempt=0, claimed=0)
        try:
            placement = Placement(generation=0, content_type=ContentType.PNG, crc32c=crc32c(b"easeld"), mark=mark)
            generation = self.put(name, b"easeld", placement)
            fetched = (self._root / name).read_bytes()
            deleted = self.delete(name, generation or 0)
            with suppress(OSError):  # not empty: another probe is at work
                (self._root / name).parent.rmdir()
        except (BlobsUnavailable, JobError, OSError) as exc:
            return [f"The folder {self._root} does not take files: {exc}. Make it writable, or choose another"]
        if fetched != b"easeld" or not deleted:
            return [f"The folder {self._root} gives back something else than was written: choose another"]
        return []

    def close(self) -> None:
        with self._threads:
            if not self._closed:
                self._closed = True
                self._index.close()
                os.close(self._lock)

    def _path(self, name: str) -> Path:
        """Where an object's file is.

        Raises:
            Rejected: no file can have this name, or it would lie outside the root or among our own files.
        """
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts) or parts[0] == OURS:
            raise Rejected(f"No file can be named {name!r}")
        try:
            longest = max(len(part.encode()) for part in parts)
        except UnicodeEncodeError as exc:
            raise Rejected(f"No file can be named {name!r}") from exc
        if longest > MAX_PART_BYTES:
            raise Rejected(f"The name is too long for a file ({MAX_PART_BYTES} bytes for each part): {name}")
        return self._root.joinpath(*parts)

    # Under the lock

    def _generation(self, name: str, path: Path) -> int:
        entry = self._present(name, path)
        return 0 if entry is None else entry.object.generation

    def _present(self, name: str, path: Path) -> Entry | None:
        """The entry of the file that is there, mended where a process died or a person had a hand in it."""
        entry = self._index.find(name)
        if entry is not None and entry.staged is not None and (self._staged / entry.staged).exists():
            self._index.sync(self._index.committed())
            self._make_folder(path.parent)
            self._move(self._staged / entry.staged, path)
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(found.st_mode):
            raise Rejected(f"{name} is a folder, not a file")
        if entry is not None and (entry.object.size, entry.modified) == (found.st_size, found.st_mtime_ns):
            return entry
        found_crc32c = checksum(path)
        if entry is not None and entry.object.crc32c == found_crc32c:  # only touched, or restored from a copy
            self._index.touch(name, modified=found.st_mtime_ns)
            return entry
        self._index.record(name, crc32c=found_crc32c, size=found.st_size, modified=found.st_mtime_ns)
        return self._index.find(name)

    def _move(self, staged: Path, path: Path) -> None:
        try:
            staged.replace(path)
        except FileNotFoundError:
            if staged.exists():
                raise  # the folder is gone
            # else another process was quicker
        # Not synced: until the disk knows the file by its new name, the index names the old one.

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            _sync_folder(folder.parent)

    def _recover(self) -> None:
        """Finish the renames of processes that died after their commit, and clear away what others only began."""
        for staged in self._staged.iterdir():
            name = self._index.name_of_staged(staged.name)
            if name is not None:
                self._present(name, self._path(name))
                continue
            with suppress(FileNotFoundError), staged.open("rb") as file, suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its writer holds it while it lives
                staged.unlink()

    # Around it

    @contextmanager
    def _stage(self, content: bytes) -> Iterator[Path]:
        """The content under a temporary name, whole on the disk. What is left of it is cleared away later."""
        staged = self._staged / secrets.token_hex(8)
        with ExitStack() as stack:
            self._check_open()
            while True:
                file = stack.enter_context(staged.open("xb"))
                fcntl.flock(file, fcntl.LOCK_EX)  # says that it is being written
                if os.fstat(file.fileno()).st_nlink:
                    break  # else another process found it before it said so, and cleared it away
            with ExitStack() as undo:
                undo.callback(staged.unlink)
                file.write(content)
                file.flush()
                sync(file.fileno())
                undo.pop_all()
            yield staged

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            self._check_open()
            fcntl.flock(self._lock, fcntl.LOCK_EX)  # ends with the process, however that ends
            try:
                yield
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _check_open(self) -> None:
        if self._closed:
            raise BlobsUnavailable(f"The folder {self._root} is closed")

    @contextmanager
    def _translated(self, name: str | None = None) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as exc:
            if name is not None and isinstance(exc, NotADirectoryError | IsADirectoryError | FileExistsError):
                raise Rejected(f"{name} needs a folder where there is a file, or the other way round") from exc
            if name is not None and isinstance(exc, OSError) and exc.errno == errno.ENAMETOOLONG:
                raise Rejected(f"The name is too long for a file: {name}") from exc
            raise BlobsUnavailable(f"The folder {self._root} cannot be used: {exc}") from exc


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)

"""Wake-ups of the embedded store: a datagram beside the file says "look", and a frequent look finds what it missed."""

from __future__ import annotations

import os
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from daemon.core.job import Document

POLL = 0.05  # seconds between two looks; PRAGMA data_version costs some microseconds
PROOF = 5.0  # seconds without a look after which a listener counts as dead

MARKS = ("images", "videos", "cancelling")  # columns of `state`: the last commit that concerns each


class Doorbell:
    """Datagram sockets in a folder, one for each process that listens. Losing a ring costs one poll."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)

    def ring(self) -> None:
        """Tell every listener to look; clear away what a killed one left."""
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - names alone: this is in the path of every submission
        except OSError:
            return  # nobody ever listened
        for name in names:
            if name.startswith("."):
                continue
            try:
                self._sender.sendto(b"!", str(self._folder / name))
            except ConnectionRefusedError:  # its process is gone
                with suppress(OSError):
                    (self._folder / name).unlink()
            except OSError:
                pass  # its buffer is full, so it will look anyway; or it is not ours to ring

    def listen(self) -> tuple[socket.socket, Path] | None:
        """A socket that rings, and its path; ``None`` where it cannot be had (the path is too long, say)."""
        name = secrets.token_hex(4)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._folder.mkdir(exist_ok=True)
            # Under its own name only once it is bound: a ring in between would take it for a dead one.
            listening.bind(str(self._folder / f".{name}"))
            (self._folder / f".{name}").rename(self._folder / name)
        except OSError:
            listening.close()
            return None
        return listening, self._folder / name

    def close(self) -> None:
        self._sender.close()


class Watch:
    """A subscription: wakes at its first look, and when one of its marks has moved since the last."""

    def __init__(self, watcher: Watcher, marks: Sequence[str], wake: Callable[[], None]) -> None:
        self._watcher = watcher
        self._marks = tuple(marks)
        self._seen = -1
        self._wake = wake
        self._broken = False

    def look(self, marks: dict[str, int]) -> None:
        newest = self._newest(marks)
        if newest > self._seen and not self._broken:
            self._seen = newest
            try:
                self._wake()
            except Exception:  # noqa: BLE001 - one broken listener must not silence the others
                self._broken = True

    def alive(self) -> bool:
        return not self._broken and self._watcher.watches(self)

    @property
    def reason(self) -> str:
        return "waking raised" if self._broken else "it is closed, or its watcher has ended"

    def news(self) -> list[Document]:
        return []  # a window costs less than a millisecond

    def close(self) -> None:
        self._watcher.forget(self)

    def _newest(self, marks: dict[str, int]) -> int:
        return max((marks[name] for name in self._marks), default=0)


class Watcher:
    """The one thread of a store that looks whether anything was committed, and wakes whom it concerns."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], doorbell: Doorbell) -> None:
        self._connect = connect
        self._doorbell = doorbell
        self._watches: list[Watch] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._data_version: int | None = None
        self._looked_at = 0.0  # monotonic

    def subscribe(self, marks: Sequence[str], wake: Callable[[], None]) -> Watch:
        """Wake at once, and from now on."""
        watch = Watch(self, marks, wake)
        with self._lock:
            self._watches = [*self._watches, watch]
            self._data_version = None  # look at the marks even where nothing was committed since the last look
            if self._thread is None:
                self._looked_at = time.monotonic()
                self._thread = threading.Thread(target=self._run, name="sqlite-watcher", daemon=True)
                self._thread.start()
        return watch

    def forget(self, watch: Watch) -> None:
        with self._lock:
            self._watches = [other for other in self._watches if other is not watch]

    def watches(self, watch: Watch) -> bool:
        """Whether hints to this watch can be trusted to come."""
        return watch in self._watches and not self._closed.is_set() and time.monotonic() - self._looked_at < PROOF

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        ringing = self._doorbell.listen()
        try:
            while not self._closed.is_set():
                with suppress(sqlite3.Error), closing(self._connect()) as connection:  # no proof of life after an error
                    self._data_version = None  # each connection counts by itself
                    while not self._closed.is_set():
                        self._look(connection)
                        self._wait(ringing[0] if ringing else None)
                self._closed.wait(POLL)
        finally:
            if ringing:
                ringing[0].close()
                ringing[1].unlink(missing_ok=True)

    def _look(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self._data_version = version
            marks = read_marks(connection)
            for watch in self._watches:
                watch.look(marks)
        self._looked_at = time.monotonic()

    def _wait(self, ringing: socket.socket | None) -> None:
        if ringing is None:
            self._closed.wait(POLL)
            return
        ringing.settimeout(POLL)
        with suppress(OSError):
            ringing.recv(1)
            ringing.setblocking(False)
            while True:  # rings that came together are one
                ringing.recv(1)


def read_marks(connection: sqlite3.Connection) -> dict[str, int]:
    """The present marks by name."""
    row = connection.execute("SELECT images, videos, cancelling FROM state").fetchone()
    return dict(zip(MARKS, row, strict=True))

"""A worker's note of what it holds, so that its next life on this machine gives that back at once.

A worker's name proves nothing: what counts is the lock on the file, which the kernel lets go of when a process dies,
and the tokens in it. The file is a hint to save waiting: whatever it lacks is rescued when its lease ends.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from daemon.core.job import JobId

SLOTS = 256  # daemons that share a state folder


class OwnClaims:
    """One locked file. Not thread safe: the heartbeat calls it, under its lock."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._descriptor = descriptor
        self.left_behind = _read(path)

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Take the first file in ``folder`` that no living process holds; ``None`` where all are held.

        Raises:
            OSError: the folder cannot be used.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for slot in range(SLOTS):
            path = folder / f"claims-{slot}.json"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            return cls(path, descriptor)
        return None

    def write(self, claims: Iterable[tuple[JobId, str]]) -> None:
        """Note every claim that is held now. Not synced to disk: it has to outlive the process, not the machine."""
        text = json.dumps([[job.path, token] for job, token in claims]).encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def _read(path: Path) -> list[tuple[JobId, str]]:
    try:
        entries = json.loads(path.read_bytes() or b"[]")
        return [(job, token) for text, token in entries if (job := JobId.parse(text)) is not None]
    except (ValueError, TypeError):
        return []  # killed in the middle of a write; leases end by themselves

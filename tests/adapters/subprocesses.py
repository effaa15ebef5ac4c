"""Processes of their own for the embedded adapters: to be killed, to run out of disk, to come at the same time."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRELUDE = """
import sys
from pathlib import Path
from daemon.adapters.folder import FolderBlobs
from daemon.adapters.sqlite import SqliteStore
from daemon.core.errors import BlobsUnavailable, StoreUnavailable
from daemon.core.job import Changes, Collection, JobId, Refusal
from daemon.core.objects import ContentType, Mark, Placement
from daemon.core.crc32c import crc32c

path = Path(sys.argv[1])

def job(file_uid):
    return JobId(user_id="user", collection=Collection.IMAGES, file_uid=str(file_uid))

def writing(**fields):
    return lambda document, now: Changes(reason="test", fields=fields, create=document.fields is None)

def placement(content, token):
    mark = Mark(document="generations/user/images/file", token=token, attempt=1, claimed=1)
    return Placement(generation=0, content_type=ContentType.PNG, crc32c=crc32c(content), mark=mark)
"""
ROOT = Path(__file__).parents[2]


@contextmanager
def python(script: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a script with the embedded adapters at hand; killed at the end if it still runs."""
    command = [sys.executable, "-c", PRELUDE + script, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_at_every_line(scene: str, fallback: Path) -> int:
    """Run a scene of ``killed.py``; returns the number of kills. In memory where possible: a kill asks no disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else fallback) as folder:
        command = [sys.executable, "-m", "tests.adapters.killed", scene, folder]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert result.returncode == 0, result.stderr
    return int(result.stdout)

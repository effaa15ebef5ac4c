"""Kills a process at every line of an adapter in turn, and looks each time at what the next process finds.

Run as ``python -m tests.adapters.killed SCENE FOLDER``, a process of its own without threads, because it forks.
Prints the number of kills.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from daemon.adapters.folder import FolderBlobs
from daemon.adapters.folder_index import checksum
from daemon.adapters.sqlite import SqliteStore
from daemon.core.crc32c import crc32c
from daemon.core.job import SERVER_TIME, Changes, Collection, Document, JobId
from daemon.core.objects import ContentType, Mark, Placement

JOB = JobId(user_id="user", collection=Collection.IMAGES, file_uid="file")
NAME = "generated/user/image/file.png"
CONTENTS = {"old": b"old" * 1000, "new": b"new" * 2000}


def kill_at(line: int) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that kills this process before it runs the adapter's nth line from now."""
    left = line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if "adapters" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


Arm = Callable[[], object]  # begins to count lines
Act = Callable[[Path, Arm], None]


def at_every_line(folder: Path, before: Callable[[Path], None], act: Act, check: Callable[[Path], None]) -> int:
    """Run ``act`` in a fork that is killed at line 1, 2, 3 ...; ``check`` after each, until a fork comes through."""
    for line in range(1, 10_000):
        place = folder / str(line)
        place.mkdir()
        before(place)
        child = os.fork()
        if child == 0:
            act(place, partial(sys.settrace, kill_at(line)))
            sys.settrace(None)
            os.kill(os.getpid(), signal.SIGTERM)  # came through
        _, status = os.waitpid(child, 0)
        check(place)
        shutil.rmtree(place)
        if os.WTERMSIG(status) == signal.SIGTERM:
            return line - 1
        assert os.WTERMSIG(status) == signal.SIGKILL, status
    raise AssertionError("the act never ends")


def put(blobs: FolderBlobs, which: str, generation: int) -> int | None:
    """Put the old or the new content."""
    content = CONTENTS[which]
    mark = Mark(document=JOB.path, token=which, attempt=1, claimed=1)
    placement = Placement(generation=generation, content_type=ContentType.PNG, crc32c=crc32c(content), mark=mark)
    return blobs.put(NAME, content, placement)


def old_object(place: Path) -> None:
    """An object to replace or delete."""
    with closing(FolderBlobs(place / "media", "http://here")) as blobs:
        assert put(blobs, "old", 0) == 1


def nothing(place: Path) -> None:
    """Nothing there yet."""


def open_and_create(place: Path, arm: Arm) -> None:
    """The first object in a new folder."""
    arm()
    assert put(FolderBlobs(place / "media", "http://here"), "new", 0) == 1


def replace(place: Path, arm: Arm) -> None:
    """Replace the generation that is there."""
    blobs = FolderBlobs(place / "media", "http://here")
    arm()
    assert put(blobs, "new", 1) == 2


def delete(place: Path, arm: Arm) -> None:
    """Delete the generation that is there."""
    blobs = FolderBlobs(place / "media", "http://here")
    arm()
    assert blobs.delete(NAME, 1)


def check_object(place: Path) -> None:
    """The object is whole, old or new or gone, its file and its mark agree, and the next process can go on."""
    with closing(FolderBlobs(place / "media", "http://here")) as blobs:
        assert not list((place / "media" / ".easeld" / "staged").iterdir())
        found = blobs.look(NAME)
        file = place / "media" / NAME
        if found is None:
            assert not file.exists()
        else:
            mark = Mark.read(found.metadata)
            assert mark is not None
            assert file.read_bytes() == CONTENTS[mark.token]
            assert found.crc32c == checksum(file)
        again = put(blobs, "new", found.generation if found else 0)
        assert again is not None
        assert again > (found.generation if found else 0)
        assert file.read_bytes() == CONTENTS["new"]
        assert [stored.name for stored in blobs.objects("")] == [NAME]


def old_document(place: Path) -> None:
    """A document to change."""
    with closing(SqliteStore(place / "jobs.db")) as store:
        submitted(store)


def submitted(store: SqliteStore) -> Document:
    """The first document, written."""
    result = store.update(JOB, submit)
    assert isinstance(result, Document)
    return result


def add_one(document: Document, now: datetime) -> Changes:
    """A change that shows whether it was made."""
    assert document.fields is not None
    fields = {"number": document.fields["number"] + 1, "status": "queued", "modified": SERVER_TIME}
    return Changes(reason="new", fields=fields)


def update(place: Path, arm: Arm) -> None:
    """Change the document that is there."""
    store = SqliteStore(place / "jobs.db")
    arm()
    assert isinstance(store.update(JOB, add_one), Document)


def open_and_submit(place: Path, arm: Arm) -> None:
    """The first document in a new file."""
    arm()
    store = SqliteStore(place / "jobs.db")
    assert isinstance(store.update(JOB, submit), Document)


def submit(document: Document, now: datetime) -> Changes:
    """The first write."""
    return Changes(reason="old", fields={"number": 1}, create=True)


def check_document(place: Path) -> None:
    """The document is the old or the new one, and the next process can go on."""
    with closing(SqliteStore(place / "jobs.db")) as store:
        found = store.read(JOB)
        if found.fields is None:
            found = submitted(store)
        assert found.fields is not None
        number = found.fields["number"]
        assert (number, len(found.fields)) in {(1, 1), (2, 3)}
        assert len(store.window([Collection.IMAGES], limit=9)) == 0
        assert len(store.by_name([Collection.IMAGES], status="queued", limit=9)) == number - 1
        again = store.update(found, add_one)
        assert isinstance(again, Document)
        assert again.version > found.version
        assert again.updated_at > found.updated_at


SCENES = {
    "create": (nothing, open_and_create, check_object),
    "replace": (old_object, replace, check_object),
    "delete": (old_object, delete, check_object),
    "submit": (nothing, open_and_submit, check_document),
    "update": (old_document, update, check_document),
}

if __name__ == "__main__":
    scene, folder = sys.argv[1:]
    print(at_every_line(Path(folder), *SCENES[scene]))  # noqa: T201 - the result

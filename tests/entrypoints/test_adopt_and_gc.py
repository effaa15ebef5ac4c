"""What the operator's cleaning commands say and do, on the embedded store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.adapters.folder import FolderBlobs
from daemon.adapters.sqlite import SqliteStore
from daemon.core.crc32c import crc32c
from daemon.core.job import Changes, Collection, JobId
from daemon.core.objects import ContentType, Mark, Placement
from tests.entrypoints.conftest import QuickEaseld

JOB = JobId(user_id="alice", collection=Collection.IMAGES, file_uid="a")
NAME = "generating/alice/image/a.png"


def made(quick: QuickEaseld) -> Path:
    """The commands' folder."""
    folder = quick.folder / "data"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def store(quick: QuickEaseld) -> Iterator[SqliteStore]:
    """The store of the commands, opened beside them."""
    store = SqliteStore(made(quick) / "jobs.db")
    yield store
    store.close()


def write(store: SqliteStore, **fields: Any) -> None:
    """A document, as somebody else wrote it."""
    store.update(JOB, lambda *_: Changes(reason="other", fields={"prompt": "x", **fields}, create=True))


def status(store: SqliteStore) -> object:
    """As the document says it."""
    return (store.read(JOB).fields or {}).get("status")


def test_adopt_counts_and_changes_nothing_unless_told_to(quick: QuickEaseld, store: SqliteStore) -> None:
    """The count first; then what was asked for."""
    write(store, status="processing")
    told = quick("adopt", "--older-than", "0s").out
    assert "1 being processed without a lease of ours, 1 of them untouched for more than 0s" in told
    assert "nothing was changed" in told
    assert status(store) == "processing"


@pytest.mark.parametrize(("option", "becomes"), [("--fail", "failed"), ("--queue", "queued")])
def test_adopt_fails_or_queues_what_is_old_enough(
    quick: QuickEaseld, store: SqliteStore, option: str, becomes: str
) -> None:
    """Only what nobody has touched for the age that was said."""
    write(store, status="processing")
    assert quick("adopt", option).out.endswith(f"0 {'failed' if option == '--fail' else 'queued again'}\n")
    assert status(store) == "processing"
    assert "1 " in quick("adopt", option, "--older-than", "0s").out
    assert status(store) == becomes


@pytest.mark.parametrize("wrong", [("--fail", "--queue"), ("--older-than", "soon"), ("--older-than", "10")])
def test_adopt_refuses_what_makes_no_sense(quick: QuickEaseld, wrong: tuple[str, ...]) -> None:
    """With one line and the status of a wrong usage."""
    ended = quick("adopt", *wrong)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("easeld: ")


def test_gc_lists_then_deletes_what_a_killed_worker_left(
    quick: QuickEaseld, store: SqliteStore, tmp_path: Path
) -> None:
    """Only an object with our mark whose claim is over; another's file in the same folder stays."""
    write(store, status="queued")
    media = made(quick) / "media"
    blobs = FolderBlobs(media, "file:///media")
    mark = Mark(document=JOB.path, token="gone", attempt=1, claimed=1)
    placement = Placement(generation=0, content_type=ContentType.PNG, crc32c=crc32c(b"content"), mark=mark)
    assert blobs.put(NAME, b"content", placement) is not None
    other = media / "generating/alice/image/other.png"
    other.write_bytes(b"a person's")
    assert quick("gc", "--dry-run").out == f"{NAME}\n1 objects, 0.0 MiB, would be deleted\n"
    assert blobs.look(NAME) is not None
    assert quick("gc").out == f"{NAME}\n1 objects, 0.0 MiB, deleted\n"
    assert blobs.look(NAME) is None
    assert other.exists()
    assert quick("gc").out == "0 objects, 0.0 MiB, deleted\n"
    blobs.close()

"""Many updates at once, where one of them goes wrong by itself."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path

import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from daemon.adapters.firestore import FirestoreStore
from daemon.adapters.firestore.bulk import BEATEN, outcome
from daemon.adapters.sqlite import SqliteStore
from daemon.core.errors import DocumentTooLarge, StoreUnavailable
from daemon.core.job import SERVER_TIME, Changes, Collection, Decide, Document, JobId, Refusal
from daemon.core.ports import Intake, Settled, Update

SMALL, LARGE, LAST = (JobId(user_id="u", collection=Collection.IMAGES, file_uid=name) for name in ("a", "b", "c"))


def writing(text: str) -> Decide:
    """A decision that writes a text."""

    def decide(document: Document, now: datetime) -> Changes:
        return Changes(reason="test", fields={"text": text, "at": SERVER_TIME}, create=document.fields is None)

    return decide


def check_one_too_large(store: Intake) -> None:
    """The one that is too large is told apart; the others are written."""
    texts = {SMALL: "x", LARGE: "x" * 2_000_000, LAST: "x"}
    settled = store.update_each([Update(candidates=(job,), decide=writing(text)) for job, text in texts.items()])
    assert settled[::2] == [Settled(job=SMALL), Settled(job=LAST)]
    assert isinstance(settled[1], DocumentTooLarge)
    assert [store.read(job).fields is not None for job in texts] == [True, False, True]
    small, last = store.read(SMALL), store.read(LAST)
    assert store.claim_together([(small, writing("y")), (last, writing(texts[LARGE]))]) is None
    assert isinstance(store.claim(small, writing("y")), Document)  # it is still what it was


def test_sqlite_tells_one_apart_that_is_too_large(tmp_path: Path) -> None:
    """A row may hold a gigabyte; here a megabyte, so that the test is quick."""
    store = SqliteStore(tmp_path / "jobs.db")
    store._writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1_000_000)
    check_one_too_large(store)
    store.close()


def test_firestore_tells_one_apart_that_is_too_large(firestore_project: str) -> None:
    """A document may hold a mebibyte."""
    store = FirestoreStore.connect(project=firestore_project)
    check_one_too_large(store)
    store.close()


def test_an_update_that_loses_again_and_again_goes_on_alone(firestore_project: str) -> None:
    """Another writer is quicker in every pass; in the end the update is written all the same."""
    store, other = (FirestoreStore.connect(project=firestore_project) for _ in range(2))
    other.update(SMALL, writing("0"))
    seen: list[object] = []

    def decide(document: Document, now: datetime) -> Changes | Refusal:
        seen.append((document.fields or {})["text"])
        if len(seen) <= 4:
            other.update(SMALL, writing(str(len(seen))))
        return Changes(reason="test", fields={"mine": True})

    assert store.update_each([Update(candidates=(SMALL,), decide=decide)]) == [Settled(job=SMALL)]
    assert seen == ["0", "1", "2", "3", "4"]
    fields = store.read(SMALL).fields or {}
    assert (fields["text"], fields["mine"]) == ("4", True)
    store.close()
    other.close()


@pytest.mark.parametrize("code", sorted(BEATEN))
def test_a_write_that_lost_a_race_is_not_settled(code: int) -> None:
    """It is decided again on what is there then."""
    assert outcome(SMALL, Status(code=code, message="")) is None


def test_a_write_that_firestore_could_not_do_now_says_so() -> None:
    """The call that it belongs to is told to come again."""
    result = outcome(SMALL, Status(code=14, message="try later"))
    assert isinstance(result, StoreUnavailable)
    assert "try later" in str(result)

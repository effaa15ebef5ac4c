"""How many jobs a user may have at once, on both kinds of store, for calls and for documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from daemon.claiming import Claimer
from daemon.core import lifecycle
from daemon.core.job import SERVER_TIME, Collection, Document, JobId
from daemon.core.policy import Ticket
from daemon.core.ports import Store
from daemon.quota import Quota
from tests.contracts.conftest import STORES, Database
from tests.core.samples import POLICY, outcome
from tests.entrypoints.shim.running import Shim, job_of, request, running

MOST = 3
AT_ONCE = replace(POLICY, settling_seconds=0.0)  # a worker that waits for no call
TICKET = Ticket(worker="one", token="the-claim", seed=42)


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind of store."""
    with request.param(tmp_path, request) as opened:
        yield opened


@pytest.fixture
def shim(database: Database) -> Iterator[Shim]:
    """A shim that lets a user have three jobs."""
    with running(database.open(), quota=MOST) as shim:
        yield shim


def complete(store: Store, job: JobId) -> None:
    """Hold and finish a job."""
    for decide in (
        partial(lifecycle.take, policy=AT_ONCE, ticket=TICKET),
        partial(lifecycle.complete, token=TICKET.token, outcome=outcome(job)),
    ):
        assert isinstance(store.update(job, decide), Document)


def test_a_user_may_have_so_many_jobs_and_then_must_wait_for_one_to_end(shim: Shim) -> None:
    """Queued and processing ones count, images and videos alike; another user is not concerned."""
    calls = [request(), request(numFrames=16), request()]
    for fields in calls:
        assert shim.call(fields).status_code == 200
    shim.store.update(job_of(calls[0]), partial(lifecycle.take, policy=AT_ONCE, ticket=TICKET))
    one_more = request()
    answer = shim.call(one_more)
    message = "Too many generations at once: at most 3 may be queued or processing"
    assert (answer.status_code, answer.json()) == (429, {"error": message, "status": "failed"})
    assert int(answer.headers["retry-after"]) > 0
    assert shim.fields(job_of(one_more)) is None
    assert shim.call(request(user_id="bob")).status_code == 200
    complete(shim.store, job_of(calls[2]))
    assert shim.call(one_more).status_code == 200


def test_what_was_accepted_once_is_never_refused(shim: Shim, database: Database) -> None:
    """A retry of a call, of a job in any state, is no further job; nor is the call's own document counted."""
    calls = [request() for _ in range(MOST)]
    assert {shim.call(fields).status_code for fields in calls[:-1]} == {200}
    complete(shim.store, job_of(calls[0]))
    job = job_of(calls[-1])
    database.client.set(job.path, {"prompt": "a", "status": "queued", "created_at": SERVER_TIME})
    for _ in range(2):
        assert {shim.call(fields).status_code for fields in calls} == {200}
    assert shim.call(request()).status_code == 200
    assert shim.call(request()).status_code == 429
    assert {shim.call(fields).status_code for fields in calls} == {200}


def claimer(store: Store, ended: list[Document], quota: int | None) -> Claimer:
    """A worker's claimer that takes one job after the other."""
    return Claimer(
        store,
        AT_ONCE,
        worker="one",
        collections=list(Collection),
        listener_alive=lambda: True,
        ended=ended.append,
        max_batch=1,
        quota=quota,
    )


def directly(database: Database, names: Sequence[str], **fields: Any) -> list[JobId]:
    """Documents that an app wrote without any call, one after the other, long enough ago."""
    store = database.open()
    jobs = [JobId(user_id="ada", collection=Collection.IMAGES, file_uid=name) for name in names]
    for place, job in enumerate(jobs):
        created = store.now() - timedelta(seconds=60 - place)
        document = {"prompt": "a", "status": "queued", "created_at": created, "submitted_at": None, **fields}
        database.client.set(job.path, document)
    return jobs


@pytest.mark.parametrize("quota", [MOST, None])
def test_a_worker_fails_documents_that_come_directly_and_exceed_the_quota(
    database: Database, quota: int | None
) -> None:
    """The oldest ones are made; a later one fails while so many older ones are active; without a quota, none does."""
    jobs = directly(database, ["1", "2", "3", "4", "5"])
    ended: list[Document] = []
    store = database.open()
    claims = claimer(store, ended, quota)
    held = [claims.next(Event())[0].id for _ in range(MOST if quota else len(jobs))]
    assert held == jobs[: len(held)]
    if quota is None:
        assert ended == []
        return
    stopped = Event()
    claims.wake = _StopsWhenWaitedFor(stopped)
    assert claims.next(stopped) == []
    assert [document.id for document in ended] == jobs[MOST:]
    for document in ended:
        assert document.fields is not None
        assert document.fields["error_message"].startswith("Too many generations at once: at most 3")


class _StopsWhenWaitedFor(Event):
    """A wake-up that ends its claimer as soon as there is nothing more to claim."""

    def __init__(self, stopped: Event) -> None:
        super().__init__()
        self._stopped = stopped

    def wait(self, timeout: float | None = None) -> bool:
        self._stopped.set()
        return True


def test_a_document_that_a_call_announced_is_not_failed_by_a_worker(database: Database) -> None:
    """The shim has counted; its word holds."""
    directly(database, ["1", "2", "3"])
    (announced,) = directly(database, ["4"], submitted_at=SERVER_TIME)
    store = database.open()
    quota = Quota(store=store, most=1)
    take = partial(lifecycle.take, policy=AT_ONCE, ticket=TICKET)
    assert quota.decision(store.read(announced), take) is take


def test_a_document_of_no_age_is_not_counted(database: Database) -> None:
    """Only a client past the rules writes such a time; it is made."""
    directly(database, ["1", "2"])
    (odd,) = directly(database, ["3"], created_at="yesterday")
    store = database.open()
    assert not Quota(store=store, most=1).is_exceeded_by(store.read(odd))
    assert not Quota(store=store, most=None).is_exceeded_by(store.read(odd))


class _Asked(Exception):
    """The store was asked."""


class _SilentStore:
    """A store that nobody may ask."""

    def __getattr__(self, name: str) -> Any:
        raise _Asked(name)


def test_without_a_quota_nothing_is_asked_of_the_store() -> None:
    """It costs nothing where it is off."""
    store: Any = _SilentStore()
    quota = Quota(store=store, most=None)
    job = JobId(user_id="ada", collection=Collection.IMAGES, file_uid="1")
    now = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    document = Document(id=job, fields={"status": "queued"}, version=1, updated_at=now, read_at=now)
    take = partial(lifecycle.take, policy=AT_ONCE, ticket=TICKET)
    assert quota.has_room(document)
    assert quota.decision(document, take) is take

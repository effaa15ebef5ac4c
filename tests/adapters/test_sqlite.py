"""What the embedded store promises beyond the contract: crashes, many processes, wake-ups and one clock."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.adapters.boot_clock import MachineClock, from_microseconds
from daemon.adapters.sqlite import LEAP, SqliteStore
from daemon.core.errors import StoreUnavailable
from daemon.core.job import SERVER_TIME, Changes, Collection, Decide, Document, JobId, Refusal
from tests.adapters.subprocesses import kill_at_every_line, python

JOB = JobId(user_id="user", collection=Collection.IMAGES, file_uid="file")
HOUR = 3_600_000_000  # microseconds


def job(file_uid: object) -> JobId:
    """An image job."""
    return JobId(user_id="user", collection=Collection.IMAGES, file_uid=str(file_uid))


def writing(**fields: Any) -> Decide:
    """A decision that always writes the same."""

    def decide(document: Document, now: datetime) -> Changes:
        return Changes(reason="test", fields=fields, create=document.fields is None)

    return decide


def write(store: SqliteStore, target: JobId, **fields: Any) -> Document:
    """Write, whatever is there."""
    result = store.update(target, writing(**fields))
    assert isinstance(result, Document)
    return result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database file that is not there yet."""
    return tmp_path / "state" / "jobs.db"


@pytest.fixture
def open_store(path: Path) -> Iterator[Callable[..., SqliteStore]]:
    """Opens stores on it, closed after the test."""
    with ExitStack() as stack:

        def open_one(clock: MachineClock | None = None) -> SqliteStore:
            store = SqliteStore(path, clock=clock)
            stack.callback(store.close)
            return store

        yield open_one


class Machine:
    """A machine whose clocks stand where a test puts them."""

    def __init__(self) -> None:
        self.up = 5 * HOUR
        self.wall = 1_790_000_000_000_000  # in 2026

    def clock(self, boot: str = "first") -> MachineClock:
        return MachineClock(boot=boot, since_boot=lambda: self.up, wall=lambda: self.wall)


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["submit", "update"])
def test_a_kill_at_any_line_leaves_the_old_or_the_new_document(scene: str, tmp_path: Path) -> None:
    """After SIGKILL before each line in turn, the next process finds a whole document and goes on."""
    assert kill_at_every_line(scene, tmp_path) > 50


def test_what_was_accepted_survives_a_kill(path: Path, open_store: Callable[..., SqliteStore]) -> None:
    """Every write that a killed process told of is there."""
    script = """
store = SqliteStore(path)
for number in range(10_000):
    store.update(job(number), writing(status="queued", number=number))
    print(number, flush=True)
"""
    with python(script, path) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(40)]
        writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.stdout if line.endswith("\n")]
        writer.wait()
    store = open_store()
    assert all(store.read(job(number)).fields == {"status": "queued", "number": number} for number in told)


def test_several_processes_share_one_file(path: Path, open_store: Callable[..., SqliteStore]) -> None:
    """Three processes that open a new file at once and count in one document lose nothing."""
    script = """
store = SqliteStore(path)
def add_one(document, now):
    number = (document.fields or {}).get("number", 0)
    return Changes(reason="test", fields={"number": number + 1}, create=document.fields is None)
for _ in range(40):
    result = store.update(job("counter"), add_one)
    while isinstance(result, Refusal):
        result = store.update(job("counter"), add_one)
store.close()
"""
    with ExitStack() as stack:
        for process in [stack.enter_context(python(script, path)) for _ in range(3)]:
            assert process.wait(60) == 0
    assert open_store().read(job("counter")).fields == {"number": 120}


def test_another_process_wakes_a_waiting_daemon(path: Path, open_store: Callable[..., SqliteStore]) -> None:
    """A job submitted by another process is noticed well within a second."""
    woken = threading.Event()
    times: list[float] = []

    def wake() -> None:
        times.append(time.monotonic())
        woken.set()

    subscription = open_store().listen([Collection.IMAGES], wake)
    assert woken.wait(10)  # for what was there before
    woken.clear()
    script = """
import time
store = SqliteStore(path)
store.update(job("a"), writing(status="queued"))
print(time.monotonic(), flush=True)
"""
    with python(script, path) as writer:
        assert writer.stdout is not None
        written_at = float(writer.stdout.readline())
        assert woken.wait(10)
        writer.wait()
    assert times[1] - written_at < 1.0
    subscription.close()


def test_a_path_too_long_for_a_socket_is_polled(tmp_path: Path) -> None:
    """Where no socket can be made beside the file, wake-ups come by polling."""
    path = tmp_path / ("long" * 25) / "jobs.db"
    woken = threading.Event()
    with closing(SqliteStore(path)) as listening, closing(SqliteStore(path)) as writer:
        subscription = listening.listen([Collection.IMAGES], woken.set)
        assert woken.wait(10)  # for what was there before
        woken.clear()
        write(writer, JOB, status="queued")
        assert woken.wait(10)
        assert subscription.alive()
        assert list(Path(f"{path}-wake").iterdir()) == []


def test_a_commit_that_rang_no_bell_is_found_by_looking(path: Path, open_store: Callable[..., SqliteStore]) -> None:
    """The datagram is only a hint: without it the look at the file finds the commit."""
    woken = threading.Event()
    open_store().listen([Collection.IMAGES], woken.set)
    assert woken.wait(10)  # for what was there before
    woken.clear()
    with closing(sqlite3.connect(path)) as silent, silent:
        silent.execute("UPDATE state SET images = images + 1")
    assert woken.wait(10)


def test_the_socket_of_a_killed_listener_is_cleared_away(path: Path, open_store: Callable[..., SqliteStore]) -> None:
    """A daemon that was killed leaves a socket; the next submission removes it, and spares the living."""
    store, woken = open_store(), threading.Event()
    script = """
import time
from pathlib import Path
store = SqliteStore(path)
store.listen([Collection.IMAGES], lambda: None)
while not list(Path(f"{path}-wake").glob("[!.]*")):
    time.sleep(0.01)
print("listening", flush=True)
time.sleep(60)
"""
    with python(script, path) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "listening\n"
        listener.send_signal(signal.SIGKILL)
        listener.wait()
    [dead] = Path(f"{path}-wake").iterdir()
    store.listen([Collection.IMAGES], woken.set)
    write(store, JOB, status="queued")
    assert woken.wait(10)
    assert not dead.exists()


def test_a_closed_store_takes_its_socket_along(path: Path, open_store: Callable[..., SqliteStore]) -> None:
    """Nothing is left beside the file but an empty folder, and no thread."""
    store = open_store()
    store.listen([Collection.IMAGES], threading.Event().set)
    store.close()
    assert list(Path(f"{path}-wake").iterdir()) == []
    assert "sqlite-watcher" not in {thread.name for thread in threading.enumerate()}


def test_a_listener_outlives_a_file_that_cannot_be_opened(
    open_store: Callable[..., SqliteStore], path: Path, tmp_path: Path
) -> None:
    """A disk that is away for a moment, say: the watcher opens the file again."""
    store, other, woken = open_store(), open_store(), threading.Event()
    store.read(JOB)  # over a connection that stays open
    path.parent.rename(tmp_path / "away")
    store.listen([Collection.IMAGES], woken.set)
    assert not woken.wait(0.5)
    (tmp_path / "away").rename(path.parent)
    write(other, JOB, status="queued")
    assert woken.wait(20.0)


def test_a_listener_that_raises_does_not_silence_the_others(open_store: Callable[..., SqliteStore]) -> None:
    """It is dead from then on and says so; the others go on."""
    store, woken, raised = open_store(), threading.Event(), threading.Event()

    def broken() -> None:
        raised.set()
        raise RuntimeError

    first = store.listen([Collection.IMAGES], broken)
    second = store.listen([Collection.IMAGES], woken.set)
    write(store, JOB, status="queued")
    assert raised.wait(10)
    assert woken.wait(10)
    assert not first.alive()
    assert second.alive()


def test_writes_that_concern_nobody_wake_nobody(open_store: Callable[..., SqliteStore]) -> None:
    """Claims, heartbeats and results are no news to a daemon that waits for work."""
    store, images, cancellations = open_store(), threading.Event(), threading.Event()
    store.listen([Collection.IMAGES], images.set)
    store.listen_cancellations([Collection.IMAGES], cancellations.set)
    for woken in (images, cancellations):  # for what was there before
        assert woken.wait(10)
        woken.clear()
    write(store, JOB, status="processing", cancel_requested=True)
    assert cancellations.wait(10)  # so the commit was looked at
    assert not images.is_set()


def test_a_jump_of_the_wall_clock_changes_nothing(open_store: Callable[..., SqliteStore]) -> None:
    """Time is the boot clock's; a process started after the jump agrees with those before it."""
    machine = Machine()
    store = open_store(machine.clock())
    assert store.now() == from_microseconds(machine.wall)
    before = write(store, JOB, at=SERVER_TIME)
    machine.wall -= 24 * HOUR
    machine.up += 1_000_000
    later = open_store(machine.clock())
    assert later.now() == store.now() == from_microseconds(machine.wall + 24 * HOUR + 1_000_000)
    after = write(later, JOB, at=SERVER_TIME)
    assert timedelta(0) < after.updated_at - before.updated_at <= timedelta(seconds=1)


def test_time_goes_on_over_a_restart_of_the_machine(open_store: Callable[..., SqliteStore]) -> None:
    """The boot clock begins anew; the store's time goes on from the wall clock's."""
    machine = Machine()
    write(open_store(machine.clock()), JOB, at=SERVER_TIME)
    machine.up, machine.wall = 10, machine.wall + HOUR
    assert open_store(machine.clock("second")).now() == from_microseconds(machine.wall)


@pytest.mark.parametrize("boot", ["second", "first"], ids=["known", "unknown"])
def test_time_never_runs_backwards_over_a_restart(boot: str, open_store: Callable[..., SqliteStore]) -> None:
    """A wall clock that was reset, and even a system that cannot tell its boots apart, give no earlier time."""
    machine = Machine()
    last = write(open_store(machine.clock()), JOB, number=1)
    machine.up, machine.wall = 10, machine.wall - 1000 * HOUR
    again = write(open_store(machine.clock(boot)), JOB, number=2)
    assert again.updated_at > last.updated_at
    assert again.version > last.version + LEAP


def test_commits_have_times_of_their_own(open_store: Callable[..., SqliteStore]) -> None:
    """Even where the clock stands still, a later commit has a later time."""
    store = open_store(Machine().clock())
    times = [write(store, JOB, number=number).updated_at for number in range(3)]
    assert times == sorted(set(times))


def test_the_clock_of_this_machine_counts_on() -> None:
    """It counts from one start of the machine, and looks at the wall only for the calendar."""
    clock = MachineClock.of_this_machine()
    first, second = clock.since_boot(), clock.since_boot()
    assert 0 < first <= second
    assert clock.boot == MachineClock.of_this_machine().boot
    assert replace(clock, boot="other").boot == "other"


def test_a_value_that_no_document_holds_is_refused_whole(open_store: Callable[..., SqliteStore]) -> None:
    """A mistake of ours writes nothing, and the store stays usable."""
    store = open_store()
    write(store, JOB, number=1)
    with pytest.raises(TypeError):
        store.update(JOB, writing(number=2, value=object()))
    assert store.read(JOB).fields == {"number": 1}
    assert write(store, JOB, number=3).fields == {"number": 3}


def test_creating_what_is_there_and_changing_what_is_not_write_nothing(
    open_store: Callable[..., SqliteStore],
) -> None:
    """A decision that does not look at the document cannot do harm."""
    store = open_store()

    def update(document: Document, now: datetime) -> Changes:
        return Changes(reason="test", fields={"number": 2})

    def create(document: Document, now: datetime) -> Changes:
        return Changes(reason="test", fields={"number": 3}, create=True)

    assert isinstance(store.update(JOB, update), Refusal)
    write(store, JOB, number=1)
    assert isinstance(store.update(JOB, create), Refusal)
    assert store.read(JOB).fields == {"number": 1}


def test_a_writer_that_holds_the_file_makes_the_store_unavailable(
    path: Path, open_store: Callable[..., SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that is not given back in time is a trouble of the store, and passes."""
    monkeypatch.setattr("daemon.adapters.database.BUSY", 0.1)
    store = open_store()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"jobs\.db cannot be used: database is locked"):
            write(store, JOB, number=1)
        assert store.read(JOB).fields is None  # readers do not wait
        other.execute("ROLLBACK")
    assert write(store, JOB, number=1).fields == {"number": 1}


def test_a_new_file_that_another_process_holds_is_waited_for(
    path: Path, open_store: Callable[..., SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several daemons may start on a file that none of them has prepared yet; who waits in vain says so."""
    monkeypatch.setattr("daemon.adapters.database.BUSY", 0.1)
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked"):
            open_store()
        other.execute("COMMIT")
    assert open_store().probe() == []


def test_every_write_that_somebody_was_promised_is_on_the_disk(open_store: Callable[..., SqliteStore]) -> None:
    """Submissions and results are synced before the call returns; claims and renewals with the next of those."""
    store = open_store()
    write(store, JOB, status="queued")
    assert store._log.synced == store._log.commits
    write(store, JOB, status="processing")
    assert store._log.synced == store._log.commits - 1
    write(store, JOB, status="completed")
    assert store._log.synced == store._log.commits


def test_a_full_disk_makes_the_store_unavailable(path: Path, open_store: Callable[..., SqliteStore]) -> None:
    """What cannot be written is said clearly, and nothing of it is there."""
    script = """
import resource
store = SqliteStore(path)
store.update(job("small"), writing(number=1))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    store.update(job("large"), writing(text="x" * 1_000_000))
except StoreUnavailable as exc:
    print(exc)
"""
    with python(script, path) as writer:
        assert writer.stdout is not None
        assert "cannot be used" in writer.stdout.read()
        assert writer.wait(30) == 0
    store = open_store()
    assert store.read(job("small")).fields == {"number": 1}
    assert store.read(job("large")).fields is None


def test_a_file_of_a_newer_easeld_is_left_alone(path: Path, open_store: Callable[..., SqliteStore]) -> None:
    """A format that we do not know is refused at the start, in words."""
    open_store().close()
    with closing(sqlite3.connect(path)) as newer, newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match="newer easeld"):
        open_store()


def test_what_is_no_database_is_refused(path: Path, open_store: Callable[..., SqliteStore]) -> None:
    """Neither a file of another kind nor a folder that cannot be made is overwritten or crashed on."""
    path.parent.mkdir()
    path.write_text("no database, but somebody's notes, longer than a header would be " * 10)
    with pytest.raises(StoreUnavailable, match="not a database"):
        open_store()
    with pytest.raises(StoreUnavailable):
        SqliteStore(path / "below a file" / "jobs.db")


def test_a_closed_store_is_unavailable(open_store: Callable[..., SqliteStore]) -> None:
    """Whoever comes after the close is told so."""
    store = open_store()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.read(JOB)
    with pytest.raises(StoreUnavailable, match="closed"):
        store.claim(Document(id=JOB, fields=None, version=0, updated_at=store.now(), read_at=store.now()), writing())
    assert store.probe() == [f"The store {store._path} is closed"]


def test_queries_use_their_indexes(path: Path, open_store: Callable[..., SqliteStore]) -> None:
    """Neither a long queue nor a long history makes a look at the queue slow: no query reads the whole table."""
    statements: list[str] = []
    store = open_store()
    with store._reading() as connection:  # the only one that will be idle
        connection.set_trace_callback(statements.append)
    with closing(sqlite3.connect(path)) as connection:
        assert store.probe() == []
        assert len(statements) == 4
        for statement in statements:
            plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}"))
            assert "USING INDEX documents_" in plan
            assert "TEMP B-TREE" not in plan


def test_the_watcher_proves_that_it_lives(open_store: Callable[..., SqliteStore]) -> None:
    """A subscription is alive while its thread looks at the file, and not after its close."""
    store = open_store()
    subscription = store.listen([Collection.IMAGES], threading.Event().set)
    assert subscription.alive()
    store._watcher._looked_at -= 3600
    deadline = time.monotonic() + 10
    while not subscription.alive() and time.monotonic() < deadline:
        os.sched_yield()
    assert subscription.alive()
    subscription.close()
    assert not subscription.alive()

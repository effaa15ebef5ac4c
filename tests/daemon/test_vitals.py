from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from threading import Event

import pytest

from daemon import compose
from daemon.core.errors import BlobsUnavailable
from daemon.core.objects import Placement
from daemon.core.ports import BlobStore
from daemon.encode import ENCODERS
from daemon.shutdown import EXIT_OK
from daemon.vitals import CLAIMING, Vitals
from daemon.worker import CALL
from models.spec import Call, Task
from tests.daemon.rig import Rig, until


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Overheard:
    """A supervisor that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def ready(self) -> None:
        self.told.append("ready")

    def status(self, text: str) -> None:
        self.told.append(text)

    def alive(self) -> None:
        self.told.append("alive")

    def stopping(self) -> None:
        self.told.append("stopping")

    def statuses(self) -> list[str]:
        """Everything but the signs of life."""
        return [word for word in self.told if word != "alive"]


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def vitals(clock: Clock) -> Vitals:
    """Vitals by that clock."""
    return Vitals(clock=clock)


def in_thread(name: str, run: Callable[[], object]) -> None:
    """Run something to its end in a thread of this name."""
    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join()


def test_a_thread_is_silent_once_its_time_is_over(vitals: Vitals, clock: Clock) -> None:
    """Each thread has a time of its own; a sign begins it anew."""
    vitals.expect("quick", within=10.0)
    vitals.expect("slow", within=60.0)
    clock.now += 11
    assert vitals.silent() == ["quick"]
    in_thread("quick", vitals.sign)
    assert vitals.silent() == []
    clock.now += 50
    assert vitals.silent() == ["quick", "slow"]


def test_asking_whether_to_stop_is_a_sign_of_life_of_the_thread_that_asks(vitals: Vitals, clock: Clock) -> None:
    """No loop does anything for it but what it does anyway."""
    stopped = Event()
    asked = vitals.asked(stopped)
    for name, ask in (("looks", asked.is_set), ("waits", lambda: asked.wait(0.0))):
        vitals.expect(name, within=10.0)
        clock.now += 11
        assert vitals.silent() == [name]
        in_thread(name, ask)
        assert vitals.silent() == []
        vitals.forget(name)
    stopped.set()
    assert asked.is_set()
    assert asked.wait()


def test_a_thread_that_has_ended_is_not_missed(vitals: Vitals, clock: Clock) -> None:
    """At the end one thread after another goes, and the watchdog must not take that for death."""
    vitals.expect("claim", within=1.0)
    vitals.forget("claim")
    clock.now += 1000
    in_thread("claim", vitals.sign)
    assert vitals.silent() == []


def test_a_store_that_is_away_is_a_reason_not_to_claim_and_no_silence(vitals: Vitals) -> None:
    """What cannot be reached is no reason to be restarted."""
    assert vitals.idle_reason() == "starting"
    vitals.doing = CLAIMING
    assert vitals.idle_reason() is None
    vitals.store_trouble = "the store is away"
    assert vitals.idle_reason() == "the store is away"
    assert vitals.silent() == []


def test_a_worker_tells_its_supervisor_what_it_does(rig: Rig) -> None:
    """Ready once threads are up, then what it does in words, and that it lives."""
    supervisor = Overheard()
    with rig.worker(supervisor=supervisor) as running:
        rig.until_status(rig.call("a"), "completed")
        until(lambda: supervisor.told.count("alive") > 1, "signs of life")
        running.shutdown.drain("a test")
        assert running.wait() == EXIT_OK
    assert sorted(supervisor.statuses()[:2]) == ["loading the models", "ready"]
    assert supervisor.statuses()[2:] == ["claiming", "stopping", "draining"]


def test_an_unfit_worker_is_ready_alive_and_says_why_it_does_not_claim(rig: Rig) -> None:
    """Restarting would mend nothing, so systemd must neither wait for readiness nor see silence."""
    supervisor = Overheard()
    with rig.worker(supervisor=supervisor, min_free_disk=1e9) as running:
        until(lambda: supervisor.told.count("alive") > 1, "signs of life")
        assert "Only" in str(running.service.vitals.idle_reason())
    assert "ready" in supervisor.told
    assert any(word.startswith("unfit: Only") for word in supervisor.told)


def test_a_worker_whose_ffmpeg_lacks_an_encoder_is_unfit(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution's build has no H.264, say: nothing is claimed, and the mending is named."""
    monkeypatch.setitem(ENCODERS, Task.TEXT2VIDEO, "libx265000")
    job = rig.call("a")
    with rig.worker() as running:
        said = "unfit: PyAV's FFmpeg has no encoder libx265000: pip install"
        until(lambda: said in str(running.service.vitals.idle_reason()), "it says so")
    assert rig.status(job) == "queued"


def test_no_sign_of_life_is_given_while_a_thread_is_silent(rig: Rig) -> None:
    """One thread that hangs is enough for the watchdog to act."""
    supervisor = Overheard()
    with rig.worker(supervisor=supervisor) as running:
        until(lambda: "alive" in supervisor.told, "a sign of life")
        running.service.vitals.expect("stuck", within=0.0)
        until(lambda: running.service.vitals.silent() == ["stuck"], "the silence is noticed")
        known = len(supervisor.told)
        rig.until_status(rig.call("a"), "completed")  # the others go on
        assert supervisor.told.count("alive") <= supervisor.told[:known].count("alive") + 1  # one was on its way
        running.service.vitals.forget("stuck")
        until(lambda: len(supervisor.told) > known + 1, "signs of life again")


def test_a_step_that_takes_its_time_is_no_silence(rig: Rig) -> None:
    """The device is watched by its steps and their limit; the watchdog has no opinion of it."""
    rig.device.hold()
    job = rig.call("a")
    with rig.worker() as running:
        until(lambda: bool(rig.device.calls), "generation begins")
        assert running.service.vitals.silent() == []
        rig.device.let_go()
        rig.until_status(job, "completed")


class Hatch:
    """A bucket whose uploads a test lets hang, or fail."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self.tries = 0
        self.away = False
        self.hangs = Event()
        self.goes_on = Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._blobs, name)

    def put(self, name: str, content: bytes, placement: Placement) -> int | None:
        self.tries += 1
        if self.away:
            raise BlobsUnavailable("the bucket is away")
        if not self.goes_on.is_set():
            self.hangs.set()
            self.goes_on.wait()
        return self._blobs.put(name, content, placement)


@pytest.fixture
def hatch(rig: Rig, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Hatch:
    """The rig's bucket, and vitals by the test's clock for its worker."""
    hatch = Hatch(rig.blobs)
    rig.blobs = hatch  # type: ignore[assignment]  # it passes every other call on
    monkeypatch.setattr(compose, "Vitals", partial(Vitals, clock=clock))
    return hatch


def silent_finishers(rig: Rig) -> list[str]:
    """Those of the worker's silent threads that finish jobs."""
    assert rig.running is not None
    return [name for name in rig.running.service.vitals.silent() if name.startswith("finisher")]


def test_a_job_that_hangs_while_it_is_finished_is_silence(rig: Rig, hatch: Hatch, clock: Clock) -> None:
    """An upload that never returns: its lease would be kept for ever, were it not for the watchdog."""
    job = rig.call("a")
    with rig.worker(step_limit=60.0):
        until(hatch.hangs.is_set, "the upload hangs")
        clock.now += CALL + 59
        assert silent_finishers(rig) == []
        clock.now += 2
        assert silent_finishers(rig) == ["finisher_0"]
        hatch.goes_on.set()
        rig.until_status(job, "completed")
        until(lambda: not silent_finishers(rig), "a finisher that rests is not missed")


def test_waiting_for_a_bucket_that_is_away_is_no_silence(rig: Rig, hatch: Hatch, clock: Clock) -> None:
    """The finisher tries again and again, on purpose: a restart would only lose the picture."""
    hatch.away = True
    job = rig.call("a")
    with rig.worker(step_limit=60.0):
        until(lambda: hatch.tries > 1, "the upload is tried again")
        clock.now += 10 * CALL
        tried = hatch.tries
        until(lambda: hatch.tries > tried + 1, "the upload is tried again")  # the second try began after the jump
        assert silent_finishers(rig) == []
        hatch.away = False
        hatch.goes_on.set()
        rig.until_status(job, "completed")


def test_a_worker_without_work_ends_where_it_is_told_to(rig: Rig) -> None:
    """Idle for as long as the setting says: an orderly end, after the jobs that there were."""
    job = rig.call("a")
    with rig.worker(exit_when_idle=1.5) as running:
        assert running.wait() == EXIT_OK
    assert rig.status(job) == "completed"


def test_a_worker_with_work_does_not_count_as_idle(rig: Rig) -> None:
    """A job that takes longer than the time without work is not cut short."""
    began = threading.Event()

    def trouble(call: Call) -> None:
        began.set()

    rig.device.hold()
    rig.device.trouble = trouble
    job = rig.call("a")
    with rig.worker(exit_when_idle=0.1) as running:
        until(began.is_set, "generation begins")
        until(lambda: running.service.heartbeat.busy_at > 0, "the worker is busy")
        assert not running.shutdown.draining.wait(1.5)
        rig.device.let_go()
        assert running.wait() == EXIT_OK
    assert rig.status(job) == "completed"

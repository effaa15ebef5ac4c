from __future__ import annotations

from dataclasses import replace

from daemon.core.errors import StoreUnavailable
from daemon.core.job import SERVER_TIME, Document, JobId
from daemon.core.pace import Turn
from daemon.outlook import FRESH_TURN, REMEMBERED, Outlook
from tests.daemon.rig import Rig
from tests.daemon.test_vitals import Clock


def ended(rig: Rig, *names: str) -> None:
    """Let these jobs be completed one after the other, each of which took 10 seconds."""
    for name in names:
        easeld = {"result": {"finished_at": rig.store.now()}, "timings": {"total": 10.0}}
        rig.client.set(
            f"generations/u/images/{name}", {"status": "completed", "created_at": SERVER_TIME, "easeld": easeld}
        )


def queued(rig: Rig, name: str) -> Document:
    """A queued job."""
    return rig.store.read(rig.call(name))


def test_a_job_is_told_how_many_are_before_it(rig: Rig) -> None:
    """Of both kinds, created earlier; and nothing of the time where nothing has ended yet."""
    first, second = queued(rig, "a"), queued(rig, "b")
    outlook = Outlook(rig.store)
    assert outlook.turn(first) == Turn(before=0, seconds=None)
    assert outlook.turn(second) == Turn(before=1, seconds=None)


def test_the_wait_comes_from_what_has_ended_lately(rig: Rig) -> None:
    """Three jobs of 10 s that ended in a moment: they were one batch, and the next job takes a third of it."""
    ended(rig, "x", "y", "z")
    queued(rig, "a")
    found = Outlook(rig.store).turn(queued(rig, "b"))
    assert found is not None
    assert found.before == 1
    assert found.seconds is not None
    assert 6.6 < found.seconds < 10.0


def test_the_wait_knows_of_the_job_that_runs(rig: Rig) -> None:
    """It is longer than any that ended lately."""
    ended(rig, "x", "y", "z")
    progress = {"phase": "generating", "eta_seconds": 500.0}
    rig.client.set(
        "generations/u/videos/long", {"status": "processing", "created_at": SERVER_TIME, "progress": progress}
    )
    found = Outlook(rig.store).turn(queued(rig, "a"))
    assert found is not None
    assert found.seconds is not None
    assert 450.0 < found.seconds <= 500.0


def test_a_job_that_does_not_wait_has_no_turn(rig: Rig) -> None:
    """Completed, absent, or of no age."""
    ended(rig, "done")
    rig.client.set("generations/u/images/ageless", {"status": "queued"})
    outlook = Outlook(rig.store)
    for job in map(JobId.parse, (f"generations/u/images/{name}" for name in ("done", "none", "ageless"))):
        assert job is not None
        assert outlook.turn(rig.store.read(job)) is None


def test_who_asks_often_costs_no_more_reads(rig: Rig) -> None:
    """An answer holds for some seconds; it is not remembered for ever."""
    asked: list[str] = []

    class Counting:
        def __getattr__(self, name: str) -> object:
            asked.append(name)
            return getattr(rig.store, name)

    clock = Clock()
    outlook = Outlook(Counting(), clock=clock)  # type: ignore[arg-type]  # it passes every call on
    document = queued(rig, "a")
    for _ in range(3):
        outlook.turn(document)
    assert asked == ["queued", "newest", "newest", "now"]
    clock.now += FRESH_TURN
    outlook.turn(document)
    assert asked == ["queued", "newest", "newest", "now", "queued"]
    for number in range(REMEMBERED + 5):
        other = JobId(user_id="u", collection=document.id.collection, file_uid=str(number))
        outlook.turn(replace(document, id=other))
    assert len(outlook._turns) == REMEMBERED


def test_a_store_that_cannot_count_costs_no_answer(rig: Rig) -> None:
    """The place is a courtesy: whoever has the document goes on without."""
    job = queued(rig, "a")

    class Busy:
        def queued(self, *_: object, **__: object) -> int:
            raise StoreUnavailable("busy")

    assert Outlook(Busy()).turn(job) is None  # type: ignore[arg-type]  # it is asked for nothing else

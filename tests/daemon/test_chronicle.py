from __future__ import annotations

from daemon.chronicle import Chronicle
from tests.daemon.rig import Rig, until


def test_a_minute_tells_what_ended_how_long_it_waited_and_how_busy_the_device_was(rig: Rig) -> None:
    """Counted from the worker itself, twice a second; another minute begins empty."""
    with rig.worker() as running:
        now = [60.0]
        worker = running.service.worker
        chronicle = Chronicle(
            metrics=worker.metrics, room=worker.room, heartbeat=running.service.heartbeat, clock=lambda: now[0]
        )
        chronicle.look()
        rig.device.hold()
        job = rig.call("one")
        until(lambda: bool(worker.room.running), "the device works")
        chronicle.look()
        chronicle.look()
        rig.device.let_go()
        rig.until_status(job, "completed")
        until(lambda: not worker.room.running and not running.service.heartbeat.held(), "it is over")
        chronicle.look()
        now[0] = 120.0
        chronicle.look()
        first, second = chronicle.minutes()
    assert (first.began_at, first.completed, first.failed, first.looks, first.busy) == (1, 1, 0, 4, 2)
    assert first.claims == 1
    assert 0 <= first.waited < 20
    assert (second.began_at, second.completed, second.looks) == (2, 0, 1)

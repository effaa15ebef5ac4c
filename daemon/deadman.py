"""Notices a device that has stopped moving: gives its jobs back and ends the process, for its supervisor to restart."""

from __future__ import annotations

from threading import Event, Thread

import structlog

from daemon.core.errors import Crashed
from daemon.shutdown import EXIT_DEVICE
from daemon.worker import Worker

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0  # seconds
GIVE_BACK = 5.0  # seconds for giving the jobs back; what is not through by then is rescued
STUCK = "The device made no step within the limit"


def watch(worker: Worker, stopped: Event) -> None:
    """Look until ``stopped``, or until the device is stuck."""
    while not stopped.wait(LOOK_EVERY):
        stuck = worker.room.stuck(worker.step_limit)
        if not stuck:
            continue
        log.error("device.stuck", jobs=[held.id.path for held in stuck])
        ends = [Thread(target=worker.end, args=(held, Crashed(STUCK)), daemon=True) for held in stuck]
        for end in ends:
            end.start()
        for end in ends:
            end.join(GIVE_BACK / len(ends))
        worker.shutdown.stop("the device is stuck", status=EXIT_DEVICE)
        return

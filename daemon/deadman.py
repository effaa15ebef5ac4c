"""Notices a device that has stopped moving: gives its jobs back and ends the process, for its supervisor to restart."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event, Thread

import structlog

from daemon.core.errors import Crashed
from daemon.held import Held
from daemon.shutdown import EXIT_DEVICE
from daemon.worker import Worker

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0  # seconds
GIVE_BACK = 5.0  # seconds for giving the jobs back; what is not through by then is rescued
STUCK = "The device made no step within the limit"


def step_limit(batch: Sequence[Held], *, scale: float) -> float:
    """How many seconds a step may take, decoding after the last one too.

    ``scale`` for up to four megapixels of pictures or frames in the call, in proportion above: 81 frames of 832 x 480
    pixels may take eight times as long.
    """
    _, width, height, _, frames = batch[0].work.shape
    items = sum(len(held.work.seeds) for held in batch)
    return scale * max(1.0, items * frames * width * height / 4e6)


def watch(worker: Worker, stopped: Event, *, scale: float) -> None:
    """Look until ``stopped``, or until the device is stuck."""
    while not stopped.wait(LOOK_EVERY):
        stuck = worker.room.stuck(lambda batch: step_limit(batch, scale=scale))
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

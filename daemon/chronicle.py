"""What a worker did in each of the last minutes, for people who look at a plot. Metrics are for machines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event, Lock

from daemon.core.job import Status
from daemon.core.record import moment
from daemon.heartbeat import Heartbeat
from daemon.held import Held
from daemon.metrics import Metrics
from daemon.room import Room

LOOK_EVERY = 0.5  # seconds
KEPT = 60  # minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """One minute. ``began_at`` is in minutes since 1970; ``waited`` is the seconds that ``claims`` jobs waited."""

    began_at: int
    completed: int = 0
    failed: int = 0
    claims: int = 0
    waited: float = 0.0
    looks: int = 0
    busy: int = 0  # of the looks, how many found the device at work


class Chronicle:
    """Looks at the worker twice a second. What comes and goes between two looks is counted as ended, not as waiting."""

    def __init__(
        self, *, metrics: Metrics, room: Room, heartbeat: Heartbeat, clock: Callable[[], float] = time.time
    ) -> None:
        self._metrics = metrics
        self._room = room
        self._heartbeat = heartbeat
        self._clock = clock
        self._minutes: deque[Minute] = deque(maxlen=KEPT)
        self._seen: set[str] = set()
        self._ended = {Status.COMPLETED: 0, Status.FAILED: 0}
        self._lock = Lock()

    def run(self, stopped: Event) -> None:
        """Look until ``stopped``."""
        while not stopped.wait(LOOK_EVERY):
            self.look()

    def look(self) -> None:
        """Add to the present minute what has happened since the last look."""
        began_at = int(self._clock() // 60)
        ended = self._counted()
        held = self._heartbeat.held()
        waits = [wait for one in held if one.token not in self._seen and (wait := waited(one)) is not None]
        self._seen = {one.token for one in held}
        with self._lock:
            if not self._minutes or self._minutes[-1].began_at != began_at:
                self._minutes.append(Minute(began_at=began_at))
            minute = self._minutes[-1]
            self._minutes[-1] = replace(
                minute,
                completed=minute.completed + ended[Status.COMPLETED] - self._ended[Status.COMPLETED],
                failed=minute.failed + ended[Status.FAILED] - self._ended[Status.FAILED],
                claims=minute.claims + len(waits),
                waited=minute.waited + sum(waits),
                looks=minute.looks + 1,
                busy=minute.busy + bool(self._room.running),
            )
        self._ended = ended

    def minutes(self) -> list[Minute]:
        """The last hour, as far as it is known, the oldest minute first."""
        with self._lock:
            return list(self._minutes)

    def _counted(self) -> dict[Status, int]:
        ended = dict.fromkeys(self._ended, 0)
        for family in self._metrics.jobs.collect():
            for sample in family.samples:
                if sample.name.endswith("_total") and sample.labels["status"] in ended:
                    ended[Status(sample.labels["status"])] += int(sample.value)
        return ended


def waited(held: Held) -> float | None:
    """The seconds between the call, or the document, and its first claim; ``None`` where it says nothing of that."""
    fields = held.document.fields or {}
    called = moment(fields.get("submitted_at")) or moment(fields.get("created_at"))
    if called is None or not held.unharmed:
        return None
    since_claim = held.renewed_at - held.claimed_at
    return max(0.0, (held.document.updated_at - called).total_seconds() - since_claim)

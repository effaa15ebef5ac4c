"""The store's time, and its timestamps as the core has them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from threading import Lock

from google.api_core.datetime_helpers import DatetimeWithNanoseconds
from google.protobuf.timestamp_pb2 import Timestamp

TRUSTED = 60.0  # seconds for which the best estimate is kept

Moment = Timestamp | DatetimeWithNanoseconds
"""A time as the library gives it: raw from a query's stream, dressed elsewhere."""


def as_version(moment: Moment) -> int:
    """Nanoseconds since 1970, exactly."""
    raw: Timestamp = moment if isinstance(moment, Timestamp) else moment.timestamp_pb()
    return raw.ToNanoseconds()


def as_datetime(moment: Moment) -> datetime:
    """A datetime with a zone, to the microsecond at least."""
    if isinstance(moment, Timestamp):
        return moment.ToDatetime(tzinfo=UTC)
    return moment


def from_version(version: int) -> Timestamp:
    """The update time that a version stands for."""
    moment = Timestamp()
    moment.FromNanoseconds(version)
    return moment


def uptime() -> float:
    """Seconds by a clock that only goes forward, where possible also while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class StoreClock:
    """The store's time from what its responses say and from what has passed here since; no wall clock of ours.

    A response was older on arrival than it says, by the way back. So of several the one that gives the latest time is
    the truest; it is kept for a minute, so that two clocks that run apart cannot drift for long.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._zero: datetime | None = None  # the store's time at uptime 0
        self._since = 0.0

    def saw(self, moment: datetime) -> None:
        """A response that has just come says that it was ``moment``."""
        arrived = uptime()
        zero = moment - timedelta(seconds=arrived)
        with self._lock:
            if self._zero is None or zero > self._zero or arrived - self._since > TRUSTED:
                self._zero, self._since = zero, arrived

    def now(self) -> datetime | None:
        """The store's time; ``None`` before the first response."""
        with self._lock:
            return None if self._zero is None else self._zero + timedelta(seconds=uptime())

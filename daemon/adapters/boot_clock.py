"""The machine's clocks: one that never jumps and that all processes share, and one that looks like a calendar."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineClock:
    """All in microseconds."""

    boot: str  # which start of the machine ``since_boot`` counts from
    since_boot: Callable[[], int]  # goes on during suspension where the system can tell
    wall: Callable[[], int]  # since 1970, UTC; may jump

    @classmethod
    def of_this_machine(cls) -> Self:
        return cls(boot=_boot(), since_boot=_since_boot, wall=lambda: time.time_ns() // 1000)


def to_microseconds(moment: datetime) -> int:
    """Since 1970; exact. A time without a zone counts as UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """The inverse, in UTC."""
    return EPOCH + timedelta(microseconds=microseconds)


def _since_boot() -> int:
    if sys.platform == "linux":
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    return time.monotonic_ns() // 1000  # macOS: counts from the machine's start, for every process alike


def _boot() -> str:
    if sys.platform == "linux":
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return "unknown"  # the store then notices a new start by a clock that went back
    command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - a fixed command
    return found if re.fullmatch(r"[0-9A-Fa-f-]+", found) else "unknown"

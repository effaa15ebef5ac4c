"""How fast the queue has lately moved, and what that means for a job that waits in it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from daemon.core.job import Document
from daemon.core.record import Record

LEAST = 3  # jobs that have to tell; of fewer nothing is concluded
LATELY = timedelta(hours=1)
LONGEST = 86_400.0  # seconds that a running job may say it takes; more is a client's joke


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How the queue moves, in seconds."""

    first: float  # until the next job begins
    each: float  # from the beginning of one job to that of the next


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """When a queued job's turn comes."""

    before: int  # queued jobs that were created earlier
    seconds: float | None  # until it begins, about; None: nobody can tell


def seconds_per_job(completed: Iterable[Document], now: datetime) -> float | None:
    """How many seconds lie between the ends of two jobs while there is work; ``None`` where too few have ended lately.

    All workers' together: each completed job says how long it took from claim to end, and no job is counted for longer
    than that. Where the one before it ended earlier still, nobody worked in between.
    """
    ends = sorted(end for document in completed if (end := _end(document)) is not None and now - end[0] < LATELY)
    if len(ends) < LEAST:
        return None
    gaps = [min(took, (ended - before).total_seconds()) for (before, _), (ended, took) in pairwise(ends)]
    return (ends[0][1] + sum(gaps)) / len(ends)


def pace_of(completed: Iterable[Document], processing: Iterable[Document], now: datetime) -> Pace | None:
    """The pace at which jobs ended lately, and when the first running one ends; ``None`` where too few have ended.

    Where no running job says how long it still takes, the next one begins as soon as one of late would have ended.
    """
    each = seconds_per_job(completed, now)
    if each is None:
        return None
    known = [left for document in processing if (left := _left(document, now)) is not None]
    return Pace(first=min(known, default=each), each=each)


def turn(before: int, pace: Pace | None) -> Turn:
    """The turn of a job with so many before it: some running job has to end, and as many to begin first."""
    return Turn(before=before, seconds=None if pace is None else pace.first + before * pace.each)


def _left(document: Document, now: datetime) -> float | None:
    """How long a running job still takes by its own word, from when it gave it."""
    progress = (document.fields or {}).get("progress")
    said = progress.get("eta_seconds") if isinstance(progress, Mapping) else None
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said < LONGEST:
        return None
    return max(0.0, said - (now - document.updated_at).total_seconds())


def _end(document: Document) -> tuple[datetime, float] | None:
    record = Record.of(document.fields or {})
    timings = record.raw.get("timings")
    took = timings.get("total") if isinstance(timings, Mapping) else None
    ended = record.result.finished_at if record.result is not None else None
    if ended is None or not isinstance(took, int | float) or not 0 <= took < LATELY.total_seconds():
        return None
    return ended, float(took)

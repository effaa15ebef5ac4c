"""A backlog worked off by a watched worker, and the figures of that."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.child import Watched
from benchmarks.observed import Span
from benchmarks.paired import percentile
from benchmarks.place import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How one backlog went. The wall runs from the first call's begin to the last document's completion."""

    jobs: int
    wall: float  # seconds
    device: list[Span]

    @property
    def per_second(self) -> float:
        return self.jobs / self.wall

    @property
    def busy(self) -> float:
        """The share of the wall in which the model computed."""
        return sum(span.ended - span.began for span in self.device) / self.wall

    @property
    def gaps(self) -> list[float]:
        """Seconds on the device between the end of each call and the begin of the next."""
        return [after.began - before.ended for before, after in zip(self.device, self.device[1:], strict=False)]


def work_off(place: Place, worker: Watched, number: int, *, within: float) -> Run:
    """Write a backlog while the worker is held, let it go, and wait for its end.

    Held by a signal, so that it is warm when it begins and finds all documents at once.
    """
    worker.look()
    since = len(worker.spans)
    jobs = place.jobs(number)
    with worker.paused():
        place.write(jobs)
    worker.until(lambda: len(worker.of("completed", since)) >= number, f"{number} jobs", within=within)
    if missing := [job for job in jobs if place.status(job) != "completed"]:
        raise AssertionError(f"not completed: {missing}")
    place.forget(jobs)
    device = worker.of("device", since)
    ended = max(span.ended for span in worker.of("completed", since))
    return Run(jobs=number, wall=ended - device[0].began, device=device)


def gap_figures(runs: list[Run]) -> tuple[float, float]:
    """The middle and the 95th percentile of all gaps, in milliseconds."""
    gaps = [1000 * gap for run in runs for gap in run.gaps]
    return percentile(gaps, 50), percentile(gaps, 95)

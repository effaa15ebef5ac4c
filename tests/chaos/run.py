"""One run: jobs and faults side by side, then quiet, a sweep of the bucket, and the checks."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from daemon import sweep
from daemon.core.job import Collection, JobId, Status
from tests.chaos.checks import Findings, check
from tests.chaos.clients import Clients, surely
from tests.chaos.faults import Faults
from tests.chaos.fleet import Fleet
from tests.chaos.plan import RESCUED_WITHIN, Plan
from tests.chaos.rescues import Rescues
from tests.chaos.sites import PREFIX, Site, site

LOOK_EVERY = 0.3  # seconds


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run did and what it found."""

    plan: Plan
    jobs: int
    faults: Counter[str]
    exits: Counter[int]
    seconds: float
    swept: int
    rescues: list[float]
    rescue_p95: float
    findings: Findings
    evidence: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.findings.all and self.rescue_p95 <= RESCUED_WITHIN


def run(plan: Plan, folder: Path) -> Report:
    """Run a plan in an empty folder. Raises ``PartMissing``."""
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with site(plan, folder) as place:
        rescues = Rescues(place.store)
        stopped = threading.Event()
        watching = threading.Thread(target=rescues.run, args=(stopped,), daemon=True)
        watching.start()
        clients = Clients(plan, place)
        try:
            with Fleet(plan, place, rescues, folder) as fleet:
                faults = Faults(plan, place, fleet)
                _disturbed(plan, clients, faults, place)
                unended = _quiet(plan, clients, rescues)
                drained = fleet.stop()
        finally:
            stopped.set()
            watching.join()
        swept = list(sweep.sweep(place.store, place.blobs, prefix=PREFIX))
        findings = check(plan, place, clients.jobs.values())
        findings.other += [(job, "had not ended in time") for job in unended]
        report = Report(
            plan=plan,
            jobs=len(clients.jobs),
            faults=faults.begun + fleet.faults + fleet.noted(),
            exits=fleet.ends,
            seconds=time.monotonic() - began,
            swept=len(swept),
            rescues=rescues.seconds,
            rescue_p95=rescues.p95,
            findings=findings,
        )
        if not drained:
            report.evidence.append("some worker did not drain")
            findings.other.append((next(iter(clients.jobs)), "some worker did not drain"))
        for job in dict.fromkeys(job for job, _ in findings.all):
            report.evidence += _evidence(place, fleet, job)
        return report


def _disturbed(plan: Plan, clients: Clients, faults: Faults, place: Site) -> None:
    """Queue jobs and begin faults, in step, and never more jobs than can wait."""
    begun = 0
    while begun < plan.faults or len(clients.jobs) < plan.jobs:
        due = time.monotonic() + plan.pace
        waiting = surely(lambda: place.store.by_name(tuple(Collection), status=Status.QUEUED, limit=plan.backlog))
        if len(waiting) < plan.backlog:
            for _ in range(min(plan.per_tick, plan.jobs - len(clients.jobs))):
                clients.queue()
        if begun < plan.faults:
            faults.one()
            begun += 1
        clients.act()
        time.sleep(max(0.0, due - time.monotonic()))
    faults.mend()


def _quiet(plan: Plan, clients: Clients, rescues: Rescues) -> list[JobId]:
    """No more faults from outside: everything has to come to its end now; what did not."""
    deadline = time.monotonic() + plan.within
    active = list(clients.jobs)
    while time.monotonic() < deadline:
        clients.act()
        if not clients.waiting:
            active = [job for job in active if not rescues.ended(job)]
            if not active:
                return []
        time.sleep(LOOK_EVERY)
    return active


def _evidence(place: Site, fleet: Fleet, job: JobId) -> list[str]:
    """Everything that is known of a job that went wrong."""
    lines = [f"{job}: {dict(place.store.read(job).fields or {})}"]
    name = f"/{job.collection.folder}/{job.file_uid}"
    if place.fence is not None:
        lines += [f"  accepted {entry}" for entry in place.fence.accepted if name in entry.name]
    return lines + [f"  {line}" for line in fleet.log_of(f'{job.path}"')]

"""The workers of a run: started, killed, frozen, woken, told to drain, and started again as a supervisor does."""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from daemon.core.job import JobId
from tests.chaos.nursery import Nursery
from tests.chaos.plan import LEASE, WAKES, Plan
from tests.chaos.rescues import Rescues
from tests.chaos.sites import Site

AGAIN_AFTER = 0.2  # seconds until a worker that ended is started again
SETTLED = 1.5  # seconds after its start in which nothing from outside befalls a worker
LONGEST_SLEEP = 4 * LEASE  # seconds that a frozen worker waits for its job to be taken, at most


@dataclass(slots=True, kw_only=True)
class Worker:
    """One life of one worker."""

    number: int
    name: str
    pid: int
    frozen: bool = False
    since: float = field(default_factory=time.monotonic)


class Fleet:
    """Keeps ``plan.workers`` workers alive. ``faults`` counts by kind what befell them."""

    def __init__(self, plan: Plan, site: Site, rescues: Rescues, folder: Path) -> None:
        self._plan = plan
        self._site = site
        self._rescues = rescues
        self._folder = folder
        self._random = random.Random(plan.seed + 1)
        self._alive: dict[int, Worker] = {}  # by process id
        self._lock = threading.Lock()
        self._events: queue.Queue[tuple[int, str, int] | None] = queue.Queue()
        self._lives = 0
        self._over = threading.Event()  # no worker is started any more, and none sleeps any longer
        self._beside: list[threading.Thread] = []
        self._told: set[int] = set()  # process ids whose end is expected
        self.faults: Counter[str] = Counter()
        self.ends: Counter[int] = Counter()  # exit statuses of workers that ended by themselves, or were drained
        self.notes = folder / "notes"
        self.notes.touch()
        self._nursery = Nursery(lambda *event: self._events.put(event))
        self._thread = threading.Thread(target=self._follow, name="fleet", daemon=True)

    def __enter__(self) -> Self:
        self._nursery.__enter__()
        self._thread.start()
        for number in range(self._plan.workers):
            self._start(number)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._nursery.__exit__()
        self._events.put(None)
        self._thread.join()
        for thread in self._beside:
            thread.join()

    def befall(self, kind: str) -> None:
        """Kill, stop or drain one worker, any that has had the time to claim something."""
        settled = time.monotonic() - SETTLED
        with self._lock:
            awake = [worker for worker in self._alive.values() if not worker.frozen and worker.since < settled]
        if not awake:
            return
        worker = self._random.choice(awake)
        self.faults[kind] += 1
        if kind == "drain":
            self._told.add(worker.pid)
        number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "drain": signal.SIGTERM}[kind]
        with suppress(ProcessLookupError):
            os.kill(worker.pid, number)

    def wake_all(self) -> None:
        """Let every frozen worker go on."""
        with self._lock:
            workers = list(self._alive.values())
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGCONT)

    def stop(self, *, within: float = 60.0) -> bool:
        """Drain all, and start none again; whether all ended in time."""
        self._over.set()
        deadline = time.monotonic() + within
        self.befall_all(signal.SIGTERM)
        while self._alive and time.monotonic() < deadline:
            self.wake_all()
            time.sleep(0.05)
        return not self._alive

    def befall_all(self, number: int) -> None:
        with self._lock:
            workers = list(self._alive.values())
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, number)

    def log_of(self, text: str, *, most: int = 60) -> list[str]:
        """The lines of all workers' logs that hold a text."""
        found = []
        for path in sorted(self._folder.glob("worker-*.log")):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found += [f"{path.stem} {line}" for line in lines if text in line]
        return found[:most]

    def _start(self, number: int) -> None:
        with self._lock:
            self._lives += 1
            life = self._lives
        name = f"worker-{number}-{life}"
        # Half of the workers come back with what they noted of their claims, the others leave it all to the rescue.
        state = self._folder / ("state" if number % 2 else "states") / (str(number) if number % 2 else name)
        environment = self._site.environment(number) | {"EASELD_WORKER": name, "EASELD_STATE": str(state)}
        if number % 4 > 1:  # half of them keep previews in the bucket, which all have to remove
            environment["EASELD_UPLOAD_PREVIEWS"] = "1"
        configuration = {
            "kills": self._plan.kills,
            "freezes": self._plan.freezes if number < self._plan.freezers else {},
            "seed": self._plan.seed * 1000 + life,
            "notes": str(self.notes),
            "skew": self._site.skew(number),
            "defect": self._plan.defect,
        }
        log = str(self._folder / f"{name}.log")
        pid = self._nursery.start(name, environment, json.dumps(configuration), log)
        with self._lock:
            self._alive[pid] = Worker(number=number, name=name, pid=pid)

    def _follow(self) -> None:
        while (event := self._events.get()) is not None:
            pid, kind, status = event
            with self._lock:
                worker = self._alive.get(pid)
            if worker is None:  # it ended before its start was noted
                time.sleep(0.01)
                self._events.put(event)
                continue
            if kind == "stopped":
                worker.frozen = True
                self._later(self._wake, worker)
            else:
                with self._lock:
                    del self._alive[pid]
                self.ends[status] += 1
                if status:
                    self._rescues.bereave(worker.name)
                self._later(self._again, worker)

    def _later(self, run: Callable[[Worker], None], worker: Worker) -> None:
        thread = threading.Thread(target=run, args=(worker,), daemon=True)
        self._beside.append(thread)
        thread.start()

    def _again(self, worker: Worker) -> None:
        if not self._over.wait(AGAIN_AFTER):
            self._start(worker.number)

    def _wake(self, worker: Worker) -> None:
        """Wake a frozen worker when the plan says, or chance."""
        self._rescues.bereave(worker.name)
        point, job = self._frozen_at(worker.pid)
        when = self._plan.wakes.get(point) or self._random.choice(WAKES)
        if job is None or when == "later":
            self._over.wait(LEASE + self._random.uniform(0.5, LEASE))
        else:
            began, token, frozen = time.monotonic(), self._rescues.holder_of(job), self._freezes(job)
            while time.monotonic() - began < LONGEST_SLEEP and not self._come_so_far(job, token, frozen, when):
                if self._over.wait(0.03):
                    break
        worker.frozen = False
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGCONT)

    def _come_so_far(self, job: JobId, token: str | None, frozen: int, when: str) -> bool:
        if when == "taken":
            return self._rescues.holder_of(job) not in (token, None)
        return (when == "followed" and self._freezes(job) > frozen) or self._rescues.ended(job)

    def _freezes(self, job: JobId) -> int:
        """How often workers have frozen with this job."""
        return sum(line.endswith(f"\t{job.path}") for line in self._frozen())

    def _frozen(self) -> list[str]:
        lines = self.notes.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line.split("\t")[1] == "freeze"]

    def _frozen_at(self, pid: int) -> tuple[str, JobId | None]:
        """The point and the job that a worker noted when it froze; neither where it was frozen from outside."""
        for line in reversed(self._frozen()):
            noted, _, point, job = line.split("\t")
            if int(noted) == pid:
                return point, JobId.parse(job)
        return "", None

    def noted(self) -> Counter[str]:
        """The faults at named points, by kind."""
        lines = self.notes.read_text(encoding="utf-8").splitlines()
        return Counter(f"{how} {point}" for _, how, point, _ in (line.split("\t") for line in lines))

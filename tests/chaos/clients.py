"""The apps: they queue jobs in every way there is, and disturb some of them while they run."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from google.api_core.exceptions import GoogleAPIError

from daemon.core.errors import StoreUnavailable
from daemon.core.job import SERVER_TIME, TERMINAL, Changes, Collection, JobId, Refusal, Why
from daemon.core.request import Submission
from daemon.core.submission import submit
from tests.chaos.plan import Plan
from tests.chaos.points import POISON
from tests.chaos.sites import Site

Answer = TypeVar("Answer")

ACTS = ("cancel", "fail", "rewrite", "delete", "requeue")
LOOK_AGAIN = 0.3  # seconds until a client looks again whether its job has come so far
TRIES = 20
LOOKS = 100  # so often at most, before it acts anyway


@dataclass(slots=True, kw_only=True)
class Job:
    """What its client knows of a job."""

    id: JobId
    request: Mapping[str, Any]
    act: str | None = None
    acted: bool = False
    poison: bool = False

    @property
    def may_end(self) -> tuple[str, ...]:
        """The states in which it may end."""
        if self.poison:
            return ("failed",)
        if not self.acted:
            return ("completed",)
        return {"cancel": ("cancelled", "completed"), "fail": ("failed",), "delete": ("absent",)}.get(
            self.act or "", ("completed",)
        )


@dataclass(order=True)
class _Due:
    at: float  # monotonic
    number: int
    job: Job = field(compare=False)
    looks: int = field(compare=False, default=0)


def surely(call: Callable[[], Answer]) -> Answer:
    """What an app's library does when a call fails: again. The emulator fails one client's call for another's end."""
    for _ in range(TRIES):
        try:
            return call()
        except (StoreUnavailable, GoogleAPIError):
            time.sleep(0.1)
    return call()


class Clients:
    """Queues the jobs of a plan one by one; ``act`` does what is due. One thread uses it."""

    def __init__(self, plan: Plan, site: Site) -> None:
        self._plan = plan
        self._site = site
        self._random = random.Random(plan.seed)
        self._due: list[_Due] = []
        self.jobs: dict[JobId, Job] = {}

    @property
    def waiting(self) -> bool:
        """Whether something is still to be done to a job."""
        return bool(self._due)

    def queue(self) -> None:
        """Queue one more job, in one of the four ways."""
        number = len(self.jobs)
        job = self._made(number)
        self.jobs[job.id] = job
        way = number % 4
        if way < 3:
            first = job.request if way < 2 else {"prompt": job.request["prompt"]}
            self._set(job, first)
        if way != 1:  # its client only writes documents
            self._call(job)
        if job.act is not None:
            heapq.heappush(self._due, _Due(time.monotonic() + self._random.uniform(0.0, 2.0), number, job))

    def act(self) -> None:
        """Do to jobs what their clients mean to do by now."""
        while self._due and self._due[0].at <= time.monotonic():
            due = heapq.heappop(self._due)
            job = due.job.id
            status = (surely(lambda: self._site.store.read(job)).fields or {}).get("status")  # noqa: B023 - used at once
            wanted = TERMINAL if due.job.act == "requeue" else ("processing",)
            patient = due.job.act == "requeue" or due.number % 3  # every third acts at any time
            if patient and status not in (*wanted, *TERMINAL) and due.looks < LOOKS:
                heapq.heappush(self._due, _Due(time.monotonic() + LOOK_AGAIN, due.number, due.job, due.looks + 1))
                continue
            self._disturb(due.job)

    def _made(self, number: int) -> Job:
        plan, chance = self._plan, self._random
        collection = Collection.VIDEOS if number % 12 == 5 and not plan.poison else Collection.IMAGES
        poison = plan.poison and number == plan.jobs // 2
        request: dict[str, Any] = {
            "prompt": f"{POISON if poison else 'job'} {number} of {plan.seed}",
            "num_inference_steps": chance.choice((10, 10, 15)),
        }
        if collection is Collection.VIDEOS:
            request |= {"num_frames": 16, "fps": 8, "video_width": 256, "video_height": 256}
        else:
            request |= {"width": 256, "height": 256, "num_images_per_prompt": chance.choice((1, 1, 1, 2, 4))}
        job = JobId(user_id=f"user{number % 5}", collection=collection, file_uid=f"job{number}")
        act = chance.choice(ACTS) if chance.random() < plan.acts else None
        return Job(id=job, request=request, act=act, poison=poison)

    def _set(self, job: Job, fields: Mapping[str, Any]) -> None:
        document = {**fields, "status": "queued", "created_at": SERVER_TIME, "mine": "stays"}
        surely(lambda: self._site.client.set(job.id.path, document))

    def _call(self, job: Job) -> None:
        ids = {"user_id": job.id.user_id, "file_uid": job.id.file_uid, "use_cloud_storage": True}
        values = Submission.parse({**job.request, **ids}, max_prompt_characters=1000).values
        surely(lambda: self._site.store.update(job.id, partial(submit, values=values)))

    def _disturb(self, job: Job) -> None:
        job.acted = True
        match job.act:
            case "cancel":
                self._merge(job, cancel_requested=True)
            case "fail":
                self._merge(job, status="failed", error=True, error_message="the call was refused")
            case "rewrite":
                job.request = {**job.request, "prompt": f"{job.request['prompt']}, rewritten"}
                self._set(job, job.request)
            case "delete":
                surely(lambda: self._site.client.delete(job.id.path))
            case "requeue":
                self._merge(job, status="queued")

    def _merge(self, job: Job, **fields: object) -> None:
        changes = Changes(reason="client", fields=fields)
        result = surely(lambda: self._site.store.update(job.id, lambda *_: changes))
        if isinstance(result, Refusal) and result.why is not Why.ABSENT:
            raise AssertionError(f"{job.id}: {result}")

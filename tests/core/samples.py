"""One document in a store of its own, and what a worker serves: the bench of every test of the core."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from daemon.core import lifecycle, submission
from daemon.core.errors import JobError
from daemon.core.job import Changes, Collection, Decide, Document, JobId, Refusal, Why, apply
from daemon.core.policy import Outcome, Policy, Progress, Ticket
from daemon.core.request import Submission
from models.spec import Family, ModelSpec, Range, Task

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
IMAGE = JobId(user_id="ada", collection=Collection.IMAGES, file_uid="picture")
VIDEO = JobId(user_id="ada", collection=Collection.VIDEOS, file_uid="clip")
PAINTER = ModelSpec(name="painter", task=Task.TEXT2IMAGE, family=Family.SDXL)
FILMER = ModelSpec(
    name="filmer",
    task=Task.TEXT2VIDEO,
    family=Family.WAN,
    width=Range(minimum=128, maximum=832),
    height=Range(minimum=160, maximum=640),
    guidance=Range(minimum=1.0, maximum=9.0),
)
POLICY = Policy(
    models={"painter": PAINTER, "filmer": FILMER},
    defaults={Task.TEXT2IMAGE: "painter", Task.TEXT2VIDEO: "filmer"},
)
CALL = {"prompt": "a cat", "user_id": "ada", "file_uid": "picture", "use_cloud_storage": True}
BROKEN = JobError("The pipeline broke", error_type="RuntimeError")


def outcome(job: JobId = IMAGE, *, seed: int = 42, count: int = 1) -> Outcome:
    """What a worker hands over at the end."""
    if job.collection is Collection.IMAGES:
        return Outcome(
            addresses=[f"https://h/{n}.png" for n in range(count)], generations=list(range(count)), seed=seed
        )
    info = {"frames": 16, "fps": 8, "duration_seconds": 2.0, "width": 512, "height": 512}
    return Outcome(addresses=["https://h/0.mp4"], generations=[7], seed=seed, video_info=info)


class Paper:
    """One document, its version and the store's clock; the methods are what everybody does to it."""

    def __init__(self, fields: Mapping[str, Any] | None = None, *, job: JobId = IMAGE) -> None:
        self.job = job
        self.now = NOW
        self.version = 0
        self.updated_at = NOW
        self.fields: dict[str, Any] | None = None
        if fields is not None:
            self.set(**fields)

    @property
    def document(self) -> Document:
        return Document(
            id=self.job, fields=self.fields, version=self.version, updated_at=self.updated_at, read_at=self.now
        )

    def __getitem__(self, name: str) -> Any:
        return (self.fields or {})[name]

    def __contains__(self, name: str) -> bool:
        return name in (self.fields or {})

    @property
    def ours(self) -> Mapping[str, Any]:
        """The map ``easeld``."""
        found: Mapping[str, Any] = self["easeld"]
        return found

    def wait(self, seconds: float) -> Paper:
        self.now += timedelta(seconds=seconds)
        return self

    def decide(self, decide: Decide, *, seen: Document | None = None) -> Changes | Refusal:
        """Write as a store does: decide on what was seen, and again on what is there where that has moved on."""
        decided = decide(seen or self.document, self.now)
        if isinstance(decided, Changes) and seen is not None and seen.version != self.version:
            decided = decide(self.document, self.now)
        if isinstance(decided, Changes):
            assert decided.create == (self.fields is None)
            self._commit(apply(self.fields, decided, self.now))
        return decided

    def _commit(self, fields: dict[str, Any] | None) -> None:
        self.fields = fields
        self.version += 1
        self.updated_at = self.now

    # The client's

    def set(self, **fields: Any) -> Paper:
        """``setDoc`` without merge: whatever was there is gone."""
        self._commit(dict(fields))
        return self

    def update(self, **fields: Any) -> Paper:
        self._commit({**(self.fields or {}), **fields})
        return self

    def delete(self) -> Paper:
        self._commit(None)
        return self

    def client_fails(self) -> Paper:
        """Exactly the three fields that a client writes when its call was refused."""
        return self.update(status="failed", error=True, error_message="the endpoint did not answer")

    def call(self, **fields: Any) -> Changes | Refusal:
        """Call the endpoint."""
        wanted = Submission.parse(CALL | fields, max_prompt_characters=1000)
        return self.decide(lambda document, now: submission.submit(document, now, values=wanted.values))

    # The worker's, the rescue's, the operator's

    def take(self, claim: str = "t1", *, policy: Policy = POLICY, seed: int = 42) -> Changes | Refusal:
        ticket = Ticket(worker="w1", token=claim, seed=seed)
        return self.decide(lambda document, now: lifecycle.take(document, now, policy=policy, ticket=ticket))

    def reclaim(
        self, claim: str = "t1", new: str = "t2", *, policy: Policy = POLICY, seed: int = 43
    ) -> Changes | Refusal:
        ticket = Ticket(worker="w1", token=new, seed=seed)
        return self.decide(
            lambda document, now: lifecycle.reclaim(document, now, token=claim, policy=policy, ticket=ticket)
        )

    def renew(self, claim: str = "t1", *, started: bool = False, progress: Progress | None = None) -> Changes | Refusal:
        return self.decide(
            lambda document, now: lifecycle.renew(document, now, token=claim, started=started, progress=progress)
        )

    def complete(self, claim: str = "t1", *, made: Outcome | None = None) -> Changes | Refusal:
        made = made or outcome(self.job)
        return self.decide(lambda document, now: lifecycle.complete(document, now, token=claim, outcome=made))

    def fail(self, claim: str = "t1", *, error: JobError = BROKEN) -> Changes | Refusal:
        return self.decide(lambda document, now: lifecycle.fail(document, now, token=claim, error=error))

    def retry(
        self, claim: str = "t1", *, error: JobError = BROKEN, delay: float = 5.0, maximum: int = 3
    ) -> Changes | Refusal:
        return self.decide(
            lambda document, now: lifecycle.retry(
                document, now, token=claim, error=error, delay=timedelta(seconds=delay), max_attempts=maximum
            )
        )

    def release(self, claim: str = "t1") -> Changes | Refusal:
        return self.decide(lambda document, now: lifecycle.release(document, now, token=claim))

    def cancel(self, claim: str | None = None) -> Changes | Refusal:
        return self.decide(lambda document, now: lifecycle.cancel(document, now, token=claim))

    def expire(self, *, maximum: int = 3, expiries: int = 20) -> Changes | Refusal:
        return self.decide(
            lambda document, now: lifecycle.expire(document, now, max_attempts=maximum, max_expiries=expiries)
        )

    def stop(self) -> Changes | Refusal:
        return self.decide(lifecycle.stop)

    def requeue(self) -> Changes | Refusal:
        return self.decide(lifecycle.requeue)


def queued(*, job: JobId = IMAGE, **fields: Any) -> Paper:
    """A document as its client writes it, past settling."""
    return Paper({"status": "queued", "prompt": "a cat", "created_at": NOW, **fields}, job=job).wait(5)


def claimed(*, job: JobId = IMAGE, claim: str = "t1", **fields: Any) -> Paper:
    """A document that a worker holds."""
    paper = queued(job=job, **fields)
    assert isinstance(paper.take(claim), Changes)
    return paper


def started(*, job: JobId = IMAGE, claim: str = "t1", **fields: Any) -> Paper:
    """A document whose generation has begun."""
    paper = claimed(job=job, claim=claim, **fields)
    assert isinstance(paper.renew(claim, started=True), Changes)
    return paper


def reason(decided: Changes | Refusal) -> str:
    """The name of the transition that was decided."""
    assert isinstance(decided, Changes), decided
    return decided.reason


def why(decided: Changes | Refusal) -> Why:
    """Why nothing was written."""
    assert isinstance(decided, Refusal), decided
    return decided.why

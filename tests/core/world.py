"""A small world for the state machine: documents, a bucket, and a ledger of what may be written, kept by other means.

The ledger knows only what was done to a document, never our map on it: it is the judge of what the core decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from daemon.core import lifecycle
from daemon.core.errors import LeaseLost, Rejected
from daemon.core.job import Changes, Collection, Decide, Document, JobId, Refusal
from daemon.core.objects import (
    ContentType,
    Mark,
    Placement,
    Present,
    StoredObject,
    is_orphan,
    object_names,
    place,
)
from daemon.core.policy import Ticket
from daemon.core.record import Record
from tests.core.samples import IMAGE, POLICY, VIDEO, Paper, outcome

NEIGHBOUR = JobId(
    user_id="ada", collection=Collection.IMAGES, file_uid="picture_1"
)  # shares a name with IMAGE's second
JOBS = (IMAGE, NEIGHBOUR, VIDEO)
ENDED = ("completed", "failed", "cancelled")
ENDINGS = ("job.completed", "job.failed", "job.cancelled")
HOLDERS = ("job.renewed", "job.reclaimed", "job.completed", "job.retried", "job.released")
MAX_ATTEMPTS = 3
PREFIX = "generating"


@dataclass(slots=True, kw_only=True, eq=False)
class Claim:
    """What one worker believes: a token, the document as it last saw it, and what it has put into the bucket."""

    job: JobId
    token: str
    claimed: int
    seen: Document
    seeds: tuple[int, ...]
    looked: dict[str, StoredObject | None] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return object_names(self.job, len(self.seeds), prefix=PREFIX)

    @property
    def mark(self) -> Mark:
        return Mark(document=self.job.path, token=self.token, attempt=1, claimed=self.claimed)


class Watched(Paper):
    """A document whose every write is judged."""

    def __init__(self, job: JobId) -> None:
        super().__init__(job=job)
        self.owner: str | None = None  # the token of the one claim that may write
        self.ended = 0  # terminal writes of ours since the document was last queued
        self.fresh = True  # it was queued in a new life and not claimed since

    def _commit(self, fields: dict[str, Any] | None) -> None:
        if fields is None or fields.get("status") != "processing" or "easeld" not in fields:
            self.owner = None
        super()._commit(fields)

    def client_queues(self, **fields: Any) -> None:
        self.ended = 0
        self.fresh = self.fresh or self["status"] != "queued"
        self.update(status="queued", **fields)

    def client_writes_anew(self, **fields: Any) -> None:
        self.ended = 0
        self.fresh = True
        self.set(status="queued", prompt="a cat", created_at=self.now, **fields)

    def write(self, decide: Decide, *, actor: str | None = None, seen: Document | None = None) -> Changes | Refusal:
        """Decide and commit as a store does, and judge what came of it."""
        before, owner, version = self.fields, self.owner, self.version
        decided = self.decide(decide, seen=seen)
        if isinstance(decided, Refusal):
            assert self.version == version, "a refusal wrote something"
            return decided
        if before is not None and before.get("status") in ENDED:
            assert decided.reason in ("job.resubmitted", "job.requeued"), f"{decided.reason} after the end"
        if actor is not None:
            assert actor == owner, f"{decided.reason} by a late writer"
        elif decided.reason in HOLDERS and decided.reason != "job.completed":
            raise AssertionError(f"{decided.reason} by nobody")
        if decided.reason == "job.completed":
            assert before is not None
            assert before.get("cancel_requested") is not True, "completed what its client had cancelled"
        if decided.reason in ENDINGS:
            self.ended += 1
            assert self.ended == 1, "ended twice in one life"
            self._check_end()
        if self["status"] == "queued":
            if before is None or before.get("status") in ENDED:
                self.ended = 0
                self.fresh = True
            if decided.reason != "job.submitted":
                assert self.fields is not None
                assert self.fields.get("error", False) is False, "a waiting job shows an error"
                assert "error_message" not in self
        return decided

    def _check_end(self) -> None:
        left = {"lease", "attempts", "not_before", "crashes", "expiries"} & set(self.ours)
        assert not left, f"left behind: {left}"
        assert not {"progress", "cancel_requested"} & set(self.fields or {})
        assert self.ours["finishes"] == 1
        assert self["generated"] is (self["status"] == "completed")
        assert self["error"] is (self["status"] == "failed")
        assert ("error_message" in self) is (self["status"] == "failed")
        assert ("images" in self) is (self["status"] == "completed" and self.job.collection is Collection.IMAGES)
        assert ("videos" in self) is (self["status"] == "completed" and self.job.collection is Collection.VIDEOS)


class World:
    """All documents, the bucket, and what workers do to both. Tokens are never used twice."""

    def __init__(self) -> None:
        self.papers = {job: Watched(job) for job in JOBS}
        self.bucket: dict[str, StoredObject] = {}
        self._tokens = (f"token-{number}" for number in itertools.count())
        self._seeds = itertools.count(1000, 10)
        self._generations = itertools.count(1)

    def wait(self, seconds: float) -> None:
        for paper in self.papers.values():
            paper.wait(seconds)

    def take(self, seen: Document) -> Claim | None:
        """Claim from a snapshot, however old; gives up where the document has moved on."""
        paper = self.papers[seen.id]
        ticket = Ticket(worker="w", token=next(self._tokens), seed=next(self._seeds))
        if isinstance(lifecycle.take(seen, paper.now, policy=POLICY, ticket=ticket), Refusal):
            return None
        if seen.version != paper.version:
            return None
        decided = paper.write(lambda document, now: lifecycle.take(document, now, policy=POLICY, ticket=ticket))
        return self._claimed(paper, decided, ticket)

    def _claimed(self, paper: Watched, decided: Changes | Refusal, ticket: Ticket) -> Claim | None:
        if isinstance(decided, Refusal) or decided.reason not in ("job.claimed", "job.reclaimed"):
            return None
        assert paper["status"] == "processing"
        paper.owner = ticket.token
        record = Record.of(paper.fields or {})
        assert record.attempts < MAX_ATTEMPTS, "an attempt too many"
        if paper.fresh:
            assert (record.attempts, record.crashes, record.expiries) == (0, 0, 0), "a new life with an old one's count"
        paper.fresh = False
        return Claim(job=paper.job, token=ticket.token, claimed=paper.version, seen=paper.document, seeds=record.seeds)

    def reclaim(self, claim: Claim) -> Claim | None:
        paper = self.papers[claim.job]
        ticket = Ticket(worker="w", token=next(self._tokens), seed=next(self._seeds))
        decided = paper.write(
            lambda document, now: lifecycle.reclaim(document, now, token=claim.token, policy=POLICY, ticket=ticket),
            actor=claim.token,
            seen=claim.seen,
        )
        return self._claimed(paper, decided, ticket)

    def by(self, claim: Claim, decide: Callable[..., Changes | Refusal], **arguments: Any) -> Changes | Refusal:
        """A write of a claim, decided on what it last saw; what it writes it has seen."""
        paper = self.papers[claim.job]
        decided = paper.write(
            lambda document, now: decide(document, now, token=claim.token, **arguments),
            actor=claim.token,
            seen=claim.seen,
        )
        claim.seen = paper.document
        return decided

    def expire(self, seen: Document, *, max_expiries: int = 20) -> Changes | Refusal:
        return self.papers[seen.id].write(
            lambda found, now: lifecycle.expire(found, now, max_attempts=MAX_ATTEMPTS, max_expiries=max_expiries),
            seen=seen,
        )

    # The bucket

    def look(self, claim: Claim, name: str) -> None:
        claim.looked[name] = self.bucket.get(name)

    def put(self, claim: Claim, name: str) -> None:
        """Put an object as the claim decides from its last look, however old."""
        checksum = f"crc of {claim.seeds}"
        try:
            placement = place(
                claim.looked[name], mark=claim.mark, crc32c=checksum, content_type=ContentType.PNG, may_adopt=False
            )
        except LeaseLost:
            return
        except Rejected as exc:
            self.by(claim, lifecycle.fail, error=exc)
            return
        if isinstance(placement, Present):
            claim.written[name] = placement.generation
            return
        generation = self._put(name, placement)
        if generation is not None:
            claim.written[name] = generation

    def _put(self, name: str, placement: Placement) -> int | None:
        present = self.bucket.get(name)
        if (present.generation if present else 0) != placement.generation:
            return None
        generation = next(self._generations)
        self.bucket[name] = StoredObject(
            name=name,
            generation=generation,
            crc32c=placement.crc32c,
            size=1,
            metadata=placement.mark.metadata(),
        )
        return generation

    def complete(self, claim: Claim) -> Changes | Refusal | None:
        """The terminal write, where everything was put."""
        if set(claim.written) != set(claim.names):
            return None
        made = outcome(claim.job, seed=claim.seeds[0], count=len(claim.seeds))
        made = type(made)(
            addresses=claim.names,
            generations=[claim.written[name] for name in claim.names],
            seed=claim.seeds[0],
            video_info=made.video_info,
        )
        return self.by(claim, lifecycle.complete, outcome=made)

    def finish(self, claim: Claim) -> None:
        """Everything from the beginning of generation to the end, undisturbed."""
        self.by(claim, lifecycle.renew, started=True)
        for name in claim.names:
            self.look(claim, name)
            self.put(claim, name)
        self.complete(claim)

    def listing(self) -> list[StoredObject]:
        return list(self.bucket.values())

    def orphans(self, listed: list[StoredObject]) -> list[StoredObject]:
        """Of what was listed before, what a fresh read of its document does not own."""
        found = []
        for item in listed:
            mark = Mark.read(item.metadata)
            job = JobId.parse(mark.document) if mark else None
            if mark and job and is_orphan(mark, self.papers[job].fields):
                found.append(item)
        return found

    def delete(self, items: list[StoredObject]) -> None:
        for item in items:
            present = self.bucket.get(item.name)
            if present is not None and present.generation == item.generation:
                del self.bucket[item.name]

    # What must always hold

    def check(self) -> None:
        for paper in self.papers.values():
            if paper.fields is None:
                continue
            record = Record.of(paper.fields)
            assert record.attempts <= MAX_ATTEMPTS
            assert record.finishes <= 1
            if paper["status"] == "processing":
                assert paper.owner is None or (record.lease is not None and record.lease.token == paper.owner)
            if paper["status"] == "completed":
                self._check_media(paper, paper.ours["result"])

    def _check_media(self, paper: Watched, result: dict[str, Any]) -> None:
        names = paper["images" if paper.job.collection is Collection.IMAGES else "videos"]
        assert len(names) == len(result["generations"]) > 0
        for name, generation in zip(names, result["generations"], strict=True):
            found = self.bucket.get(name)
            assert found is not None, f"{name} is gone"
            assert found.generation == generation, f"{name} was replaced"
            mark = Mark.read(found.metadata)
            assert mark is not None
            assert (mark.document, mark.token) == (paper.job.path, result["token"])

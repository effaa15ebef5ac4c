"""Clients, workers, rescuers and operators do whatever they like to a few documents, in any order, at any time.

Workers hold stale snapshots and go on after their lease was given away; they look at the bucket and write to it much
later; they vanish. The ledger in ``world`` judges every write, and in the end every job must come to its end.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from daemon.core import lifecycle, submission
from daemon.core.errors import JobError, Rejected, Retryable
from daemon.core.job import Collection, Decide, Document, JobId
from daemon.core.objects import StoredObject
from daemon.core.request import Submission
from tests.core.samples import CALL
from tests.core.world import ENDED, JOBS, MAX_ATTEMPTS, Claim, World

EXAMPLES = int(os.environ.get("EASELD_LIVES", "150"))

jobs = st.sampled_from(JOBS)
waits = st.sampled_from([0.5, 2.5, 16.0, 59.0, 61.0, 400.0])
parameters = st.fixed_dictionaries(
    {},
    optional={
        "width": st.sampled_from([256, 512]),
        "num_images_per_prompt": st.sampled_from([1, 2]),
        "seed": st.sampled_from([5, 1000]),
    },
)
errors: st.SearchStrategy[JobError] = st.sampled_from([Retryable("away"), Rejected("no"), JobError("broken")])


class Lives(RuleBasedStateMachine):
    """Each rule is one thing that somebody does."""

    seen: Bundle[Document] = Bundle("seen")
    claims: Bundle[Claim] = Bundle("claims")
    listings: Bundle[list[StoredObject]] = Bundle("listings")
    orphans: Bundle[list[StoredObject]] = Bundle("orphans")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(fields=parameters)
    def everybody_calls(self, fields: dict[str, Any]) -> None:
        for job in JOBS:
            self._call(job, fields)

    @rule(seconds=waits)
    def time_passes(self, seconds: float) -> None:
        self.world.wait(seconds)

    # Clients

    @rule(job=jobs, fields=parameters, how=st.sampled_from(["anew", "call", "call", "queue", "change"]))
    def client_asks(self, job: JobId, fields: dict[str, Any], how: str) -> None:
        """Writes the document anew, calls, queues it again by update, or changes its request and metadata."""
        paper = self.world.papers[job]
        if how == "call":
            self._call(job, fields)
        elif paper.fields is None or how == "anew":
            paper.client_writes_anew(**fields)
        elif how == "queue":
            paper.client_queues(**fields)
        else:
            paper.update(mood="sunny", **fields)

    @rule(job=jobs, how=st.sampled_from(["cancel", "cancel", "think better of it", "fail", "delete"]))
    def client_gives_up(self, job: JobId, how: str) -> None:
        paper = self.world.papers[job]
        if how == "delete":
            paper.delete()
        elif paper.fields is None:
            return
        elif how == "fail":
            paper.client_fails()
        else:
            paper.update(cancel_requested=how == "cancel")

    def _call(self, job: JobId, fields: dict[str, Any]) -> None:
        wanted = Submission.parse(CALL | {"file_uid": job.file_uid} | fields, max_prompt_characters=100)
        self.world.papers[job].write(lambda document, now: submission.submit(document, now, values=wanted.values))

    # The operator, and the rescue of any worker

    @rule(job=jobs, decide=st.sampled_from([lifecycle.stop, lifecycle.requeue, lifecycle.requeue, lifecycle.cancel]))
    def somebody_stops_queues_or_cancels(self, job: JobId, decide: Decide) -> None:
        self.world.papers[job].write(decide)

    @rule(document=seen, maximum=st.sampled_from([3, 20]))
    def somebody_rescues_what_it_saw(self, document: Document, maximum: int) -> None:
        self.world.expire(document, max_expiries=maximum)

    @rule(target=claims, job=jobs)
    def a_lease_ends_and_another_worker_claims(self, job: JobId) -> Any:
        self.world.wait(61)
        self.world.expire(self.world.papers[job].document)
        return self.world.take(self.world.papers[job].document) or multiple()

    @rule(job=jobs, times=st.integers(1, 4))
    def workers_die_in_generation(self, job: JobId, times: int) -> None:
        for _ in range(times):
            claim = self.world.take(self.world.papers[job].document)
            if claim is not None:
                self.world.by(claim, lifecycle.renew, started=True)
            self.world.wait(61)
            self.world.expire(self.world.papers[job].document)

    @rule(claim=claims)
    def client_cancels_as_the_worker_finishes(self, claim: Claim) -> None:
        for name in claim.names:
            self.world.look(claim, name)
            self.world.put(claim, name)
        if self.world.papers[claim.job].fields is not None:
            self.world.papers[claim.job].update(cancel_requested=True)
        self.world.complete(claim)

    # Workers

    @rule(target=seen, job=jobs)
    def somebody_reads(self, job: JobId) -> Document:
        return self.world.papers[job].document

    @rule(target=claims, document=seen)
    def worker_claims_what_it_saw(self, document: Document) -> Any:
        return self.world.take(document) or multiple()

    @rule(target=claims, job=jobs)
    def worker_claims(self, job: JobId) -> Any:
        self.world.wait(2)
        return self.world.take(self.world.papers[job].document) or multiple()

    @rule(claim=claims, started=st.booleans())
    def worker_renews(self, claim: Claim, started: bool) -> None:
        self.world.by(claim, lifecycle.renew, started=started)

    @rule(target=claims, claim=claims)
    def worker_starts_over(self, claim: Claim) -> Any:
        return self.world.reclaim(claim) or multiple()

    @rule(claim=claims, error=errors, how=st.sampled_from(["fail", "retry", "release", "cancel"]))
    def worker_ends_it_without_a_result(self, claim: Claim, error: JobError, how: str) -> None:
        if how == "fail":
            self.world.by(claim, lifecycle.fail, error=error)
        elif how == "retry":
            self.world.by(claim, lifecycle.retry, error=error, delay=timedelta(seconds=1), max_attempts=MAX_ATTEMPTS)
        else:
            self.world.by(claim, lifecycle.release if how == "release" else lifecycle.cancel)

    @rule(claim=claims)
    def worker_looks_at_the_bucket(self, claim: Claim) -> None:
        for name in claim.names:
            self.world.look(claim, name)

    @rule(claim=claims)
    def worker_puts_what_it_made(self, claim: Claim) -> None:
        for name in claim.names:
            if name in claim.looked:
                self.world.put(claim, name)

    @rule(claim=claims)
    def worker_completes(self, claim: Claim) -> None:
        self.world.complete(claim)

    @rule(claim=claims)
    def worker_does_all_the_rest(self, claim: Claim) -> None:
        self.world.finish(claim)

    @rule(claim=claims)
    def worker_finishes_while_it_starts_over(self, claim: Claim) -> None:
        """A worker whose request was changed finishes what is wanted now."""
        again = self.world.reclaim(claim)
        if again is not None:
            self.world.finish(again)
            self.world.finish(claim)

    # Cleaning, in three steps with anything between them

    @rule(target=listings)
    def cleaner_lists(self) -> list[StoredObject]:
        return self.world.listing()

    @rule(target=orphans, listing=consumes(listings))
    def cleaner_reads_the_documents(self, listing: list[StoredObject]) -> list[StoredObject]:
        return self.world.orphans(listing)

    @rule(items=consumes(orphans))
    def cleaner_deletes(self, items: list[StoredObject]) -> None:
        self.world.delete(items)

    # What holds

    @invariant()
    def nothing_is_broken(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        """Every job comes to its end with one honest worker, and no orphan is left after a sweep."""
        for job in JOBS:
            self._bring_to_its_end(job)
        self.world.delete(self.world.orphans(self.world.listing()))
        assert not self.world.orphans(self.world.listing())
        self.world.check()

    def _bring_to_its_end(self, job: JobId) -> None:
        paper = self.world.papers[job]
        for _ in range(4):
            if paper.fields is None or paper["status"] in ENDED:
                return
            self.world.wait(61)
            self.world.expire(paper.document)
            claim = self.world.take(paper.document)
            if claim is not None:
                self.world.finish(claim)
        raise AssertionError(f"a {job.collection.removesuffix('s')} was lost: {paper.fields}")


@pytest.mark.usefixtures("uncounted")
def test_no_order_of_events_breaks_a_life() -> None:
    """One end in a life, one owner at a time, no attempt too many, late writers write nothing, files stay true."""
    assert {job.collection for job in JOBS} == set(Collection)
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize="CI" in os.environ,
        ),
    )

"""How little a claim asks of the store, and a first upload of the bucket."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from threading import Barrier, Event
from typing import Any

import pytest

from daemon import claiming, settings
from daemon.claiming import Claimer
from daemon.compose import policy
from daemon.core import lifecycle
from daemon.core.errors import StoreUnavailable
from daemon.core.job import Collection, Decide, Document, JobId, Refusal
from daemon.core.policy import Ticket
from daemon.core.record import holder
from models.catalog import BUILTIN
from tests.daemon.rig import Rig, until

BATCH = 4

Claims = Sequence[tuple[Document, Decide]]


class Counted:
    """A store or a bucket that counts what it is asked, and lets a test have a word in every claim."""

    def __init__(self, it: Any) -> None:
        self._it = it
        self.calls: Counter[str] = Counter()
        self.claims = 0
        self.in_claim: Callable[[], object] = lambda: None
        self.before_together: Callable[[], object] = lambda: None
        self.together: Callable[[Claims], list[Document | Refusal] | None] | None = None

    def claim_together(self, claims: Claims) -> list[Document | Refusal] | None:
        self.calls["claim_together"] += 1
        self.before_together()
        return (self.together or self._it.claim_together)(claims)

    def claim(self, document: Document, decide: Decide) -> Document | Refusal:
        self.claims += 1
        self.in_claim()
        result: Document | Refusal = self._it.claim(document, decide)
        return result

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._it, name)


@pytest.fixture(name="store")
def _store(rig: Rig) -> Counted:
    return Counted(rig.store)


@pytest.fixture(name="news")
def _news() -> list[Document]:
    """What the listener has heard of."""
    return []


@pytest.fixture(name="claimer")
def _claimer(store: Counted, news: list[Document]) -> Claimer:
    def heard() -> list[Document]:
        told = news.copy()
        news.clear()
        return told

    return Claimer(
        store,
        policy(settings.load(), BUILTIN),
        worker="w",
        collections=[Collection.IMAGES],
        listener_alive=lambda: True,
        news=heard,
        ended=lambda _: None,
        max_batch=BATCH,
    )


def names(claimer: Claimer) -> set[str]:
    """The jobs of the next batch."""
    return {held.id.file_uid for held in claimer.next(Event())}


def test_the_jobs_of_a_batch_are_claimed_in_one_call(rig: Rig, store: Counted, claimer: Claimer) -> None:
    """And each is a claim of its own afterwards, with a token of its own."""
    called = {rig.call(str(number)).file_uid for number in range(BATCH)}
    batch = claimer.next(Event())
    assert {held.id.file_uid for held in batch} == called
    assert (store.calls["claim_together"], store.claims) == (1, 0)
    assert len({held.token for held in batch}) == BATCH
    for held in batch:
        assert (found := rig.store.read(held.id)).version == held.document.version
        assert (lease := holder(found.fields)) is not None
        assert lease.token == held.token


def test_where_one_of_a_batch_has_changed_the_others_are_claimed(rig: Rig, store: Counted, claimer: Claimer) -> None:
    """And the one is claimed later, as it is then."""
    first, *others = [rig.call(str(number)) for number in range(BATCH)]
    store.before_together = lambda: rig.merge(first, prompt="another")
    assert names(claimer) == {job.file_uid for job in others}
    store.before_together = lambda: None
    assert names(claimer) == {first.file_uid}


def test_a_worker_is_behind_while_more_waits_than_it_looks_at(rig: Rig, claimer: Claimer) -> None:
    """From a full window on, until half of one is left: then it listens again."""
    for number in range(claiming.WINDOW - 1):
        rig.call(f"{number:02}")
    assert names(claimer)
    assert not claimer.behind
    for number in range(BATCH + 1):
        rig.call(f"more-{number}")
    left = claiming.WINDOW
    while left > claiming.BEHIND:
        claimer._left = []  # it looks anew each time
        left -= len(names(claimer))
        assert claimer.behind
    claimer._left = []
    assert names(claimer)
    assert not claimer.behind


def test_a_long_queue_of_which_nothing_can_be_claimed_leaves_a_worker_listening(rig: Rig, claimer: Claimer) -> None:
    """What it waits for is still to come."""
    for number in range(claiming.WINDOW):
        rig.merge(rig.call(f"{number:02}"), easeld={"not_before": rig.store.now() + timedelta(hours=1)})
    claimer._pass()
    assert not claimer.behind
    called = rig.call("claimable")
    assert names(claimer) == {called.file_uid}
    assert not claimer.behind


def test_what_cannot_be_claimed_together_is_at_the_same_time(rig: Rig, store: Counted, claimer: Claimer) -> None:
    """Each claim waits here for the three others: one after another, none would ever be done."""
    called = {rig.call(str(number)).file_uid for number in range(BATCH)}
    store.together = lambda _: None
    store.in_claim = partial(Barrier(BATCH).wait, 10.0)
    assert names(claimer) == called


def test_a_batch_whose_claim_went_through_unheard_is_ours(rig: Rig, store: Counted, claimer: Claimer) -> None:
    """The answer is lost, and one by one the documents are found to bear the tokens of that claim."""
    called = {rig.call(str(number)).file_uid for number in range(BATCH)}
    went_through = list[object]()
    store.together = lambda claims: went_through.append(rig.store.claim_together(claims))
    assert names(claimer) == called
    assert len(went_through) == 1


def test_a_batch_of_which_nothing_was_heard_is_found_as_one(rig: Rig, store: Counted, claimer: Claimer) -> None:
    """The commit succeeded and the call failed: the jobs are ours, together, and their leases began with the call."""
    called = {rig.call(str(number)).file_uid for number in range(BATCH)}

    def away(claims: Claims) -> None:
        rig.store.claim_together(claims)
        store.together = None
        raise StoreUnavailable("away for a moment")

    store.together = away
    began = time.monotonic()
    batch = claimer.next(Event())
    assert {held.id.file_uid for held in batch} == called
    assert [held.mark.attempt for held in batch] == [1] * BATCH
    assert all(began <= held.renewed_at <= held.claimed_at - claiming.POLL_ALONE / 2 for held in batch)


def test_a_claim_that_is_looked_for_in_vain_is_found_later(
    rig: Rig, store: Counted, claimer: Claimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers are lost, so that the claims look lost, and the store is away when we look whether they are."""
    called = {rig.call(str(number)).file_uid for number in range(BATCH)}
    away, present = iter([True] * BATCH), rig.store.read

    def read(job: JobId) -> Document:
        if next(away, False):
            raise StoreUnavailable("away for a moment")
        return present(job)

    def unheard(claims: Claims) -> None:
        rig.store.claim_together(claims)

    monkeypatch.setattr(rig.store, "read", read)
    store.together = unheard
    assert names(claimer) == called


def test_one_look_at_the_queue_serves_several_batches(rig: Rig, store: Counted, claimer: Claimer) -> None:
    """Without one job being claimed twice or left out, and in the order in which they came."""
    called = [rig.call(f"{number:02}").file_uid for number in range(4 * BATCH)]
    batches = [names(claimer) for _ in range(4)]
    assert batches == [set(called[start : start + BATCH]) for start in range(0, len(called), BATCH)]
    assert store.calls["window"] == 1  # the first batch is of the sweep, which every worker begins with


def test_what_a_look_left_over_is_not_claimed_from_for_long(
    rig: Rig, store: Counted, claimer: Claimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older job may have come since, of another model's turn or after its lease: the queue is looked at again."""
    monkeypatch.setattr(claiming, "FRESH", 0.0)
    for number in range(4 * BATCH):
        rig.call(str(number))
    for _ in range(4):
        assert len(names(claimer)) == BATCH
    assert store.calls["window"] == 3


def test_a_worker_that_loses_a_claim_looks_again(rig: Rig, store: Counted, claimer: Claimer) -> None:
    """Another one is after the same jobs, and what was left over is theirs by now."""
    called = [rig.call(f"{number:02}") for number in range(6 * BATCH)]
    for _ in range(2):  # of the sweep, and of the first look
        names(claimer)
    ticket = Ticket(worker="other", token="other", seed=1)
    take = partial(lifecycle.take, policy=policy(settings.load(), BUILTIN), ticket=ticket)
    taken = called[2 * BATCH : 3 * BATCH]
    for job in taken:
        assert isinstance(rig.store.claim(rig.store.read(job), take), Document)
    assert names(claimer) == {job.file_uid for job in called[3 * BATCH : 4 * BATCH]}
    assert store.calls["window"] == 1
    assert len(names(claimer)) == BATCH
    assert store.calls["window"] == 2


def find_nothing(claimer: Claimer) -> None:
    """Let a claimer look through an empty queue."""
    stopped = Event()
    threading.Timer(0.3, stopped.set).start()
    threading.Timer(0.4, claimer.wake.set).start()
    assert claimer.next(stopped) == []


def test_an_idle_worker_claims_what_it_hears_of_without_asking(
    rig: Rig, store: Counted, claimer: Claimer, news: list[Document]
) -> None:
    """Jobs of one call together, the oldest first; what they were when it heard of them is enough for the claim."""
    find_nothing(claimer)
    jobs = [rig.call(str(number)) for number in range(BATCH)]
    news += [rig.store.read(job) for job in reversed(jobs)]
    store.calls.clear()
    assert names(claimer) == {job.file_uid for job in jobs}
    assert store.calls["window"] == store.calls["by_name"] == 0


def test_news_that_is_no_longer_true_claims_nothing(
    rig: Rig, store: Counted, claimer: Claimer, news: list[Document]
) -> None:
    """Another worker has it, or it is another version by now: that one is found in the queue itself."""
    find_nothing(claimer)
    job, other = rig.call("a"), rig.call("b")
    news += [rig.store.read(job), rig.store.read(other)]
    ticket = Ticket(worker="other", token="other", seed=1)
    take = partial(lifecycle.take, policy=policy(settings.load(), BUILTIN), ticket=ticket)
    assert isinstance(rig.store.claim(news[0], take), Document)
    rig.merge(other, prompt="a blue square")
    [held] = claimer.next(Event())
    assert (held.id, held.work.request.prompt) == (other, "a blue square")


def test_news_waits_its_turn_behind_a_queue(rig: Rig, claimer: Claimer, news: list[Document]) -> None:
    """A worker that was not idle looks at what has waited longest."""
    waiting = {rig.call(f"{number:02}").file_uid for number in range(2 * BATCH)}
    assert len(names(claimer) & waiting) == BATCH
    news.append(rig.store.read(rig.call("new")))
    assert len(names(claimer) & waiting) == BATCH
    assert names(claimer) == {"new"}


def test_the_first_claim_of_a_life_looks_for_nothing_in_the_bucket(rig: Rig) -> None:
    """The condition of its write tells that nothing was there; nothing is cleaned up behind it."""
    bucket = rig.blobs = Counted(rig.blobs)
    job = rig.call("a", num_images_per_prompt=2)
    with rig.worker():
        rig.until_status(job, "completed")
    assert bucket.calls["put"] == 2
    assert bucket.calls["look"] == bucket.calls["delete"] == 0


def test_where_something_is_in_the_way_it_is_looked_at_and_the_rest_cleaned_up(rig: Rig) -> None:
    """A document written anew has the objects of its earlier life in its bucket: one is replaced, one removed."""
    job = rig.call("a", num_images_per_prompt=2)
    with rig.worker():
        rig.until_status(job, "completed")
    bucket = rig.blobs = Counted(rig.blobs)
    rig.set_anew(job, width=256, height=256, num_inference_steps=10)
    with rig.worker(settling=0.0):
        rig.until_status(job, "completed")
        until(lambda: bucket.look("generating/u/image/a_1.png") is None, "the old object is removed")
    assert bucket.look("generating/u/image/a.png") is not None
    assert rig.fields(job)["image_count"] == 1


def test_a_job_beside_has_a_name_of_its_own(rig: Rig, claimer: Claimer) -> None:
    """A batch takes no job twice, though the sweep and the window both show it."""
    job: JobId = rig.call("only")
    assert names(claimer) == {job.file_uid}
    stopped = Event()
    threading.Timer(0.3, stopped.set).start()
    threading.Timer(0.4, claimer.wake.set).start()
    assert claimer.next(stopped) == []

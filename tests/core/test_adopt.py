"""What an operator does with the documents that another worker has left half done."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from daemon.core.job import Changes, Refusal, Why
from daemon.core.lifecycle import adopt
from tests.core.samples import Paper, claimed, queued, why

AGE = timedelta(minutes=10)


def left(**fields: Any) -> Paper:
    """A document that an older worker said it was processing, and that nobody has touched for 11 minutes."""
    return Paper().set(status="processing", prompt="x", **fields).wait(660)


def adopted(paper: Paper, *, queue: bool = False) -> Changes | Refusal:
    """The decision, written where it is one to write."""
    return paper.decide(lambda document, now: adopt(document, now, untouched=AGE, queue=queue))


def test_what_an_older_worker_left_is_failed_in_the_contracts_form() -> None:
    """Once, whatever an old life of ours says on it."""
    paper = left(easeld={"result": {"token": "t0"}, "finishes": 1}, images=["https://h/old.png"])
    assert isinstance(adopted(paper), Changes)
    assert (paper["status"], paper["error"], paper["generated"]) == ("failed", True, False)
    assert (paper["error_type"], paper["error_message"]) == ("RuntimeError", "The worker that had this job has stopped")
    assert paper.ours["finishes"] == 1
    assert "images" not in paper


def test_what_an_older_worker_left_is_queued_and_claimed_as_a_new_life() -> None:
    """With the request that stands on it."""
    paper = left(error=True, error_message="half done")
    assert isinstance(adopted(paper, queue=True), Changes)
    assert paper["status"] == "queued"
    assert "error_message" not in paper
    assert isinstance(paper.wait(5).take(), Changes)
    assert paper.ours["attempts"] == 0


@pytest.mark.parametrize("queue", [False, True])
def test_what_is_not_an_older_workers_is_left_alone(queue: bool) -> None:
    """Held by one of ours, even by a dead one; not processing; absent."""
    assert why(adopted(claimed().wait(660), queue=queue)) is Why.ALIVE
    assert why(adopted(queued().wait(660), queue=queue)) is Why.NOT_PROCESSING
    assert why(adopted(Paper(), queue=queue)) is Why.ABSENT


def test_what_was_touched_of_late_is_left_to_the_older_worker() -> None:
    """It may still be at it; the refusal says until when."""
    paper = left().update(progress_of_theirs=50).wait(599)
    refusal = adopted(paper)
    assert why(refusal) is Why.NOT_YET
    assert isinstance(refusal, Refusal)
    assert refusal.until is not None
    assert isinstance(adopted(paper.wait(1)), Changes)

"""New lives, both ways and from every state: queued again by update, and written anew; nothing of the old one stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from daemon.core.job import Changes, Why
from daemon.core.lifecycle import give_up
from tests.core.samples import VIDEO, Paper, claimed, outcome, queued, reason, started, why

RESULTS = {
    *("images", "image_url", "image_count", "videos", "video_url", "video_info", "task_type"),
    *("completed_at", "failed_at", "cancelled_at", "error_message", "error_type", "seed"),
}


def ended(end: Callable[[Paper], object], make: Callable[..., Paper] = started, **fields: Any) -> Paper:
    """A document to which ``end`` was done."""
    paper = make(**fields)
    end(paper)
    return paper


STATES: dict[str, Callable[[], Paper]] = {
    "queued": queued,
    "claimed": claimed,
    "generating": started,
    "released": lambda: ended(lambda paper: paper.release()),
    "retried": lambda: ended(lambda paper: paper.retry(delay=999)),
    "rescued": lambda: ended(lambda paper: paper.wait(61).expire()),
    "completed": lambda: ended(lambda paper: paper.complete()),
    "completed video": lambda: ended(lambda paper: paper.complete(), job=VIDEO),
    "failed": lambda: ended(lambda paper: paper.fail()),
    "cancelled": lambda: ended(lambda paper: paper.update(cancel_requested=True).cancel("t1")),
    "stopped": lambda: ended(lambda paper: paper.stop()),
    "rejected": lambda: ended(lambda paper: paper.take(), queued, width="x"),
    "given up": lambda: ended(lambda paper: paper.decide(give_up), queued),
    "failed by its client": lambda: queued().client_fails(),
    "failed by its client while generating": lambda: started().client_fails(),
    "failed by its client while waiting": lambda: ended(lambda paper: (paper.retry(), paper.client_fails())),
    "failed by its client after completion": lambda: ended(lambda paper: (paper.complete(), paper.client_fails())),
    "cancel asked": lambda: started().update(cancel_requested=True),
}
every_state = pytest.mark.parametrize("make", STATES.values(), ids=STATES.keys())


def check_fresh(paper: Paper, seed: int) -> None:
    """Claim it and see that the claim knows nothing of an older life; complete it once."""
    assert reason(paper.take("new", seed=seed)) == "job.claimed"
    assert (paper.ours["attempts"], paper.ours["crashes"], paper.ours["expiries"]) == (0, 0, 0)
    assert (paper.ours["lease"]["attempt"], paper.ours["lease"]["token"]) == (1, "new")
    assert "result" not in paper.ours
    assert paper.ours["seeds"] == [seed]
    assert not RESULTS & set(paper.fields or {})
    assert paper.fields is not None
    assert paper.fields.get("error", False) is paper.fields.get("generated", False) is False
    for write in (paper.renew, paper.complete, paper.fail, paper.release, paper.retry, paper.reclaim):
        assert why(write("t1")) == Why.NOT_OURS
    assert isinstance(paper.complete("new"), Changes)
    assert paper.ours["finishes"] == 1


@every_state
def test_a_document_that_is_written_anew_begins_a_new_life(make: Callable[[], Paper]) -> None:
    """``setDoc`` without merge: every field of ours is gone, and it settles like any new document."""
    paper = make()
    paper.set(status="queued", prompt="a dog")
    assert why(paper.take("new")) == Why.NOT_YET
    check_fresh(paper.wait(2), seed=1001)


@every_state
def test_a_document_that_is_queued_again_by_update_begins_a_new_life(make: Callable[[], Paper]) -> None:
    """Only ``status`` is written, and what makes the old request invalid or cancelled is taken back."""
    paper = make()
    gave_back = paper["status"] == "queued"
    paper.update(status="queued", width=512, cancel_requested=False)
    if gave_back:
        return  # nothing tells such an update from one of metadata: the same life goes on
    assert why(paper.take("new")) == Why.NOT_YET
    check_fresh(paper.wait(2), seed=1001)


@every_state
def test_a_document_that_the_operator_queues_again_begins_a_new_life(make: Callable[[], Paper]) -> None:
    """Also where its client failed it; an old wish to cancel is forgotten."""
    paper = make()
    if paper["status"] not in ("completed", "failed", "cancelled"):
        assert why(paper.requeue()) == Why.DONE
        return
    paper.update(width=512)
    assert reason(paper.requeue()) == "job.requeued"
    assert (paper["status"], paper.fields and paper.fields.get("error", False)) == ("queued", False)
    check_fresh(paper.wait(2), seed=1001)


@every_state
def test_a_call_with_another_request_begins_a_new_life_of_what_had_ended(make: Callable[[], Paper]) -> None:
    """Except of what was completed for an earlier call."""
    paper = make()
    if paper["status"] not in ("completed", "failed", "cancelled") or paper.job is VIDEO:
        return
    assert reason(paper.call(width=300)) == "job.resubmitted"
    check_fresh(paper, seed=1001)


def test_a_seed_that_the_client_asked_for_survives_the_operators_requeue() -> None:
    """The parameters that the document has; only a seed that we chose is chosen again."""
    paper = started(seed=7)
    paper.complete(made=outcome(seed=7))
    paper.requeue()
    paper.wait(5).take("t2", seed=99)
    assert paper.ours["seeds"] == [7]


@pytest.mark.parametrize(
    "queue", [Paper.requeue, lambda paper: paper.update(status="queued")], ids=["operator", "update"]
)
def test_the_seed_that_we_chose_is_chosen_again_in_a_new_life(queue: Callable[[Paper], object]) -> None:
    """Who tries again wants another picture."""
    paper = started()
    paper.complete(made=outcome(seed=42))
    queue(paper)
    paper.wait(5).take("t2", seed=99)
    assert paper.ours["seeds"] == [99]
    assert "seed" not in paper


def test_a_seed_that_the_client_writes_with_the_update_counts() -> None:
    """It differs from the last result's, so it is the client's."""
    paper = started()
    paper.complete(made=outcome(seed=42))
    paper.update(status="queued", seed=43).wait(5).take("t2", seed=99)
    assert paper.ours["seeds"] == [43]


def test_a_new_life_that_ends_before_its_claim_leaves_nothing_of_the_old_one() -> None:
    """Cancelled while queued again: no old pictures, no old seed, one finish."""
    paper = started()
    paper.complete(made=outcome(seed=42))
    paper.update(status="queued", cancel_requested=True)
    assert reason(paper.take("t2")) == "job.cancelled"
    assert not (RESULTS - {"cancelled_at"}) & set(paper.fields or {})
    assert paper.ours["finishes"] == 1
    assert not {"request", "seeds", "model"} & set(paper.ours)


def test_the_media_of_an_old_life_may_be_replaced_by_the_new_one() -> None:
    """Their addresses are remembered through every way of queuing again."""
    queuings: list[Callable[[Paper], object]] = [
        lambda paper: paper.update(status="queued"),
        lambda paper: paper.requeue(),
        lambda paper: paper.call(width=300),
    ]
    for queue in queuings:
        paper = Paper({"status": "completed", "prompt": "a cat", "images": ["https://h/old.png", 5]})
        queue(paper)
        assert reason(paper.wait(5).take()) == "job.claimed"
        assert paper.ours["replaces"] == ["https://h/old.png"]
        paper.renew(started=True)
        paper.release()
        paper.take("t2")
        assert paper.ours["replaces"] == ["https://h/old.png"]

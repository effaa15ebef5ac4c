"""Each transition of a job and each refusal, and the contract's exact shapes of what they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from daemon.core import lifecycle
from daemon.core.errors import JobError, Rejected, Retryable
from daemon.core.job import Changes, Refusal, Why
from daemon.core.lifecycle import give_up
from daemon.core.policy import Progress
from tests.core.samples import (
    IMAGE,
    NOW,
    POLICY,
    VIDEO,
    Paper,
    claimed,
    outcome,
    queued,
    reason,
    started,
    why,
)

LATER = NOW + timedelta(seconds=5)
LEAVINGS = {"lease", "attempts", "not_before", "crashes", "expiries"}


def test_a_claim_writes_the_lease_the_request_and_the_seeds() -> None:
    """Everything that a later claim or a reader needs stands on the document."""
    paper = queued(width=256, num_images_per_prompt=3)
    assert reason(paper.take(seed=7)) == "job.claimed"
    assert paper["status"] == "processing"
    assert paper["modified"] == LATER
    assert paper["progress"] == {"phase": "claimed", "step": 0, "steps": 20, "percent": 0, "eta_seconds": None}
    assert paper.ours["lease"] == {
        "worker": "w1",
        "token": "t1",
        "attempt": 1,
        "seconds": 60.0,
        "renewed_at": LATER,
        "started": False,
    }
    assert paper.ours["request"]["width"] == 256
    assert paper.ours["seeds"] == [7, 8, 9]
    assert (paper.ours["attempts"], paper.ours["model"]) == (0, "painter")
    assert "seed" not in paper


@pytest.mark.parametrize("job", [IMAGE, VIDEO], ids=["image", "video"])
def test_a_completed_document_is_exactly_the_contracts(job: Any) -> None:
    """The contract's fields, the client's own, ``modified`` and our map; no progress, no lease."""
    paper = started(job=job, mood="sunny", error=False, generated=False)
    if job is VIDEO:
        paper.update(images=["left over"], image_url="left over", image_count=1)
    paper.wait(9)
    assert reason(paper.complete()) == "job.completed"
    media: dict[str, Any] = {"images": ["https://h/0.png"], "image_url": "https://h/0.png", "image_count": 1}
    if job is VIDEO:
        info = {"frames": 16, "fps": 8, "duration_seconds": 2.0, "width": 512, "height": 512}
        media = {"videos": ["https://h/0.mp4"], "video_url": "https://h/0.mp4", "video_info": info}
    fields = dict(paper.fields or {})
    ours = fields.pop("easeld")
    assert fields == {
        "prompt": "a cat",
        "created_at": NOW,
        "mood": "sunny",
        "generated": True,
        "error": False,
        "status": "completed",
        "completed_at": paper.now,
        "modified": paper.now,
        "seed": 42,
        "task_type": job.collection.task.value,
        "file_uid": job.file_uid,
        "user_id": "ada",
        **media,
    }
    assert ours["result"] == {
        "token": "t1",
        "attempt": 1,
        "seed": 42,
        "generations": [7] if job is VIDEO else [0],
        "finished_at": paper.now,
    }
    assert ours["finishes"] == 1
    assert not LEAVINGS & set(ours)


def test_several_images_are_counted_and_the_first_is_the_address() -> None:
    """``images`` in order, ``image_url`` the first of them; warnings, timings and what made it in our map."""
    paper = started()
    paper.complete(
        made=replace(outcome(count=4), warnings=("slow card",), timings={"generate": 1.5}, made_with={"model": "m"})
    )
    assert (paper["image_count"], paper["image_url"]) == (4, paper["images"][0])
    assert paper.ours["made_with"] == {"model": "m"}
    assert (paper.ours["warnings"], paper.ours["timings"]) == (["slow card"], {"generate": 1.5})


def test_a_failed_document_is_exactly_the_contracts() -> None:
    """No result, no progress, no lease; the message and the error's type."""
    paper = started(mood="sunny")
    assert reason(paper.fail(error=JobError("CUDA ran out", error_type="OutOfMemoryError"))) == "job.failed"
    fields = dict(paper.fields or {})
    ours = fields.pop("easeld")
    assert fields == {
        "prompt": "a cat",
        "created_at": NOW,
        "mood": "sunny",
        "generated": False,
        "error": True,
        "status": "failed",
        "error_message": "CUDA ran out",
        "error_type": "OutOfMemoryError",
        "failed_at": paper.now,
        "modified": paper.now,
        "file_uid": "picture",
        "user_id": "ada",
    }
    assert (ours["result"]["token"], ours["finishes"]) == ("t1", 1)
    assert not LEAVINGS & set(ours)


def test_a_message_is_short_and_valid_text_whatever_the_error_said() -> None:
    """A store takes no half characters, and nobody reads a megabyte."""
    paper = started()
    paper.fail(error=JobError("\ud800" + "x" * 5000))
    assert len(paper["error_message"].encode()) <= 1000


@pytest.mark.parametrize("held", [False, True])
def test_a_job_whose_client_asked_for_it_is_cancelled(held: bool) -> None:
    """Neither an error nor a result, and ``cancel_requested`` is answered."""
    paper = started() if held else queued()
    assert why(paper.cancel("t1" if held else None)) == Why.DONE
    paper.update(cancel_requested=True)
    assert reason(paper.cancel("t1" if held else None)) == "job.cancelled"
    assert (paper["status"], paper["generated"], paper["error"]) == ("cancelled", False, False)
    assert not {"cancel_requested", "progress", "error_message", "error_type"} & set(paper.fields or {})
    assert not LEAVINGS & set(paper.ours)
    assert why(paper.cancel("t1")) == Why.DONE


def test_a_queued_cancellation_is_carried_out_by_the_claim_before_settling() -> None:
    """Whoever meets it first ends it."""
    paper = Paper({"status": "queued", "cancel_requested": True})
    assert reason(paper.take()) == "job.cancelled"


def test_only_true_asks_for_cancellation() -> None:
    """A mistyped wish is ignored."""
    for value in (1, "true", [True], None, False):
        assert paper_status(queued(cancel_requested=value)) == "processing"


def paper_status(paper: Paper) -> str:
    """The status after a claim."""
    paper.take()
    return str(paper["status"])


def test_a_processing_cancellation_is_refused_to_whoever_does_not_hold_it() -> None:
    """Only the holder, or the rescue once the lease has ended, may carry it out."""
    paper = started().update(cancel_requested=True)
    assert why(paper.cancel()) == Why.NOT_QUEUED
    assert why(paper.cancel("other")) == Why.NOT_OURS
    assert why(paper.expire()) == Why.ALIVE
    paper.wait(61)
    assert reason(paper.expire()) == "job.cancelled"


def test_renewing_moves_the_lease_and_modified_and_counts_the_attempt_once() -> None:
    """Generation begins once in a claim, however often that is said."""
    paper = claimed()
    for _ in range(3):
        paper.wait(10)
        assert reason(paper.renew(started=True, progress=Progress(phase="step", step=5, steps=20))) == "job.renewed"
        assert paper["modified"] == paper.ours["lease"]["renewed_at"] == paper.now
    assert paper.ours["attempts"] == 1
    assert paper.ours["lease"]["started"] is True
    assert paper["progress"]["percent"] == 25
    paper.renew()
    assert paper["progress"]["step"] == 5


def test_a_preview_stands_on_the_document_while_there_is_one() -> None:
    """Clients see no field for what is not wanted."""
    paper = claimed()
    paper.renew(progress=Progress(phase="step", preview_url="https://p.jpg"))
    assert paper["progress"]["preview_url"] == "https://p.jpg"
    paper.renew(progress=Progress(phase="step"))
    assert "preview_url" not in paper["progress"]


def test_progress_without_a_known_number_of_steps_is_nought_percent() -> None:
    """No division by zero before the model is loaded."""
    assert Progress(phase="loading", eta_seconds=3.5).fields()["percent"] == 0


def test_a_retried_job_waits_and_its_attempt_counts() -> None:
    """Given back with a delay, without an error that a client could show."""
    paper = started(error=False)
    assert reason(paper.retry(delay=30)) == "job.retried"
    assert (paper["status"], paper["error"]) == ("queued", False)
    assert "error_message" not in paper
    assert "progress" not in paper
    assert paper.ours["attempts"] == 1
    until = paper.now + timedelta(seconds=30)
    decided = paper.take("t2")
    assert decided == Refusal(why=Why.NOT_YET, until=until)
    paper.wait(30)
    assert reason(paper.take("t2")) == "job.claimed"
    assert paper.ours["lease"]["attempt"] == 2
    assert "not_before" not in paper.ours


def test_a_trouble_before_generation_counts_as_an_attempt_too() -> None:
    """Else a job whose model never loads would be tried for ever."""
    paper = claimed()
    paper.retry()
    assert paper.ours["attempts"] == 1


def test_a_job_fails_with_the_last_cause_when_its_attempts_are_spent() -> None:
    """The type of the last error, and how many attempts there were."""
    paper = queued()
    for attempt in (1, 2, 3):
        paper.wait(400)
        paper.take(f"t{attempt}")
        paper.renew(f"t{attempt}", started=True)
        paper.retry(f"t{attempt}", error=Retryable("The bucket did not answer"))
    assert (paper["status"], paper["error_type"]) == ("failed", "ConnectionError")
    assert paper["error_message"] == "The bucket did not answer (attempt 3 of 3)"


@pytest.mark.parametrize("begun", [False, True])
def test_a_released_job_costs_no_attempt_and_is_claimable_at_once(begun: bool) -> None:
    """No error, no progress, no lease; the seeds stay, so that the same file is made."""
    paper = started() if begun else claimed()
    assert reason(paper.release()) == "job.released"
    assert paper["status"] == "queued"
    assert not {"error", "error_message", "error_type", "progress"} & set(paper.fields or {})
    assert (paper.ours["attempts"], "lease" in paper.ours) == (0, False)
    assert reason(paper.take("t2", seed=99)) == "job.claimed"
    assert paper.ours["seeds"] == [42]


def test_a_released_job_carries_no_error_even_where_its_client_wrote_one() -> None:
    """The contract: a job given back never shows an error."""
    paper = started().update(error=True, error_message="I gave up waiting", generated=True)
    paper.release()
    assert (paper["error"], paper["generated"]) == (False, False)
    assert "error_message" not in paper


def test_an_expired_lease_costs_an_attempt_only_after_generation_began() -> None:
    """A worker that died before is not the job's fault."""
    paper = claimed()
    assert paper.expire() == Refusal(why=Why.ALIVE, until=paper.now + timedelta(seconds=60))
    paper.wait(60)
    assert reason(paper.expire()) == "job.rescued"
    assert (paper.ours["attempts"], paper.ours["expiries"], paper.ours["crashes"]) == (0, 1, 0)
    paper.take("t2")
    paper.renew("t2", started=True)
    paper.wait(61)
    paper.expire()
    assert (paper.ours["attempts"], paper.ours["crashes"]) == (1, 1)
    assert (paper["status"], "progress" in paper) == ("queued", False)


def test_a_job_that_kills_its_workers_is_failed_at_the_maximum() -> None:
    """Quarantined as ``RuntimeError``, with a message that says why."""
    paper = queued()
    for attempt in ("t1", "t2", "t3"):
        paper.take(attempt)
        paper.renew(attempt, started=True)
        paper.wait(61)
        paper.expire()
    assert (paper["status"], paper["error_type"]) == ("failed", "RuntimeError")
    assert paper["error_message"] == "The worker stopped during generation, 3 of 3 attempts"


def test_a_job_that_is_lost_before_generation_ends_at_a_cap_of_its_own() -> None:
    """Twenty leases that ended before generation are enough."""
    paper = queued()
    for number in range(20):
        assert paper["status"] == "queued"
        paper.take(f"t{number}")
        paper.wait(61)
        paper.expire()
    assert (paper["status"], paper["error_type"]) == ("failed", "RuntimeError")
    assert paper["error_message"] == "Lost by 20 workers before generation was under way"


@pytest.mark.parametrize("status", ["processing", "queued", "completed", "failed", "cancelled", "odd", None, ["x"], {}])
def test_a_document_without_a_lease_of_ours_is_never_rescued(status: object) -> None:
    """An older worker's processing document stays untouched; anything else is not processing."""
    paper = Paper({"status": status, "modified": NOW}).wait(100_000)
    assert why(paper.expire()) == (Why.NOT_OURS if status == "processing" else Why.NOT_PROCESSING)


WRITES: dict[str, Callable[[Paper], Changes | Refusal]] = {
    "renew": lambda paper: paper.renew(),
    "complete": lambda paper: paper.complete(),
    "fail": lambda paper: paper.fail(),
    "retry": lambda paper: paper.retry(),
    "release": lambda paper: paper.release(),
    "reclaim": lambda paper: paper.reclaim(),
}
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
LOST: dict[str, tuple[Callable[[Paper], object], Why]] = {
    "deleted": (lambda paper: paper.delete(), Why.ABSENT),
    "failed by its client": (lambda paper: paper.client_fails(), Why.NOT_PROCESSING),
    "queued by its client": (lambda paper: paper.update(status="queued"), Why.NOT_PROCESSING),
    "written anew": (lambda paper: paper.set(status="queued", prompt="a dog"), Why.NOT_PROCESSING),
    "taken by an older worker": (lambda paper: paper.set(status="processing", prompt="a dog"), Why.NOT_OURS),
    "stopped": (lambda paper: paper.stop(), Why.NOT_PROCESSING),
    "rescued": (lambda paper: paper.wait(61).expire(), Why.NOT_PROCESSING),
    "rescued and claimed": (lambda paper: (paper.wait(61).expire(), paper.take("t2")), Why.NOT_OURS),
    "finished": (lambda paper: paper.complete(), Why.NOT_PROCESSING),
    "mistyped": (lambda paper: paper.update(easeld="x"), Why.NOT_OURS),
}


@every_write
@pytest.mark.parametrize(("lose", "expected"), LOST.values(), ids=LOST.keys())
def test_a_late_writer_changes_nothing(
    write: Callable[[Paper], Changes | Refusal], lose: Callable[[Paper], object], expected: Why
) -> None:
    """Whatever took the job away, the old claim's token opens nothing any more."""
    paper = started()
    lose(paper)
    before = paper.version
    assert why(write(paper)) == expected
    assert paper.version == before


@pytest.mark.parametrize("write", [WRITES["renew"], WRITES["complete"]], ids=["renew", "complete"])
def test_a_holder_notices_cancellation_and_another_request_before_it_writes(
    write: Callable[[Paper], Changes | Refusal],
) -> None:
    """Neither renewal nor completion passes over what the client said meanwhile."""
    assert why(write(started().update(cancel_requested=True))) == Why.CANCEL_REQUESTED
    assert why(write(started().update(width=256))) == Why.CHANGED
    assert why(write(started().update(easeld={**started().ours, "request": 5}))) == Why.CHANGED
    assert isinstance(write(started().update(mood="rainy", width=512)), Changes)


def test_a_changed_request_is_claimed_again_in_place() -> None:
    """A new token, the attempt not counted, the old token dead."""
    paper = started().update(width=256, seed=5)
    assert reason(paper.reclaim("t1", "t2")) == "job.reclaimed"
    lease = paper.ours["lease"]
    assert (lease["token"], lease["attempt"], lease["started"], paper.ours["attempts"]) == ("t2", 1, False, 0)
    assert (paper.ours["request"]["width"], paper.ours["seeds"]) == (256, [5])
    assert why(paper.complete("t1")) == Why.NOT_OURS
    assert isinstance(paper.complete("t2"), Changes)


def test_claiming_again_in_place_keeps_the_seed_that_was_chosen() -> None:
    """Only the request changed; and a claim before generation has no attempt to give back."""
    paper = claimed().update(width=256)
    paper.reclaim()
    assert (paper.ours["seeds"], paper.ours["attempts"]) == ([42], 0)


def test_a_changed_request_that_is_invalid_fails_and_one_for_another_model_goes_back() -> None:
    """The first is the client's fault; the second may be served by somebody else."""
    paper = started().update(width=1)
    paper.reclaim()
    assert paper["error_message"] == "width must be between 256 and 1024"
    paper = started().update(model="unheard-of")
    assert reason(paper.reclaim()) == "job.released"
    paper = started().update(width=1, cancel_requested=True)
    assert reason(paper.reclaim()) == "job.cancelled"


@pytest.mark.parametrize("make", [queued, claimed, started], ids=["queued", "claimed", "started"])
def test_the_operator_stops_an_active_job(make: Callable[[], Paper]) -> None:
    """Failed, with the contract's words."""
    paper = make()
    assert reason(paper.stop()) == "job.failed"
    assert (paper["error_message"], paper["error_type"]) == ("Cancelled by the operator", "Exception")
    assert paper.ours["result"]["token"] is None
    assert why(paper.stop()) == Why.DONE


def test_the_operator_can_neither_stop_nor_queue_what_is_not_there() -> None:
    """An absent document stays absent."""
    assert why(Paper().stop()) == why(Paper().requeue()) == why(Paper().cancel()) == why(Paper().take()) == Why.ABSENT


@pytest.mark.parametrize("status", ["queued", "processing", "odd", None, 5, ["completed"], {"a": 1}])
def test_the_operator_queues_only_what_has_ended(status: object) -> None:
    """Whatever stands in ``status``."""
    assert why(Paper({"status": status}).requeue()) == Why.DONE


def test_a_document_too_large_for_anything_else_is_given_up_with_two_fields() -> None:
    """The minimal write, and only on a queued document."""
    paper = queued()
    assert paper.decide(give_up) == Changes(reason="job.failed", fields={"status": "failed", "error": True})
    assert why(paper.decide(give_up)) == Why.NOT_QUEUED
    assert why(Paper().decide(give_up)) == Why.NOT_QUEUED


def test_a_held_document_that_is_too_large_ends_only_for_its_holder() -> None:
    """The smallest terminal write checks the token as every other."""
    paper = claimed(claim="t1")
    assert why(paper.decide(partial(give_up, token="another"))) == Why.NOT_OURS
    ended = Changes(reason="job.failed", fields={"status": "failed", "error": True})
    assert paper.decide(partial(give_up, token="t1")) == ended


def test_a_held_document_too_large_is_given_up_by_its_holder_alone() -> None:
    """The token opens it; after that the claim is over, and a requeue begins a new life."""
    paper = started()
    assert why(paper.decide(partial(give_up, token="other"))) == Why.NOT_OURS
    assert reason(paper.decide(partial(give_up, token="t1"))) == "job.failed"
    assert why(paper.complete()) == Why.NOT_PROCESSING
    assert reason(paper.requeue()) == "job.requeued"
    assert (paper["error"], "easeld" in paper) == (False, False)


def test_a_lease_whose_holder_is_known_to_have_died_ends_at_once() -> None:
    """Only that very claim's; the attempt that it had begun counts."""
    paper = started()
    assert why(paper.decide(partial(lifecycle.expire, max_attempts=3, dead="t0"))) == Why.ALIVE
    assert reason(paper.decide(partial(lifecycle.expire, max_attempts=3, dead="t1"))) == "job.rescued"
    assert (paper["status"], paper.ours["attempts"], paper.ours["crashes"]) == ("queued", 1, 1)


def test_a_rejected_request_never_needs_a_second_attempt() -> None:
    """It fails at the claim, in one write."""
    paper = queued(width="wide")
    paper.take()
    assert (paper["error_type"], paper.ours["finishes"]) == (Rejected.error_type, 1)
    assert POLICY.max_attempts == 3

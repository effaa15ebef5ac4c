"""What a call of the endpoint does to a document in every state; however often it comes, it is one generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from daemon.core.job import Changes, Why
from tests.core.samples import NOW, Paper, claimed, outcome, queued, reason, started, why


def test_a_call_without_a_document_creates_it() -> None:
    """Exactly the request, the ids, the client's usual fields and our mark; what was null stays absent."""
    paper = Paper()
    assert reason(paper.call(seed=None, num_frames=0, width=256)) == "job.submitted"
    assert paper.fields == {
        "status": "queued",
        "prompt": "a cat",
        "width": 256,
        "use_cloud_storage": True,
        "generated": False,
        "error": False,
        "user_id": "ada",
        "file_uid": "picture",
        "created_at": NOW,
        "submitted_at": NOW,
    }


STAGES: dict[str, Callable[[Paper], object]] = {
    "queued": lambda paper: None,
    "claimed": lambda paper: paper.take(),
    "generating": lambda paper: (paper.take(), paper.renew(started=True)),
    "released": lambda paper: (paper.take(), paper.release()),
    "retried": lambda paper: (paper.take(), paper.retry(delay=9)),
    "rescued": lambda paper: (paper.take(), paper.wait(61).expire()),
    "completed": lambda paper: (paper.take(), paper.complete()),
    "failed": lambda paper: (paper.take(), paper.fail()),
    "cancelled": lambda paper: (paper.update(cancel_requested=True), paper.take()),
    "stopped": lambda paper: paper.stop(),
}


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES.keys())
@pytest.mark.parametrize("extra", [{}, {"seed": 7, "width": 256, "negativePrompt": "rain"}], ids=["plain", "rich"])
def test_the_same_call_a_hundred_times_is_one_generation(stage: Callable[[Paper], object], extra: Any) -> None:
    """Whatever has become of the job: a client that times out sends its call again."""
    paper = Paper()
    paper.call(**extra)
    stage(paper)
    before = paper.version
    for _ in range(100):
        paper.wait(1)
        assert why(paper.call(**extra)) == Why.DONE
    assert paper.version == before


def test_a_call_after_the_document_adds_what_the_document_lacks() -> None:
    """The second kind of client: document first, the rest of the parameters a moment later."""
    paper = queued(mood="sunny", numInferenceSteps=30)
    assert reason(paper.call(width=256, seed=3)) == "job.submitted"
    paper.take()
    request = paper.ours["request"]
    assert (request["width"], request["seed"], request["num_inference_steps"]) == (256, 3, 30)
    assert paper["mood"] == "sunny"
    assert paper["submitted_at"] == paper.now


def test_the_endpoints_value_wins_over_the_documents_in_either_spelling() -> None:
    """The call is the later word; what it leaves open stays the document's."""
    paper = queued(numInferenceSteps=30, width=300, negative_prompt="rain")
    paper.call(num_inference_steps=40, width=256, negative_prompt=None)
    paper.take()
    request = paper.ours["request"]
    assert (request["num_inference_steps"], request["width"], request["negative_prompt"]) == (40, 256, "rain")


@pytest.mark.parametrize("make", [claimed, started], ids=["claimed", "generating"])
def test_a_call_with_other_parameters_makes_the_holder_start_over(make: Callable[[], Paper]) -> None:
    """Not a second generation: the same one, with what was really asked for."""
    paper = make()
    assert reason(paper.call(width=256)) == "job.resubmitted"
    assert why(paper.complete()) == Why.CHANGED
    assert reason(paper.reclaim()) == "job.reclaimed"
    assert paper.ours["request"]["width"] == 256
    assert why(paper.call(width=256)) == Why.DONE
    assert isinstance(paper.complete("t2"), Changes)


def test_a_call_that_says_the_same_leaves_the_holder_alone() -> None:
    """Defaults spelled out are no change."""
    assert why(started().call(width=512, num_images_per_prompt=1)) == Why.DONE


def test_an_older_workers_document_is_left_to_it() -> None:
    """Processing without a lease of ours: nothing is merged into it."""
    assert why(Paper({"status": "processing", "prompt": "a dog"}).call(width=256)) == Why.DONE


def test_a_document_completed_before_its_call_came_begins_anew_once() -> None:
    """Its client never said all of it in time; the call that says it is served, a second such call is not."""
    paper = started()
    paper.complete()
    assert why(paper.call()) == Why.DONE
    assert reason(paper.call(width=256)) == "job.resubmitted"
    assert paper["status"] == "queued"
    assert not {"images", "image_url", "image_count", "completed_at", "seed", "task_type"} & set(paper.fields or {})
    assert paper["generated"] is False
    paper.take("t2")
    paper.complete("t2")
    assert why(paper.call(width=300)) == Why.DONE
    assert paper["status"] == "completed"


def test_a_job_that_its_client_failed_begins_anew_with_any_call() -> None:
    """Its call was refused once and is accepted now; no error remains, and it is claimable at once."""
    for paper in (queued(), claimed(), started()):
        paper.client_fails()
        assert reason(paper.call()) == "job.resubmitted"
        assert (paper["status"], paper["error"], "error_message" in paper) == ("queued", False, False)
        assert reason(paper.take("t9")) == "job.claimed"
        assert paper.ours["lease"]["attempt"] == 1


def test_a_failed_or_cancelled_job_begins_anew_only_with_another_request() -> None:
    """Deterministic failures are not repeated by a client's retry."""
    paper = Paper()
    paper.call()
    paper.take()
    paper.fail()
    assert why(paper.call()) == Why.DONE
    assert reason(paper.call(width=256)) == "job.resubmitted"
    paper.update(cancel_requested=True)
    paper.take()
    assert paper["status"] == "cancelled"
    assert why(paper.call(width=256)) == Why.DONE
    assert reason(paper.call(width=300)) == "job.resubmitted"
    assert "cancelled_at" not in paper


def test_a_request_that_was_refused_is_mended_by_a_call() -> None:
    """The valid call differs from what failed."""
    paper = queued(width=99_999)
    paper.take()
    assert paper["status"] == "failed"
    assert reason(paper.call(width=256)) == "job.resubmitted"
    assert reason(paper.take()) == "job.claimed"


def test_an_old_wish_to_cancel_does_not_reach_the_new_life_of_a_call() -> None:
    """Cancelled, then failed by its client, then called again: the call is the last word."""
    paper = queued(cancel_requested=True).client_fails()
    paper.call()
    assert reason(paper.take()) == "job.claimed"


@pytest.mark.parametrize("status", [None, "draft", "", 0, ["queued"], {"a": "b"}, True], ids=repr)
def test_a_document_of_no_known_status_is_queued_by_its_call(status: object) -> None:
    """The call was accepted, so something must come of it: a mistyped status is as if absent."""
    paper = Paper({"status": status, "mood": "sunny", "easeld": {"result": {"seed": 3}}, "seed": 3})
    assert reason(paper.call()) == "job.resubmitted"
    assert (paper["status"], paper["mood"], paper["created_at"]) == ("queued", "sunny", NOW)
    assert reason(paper.take()) == "job.claimed"


def test_a_seed_of_ours_does_not_become_the_clients_by_a_call() -> None:
    """Queued again by update, then called without a seed: another picture is asked for, not the same one."""
    paper = started()
    paper.complete(made=outcome(seed=42))
    paper.update(status="queued").wait(1)
    assert reason(paper.call()) == "job.submitted"
    paper.take("t2", seed=77)
    assert paper.ours["seeds"] == [77]


def test_a_seed_that_the_call_names_is_the_clients_even_where_it_equals_ours() -> None:
    """Who liked the picture may ask for its seed."""
    paper = started()
    paper.complete(made=outcome(seed=42))
    paper.update(status="queued").wait(1)
    paper.call(seed=42, width=256)
    paper.take("t2", seed=77)
    assert (paper.ours["seeds"], paper.ours["request"]["seed"]) == ([42], 42)


def test_a_call_for_a_document_completed_with_our_seed_compares_without_it() -> None:
    """The seed that we wrote there was not part of the request."""
    paper = Paper()
    paper.call()
    paper.take()
    paper.complete()
    assert paper["seed"] == 42
    assert why(paper.call()) == Why.DONE

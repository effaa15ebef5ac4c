"""When a queued job may be claimed, by whom, and when it is ended instead."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.core.job import Refusal, Why
from daemon.core.lifecycle import preview
from daemon.core.policy import Fleet, Policy
from models.spec import Task
from tests.core.samples import CALL, NOW, POLICY, VIDEO, Paper, queued, reason, started, why

PICTURES_ONLY = replace(POLICY, models={"painter": POLICY.models["painter"]}, defaults={Task.TEXT2IMAGE: "painter"})
FLEET = Fleet(models=frozenset({"painter"}), defaults={Task.TEXT2IMAGE: "painter"})


def fresh(**fields: Any) -> Paper:
    """A document that was written this very moment."""
    return Paper({"status": "queued", "prompt": "a cat", **fields})


def test_a_document_without_a_call_settles_first() -> None:
    """The rest of the parameters may come a moment later."""
    paper = fresh()
    assert paper.take() == Refusal(why=Why.NOT_YET, until=NOW + timedelta(seconds=2))
    assert why(paper.wait(1.999).take()) == Why.NOT_YET
    assert reason(paper.wait(0.001).take()) == "job.claimed"


def test_a_document_with_a_call_is_claimable_at_once() -> None:
    """``submitted_at`` says that nothing more will come."""
    assert reason(fresh(submitted_at=NOW).take()) == "job.claimed"


@pytest.mark.parametrize("value", ["2026-01-01", 5, True, datetime(2026, 1, 1), []], ids=repr)  # noqa: DTZ001
def test_a_mistyped_submitted_at_is_as_if_absent(value: object) -> None:
    """The document settles like any other."""
    assert why(fresh(submitted_at=value).take()) == Why.NOT_YET


def test_settling_counts_from_the_last_write_and_not_from_created_at() -> None:
    """A document that is old on paper may still have been written this second."""
    paper = fresh(created_at=datetime(1970, 1, 1, tzinfo=UTC)).wait(1.5).update(mood="sunny").wait(1.5)
    assert why(paper.take()) == Why.NOT_YET


@pytest.mark.parametrize("created", [None, 0, "yesterday", datetime(1970, 1, 1, tzinfo=UTC), [1]], ids=repr)
def test_created_at_decides_nothing(created: object) -> None:
    """Missing, mistyped or ancient: the job is served."""
    assert reason(queued(created_at=created).take()) == "job.claimed"


def test_a_job_that_waited_too_long_fails_instead_of_burning_money() -> None:
    """Exactly the maximum is still served; the message says how long that is."""
    assert reason(fresh().wait(86_400).take()) == "job.claimed"
    paper = fresh().wait(86_401)
    paper.take()
    assert paper["error_message"] == "Waited in the queue for more than 24 hours"
    assert paper["error_type"] == "Exception"


def test_a_retried_job_counts_its_age_from_when_it_was_given_back() -> None:
    """A day of attempts is no day in the queue."""
    paper = started().wait(90_000)
    paper.retry(delay=1)
    paper.wait(2)
    assert reason(paper.take("t2")) == "job.claimed"


def test_a_not_before_in_the_far_future_does_not_keep_a_job_for_ever() -> None:
    """A client can write anything into our map; the age limit still ends it."""
    paper = queued(easeld={"attempts": 1, "not_before": datetime.max.replace(tzinfo=UTC)})
    assert why(paper.take()) == Why.NOT_YET
    paper.wait(90_000).take()
    assert paper["status"] == "failed"


@pytest.mark.parametrize("value", ["soon", 5, None, [], datetime(2030, 1, 1)], ids=repr)  # noqa: DTZ001
def test_a_mistyped_not_before_is_ignored(value: object) -> None:
    """As if absent."""
    assert reason(queued(easeld={"attempts": 1, "not_before": value}).take()) == "job.claimed"


@pytest.mark.parametrize("status", ["processing", "completed", "failed", "cancelled", "Queued", None, 1, ["queued"]])
def test_only_queued_documents_are_claimed(status: object) -> None:
    """Whatever else stands there, nothing is written."""
    assert why(Paper({"status": status}).wait(5).take()) == Why.NOT_QUEUED


def test_a_worker_leaves_a_job_to_whoever_serves_its_model() -> None:
    """Without a declared fleet nobody fails a neighbour's job, until it is too old."""
    film = queued(job=VIDEO)
    assert why(film.take(policy=PICTURES_ONLY)) == Why.NOT_SERVED
    assert why(film.wait(80_000).take(policy=PICTURES_ONLY)) == Why.NOT_SERVED
    assert reason(film.take()) == "job.claimed"


def fleet(**changes: Any) -> Policy:
    """The policy of a worker for pictures where the operator declared what all workers serve."""
    return replace(PICTURES_ONLY, fleet=replace(FLEET, **changes))


def test_a_task_that_the_declared_fleet_does_not_serve_fails_in_the_end() -> None:
    """After the time for it, as the model that should be there and is not."""
    film = queued(job=VIDEO)
    assert why(film.take(policy=fleet())) == Why.NOT_SERVED
    film.wait(600).take(policy=fleet())
    assert (film["error_type"], film["error_message"]) == ("ModelNotAvailable", "No worker serves text2video")


def test_a_task_that_the_declared_fleet_serves_waits_for_its_worker() -> None:
    """A neighbour does it."""
    film = queued(job=VIDEO).wait(5_000)
    everything = fleet(models=frozenset({"painter", "filmer"}), defaults=POLICY.defaults)
    assert why(film.take(policy=everything)) == Why.NOT_SERVED


def test_a_model_that_nobody_has_declared_fails_at_once() -> None:
    """It is no model that should be there: clients must not read "temporarily unavailable"."""
    paper = queued(model="unheard-of")
    paper.take(policy=fleet())
    assert (paper["status"], paper["error_type"]) == ("failed", "Exception")
    assert paper["error_message"] == "No worker serves the model unheard-of"


def test_a_model_of_another_task_is_refused() -> None:
    """We serve it, so we know that it makes no pictures."""
    paper = queued(model="filmer")
    paper.take()
    assert (paper["error_type"], paper["error_message"]) == ("Exception", "The model filmer does not do text2image")


def test_a_model_is_chosen_by_name_and_a_mistyped_one_is_refused() -> None:
    """An empty string is a name too."""
    paper = queued(model="painter")
    paper.take()
    assert paper.ours["model"] == "painter"
    paper = queued(model=5)
    paper.take()
    assert paper["error_message"] == "Validation failed: model must be a string"


def test_a_preview_says_what_a_claim_would_bring() -> None:
    """Model, request and number of media; nothing for what would not be claimed; alone after a crash."""
    paper = queued(num_images_per_prompt=3)
    work = preview(paper.document, policy=POLICY)
    assert work is not None
    assert (work.spec.name, len(work.seeds), work.alone) == ("painter", 3, False)
    assert preview(queued(width=1).document, policy=POLICY) is None
    assert preview(queued(job=VIDEO).document, policy=PICTURES_ONLY) is None
    assert preview(Paper().document, policy=POLICY) is None
    paper.take()
    paper.renew(started=True)
    paper.wait(61)
    paper.expire()
    work = preview(paper.document, policy=POLICY)
    assert work is not None
    assert work.alone
    again = preview(paper.update(easeld=dict(paper.ours) | {"result": {}}).document, policy=POLICY)
    assert again is not None
    assert not again.alone


def test_a_call_and_a_document_of_it_are_claimed_alike() -> None:
    """The shim's own document needs no settling."""
    paper = Paper()
    assert CALL["user_id"] == paper.job.user_id
    paper.call(width=256)
    assert reason(paper.take()) == "job.claimed"

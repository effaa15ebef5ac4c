"""Which documents a quota is about."""

from __future__ import annotations

from functools import partial

import pytest

from daemon.core import quotas
from daemon.core.job import Why
from tests.core.samples import NOW, Paper, claimed, queued, reason, why

REFUSE = partial(quotas.refuse, most=3)


@pytest.mark.parametrize(
    ("paper", "adds"),
    [
        (Paper(), True),
        (queued(), True),
        (queued(status="paused"), True),
        (queued(submitted_at=NOW), False),
        (claimed(), False),
        (queued(status="completed"), False),
        (queued(status="failed"), False),
        (queued(status="cancelled"), False),
    ],
    ids=["absent", "direct", "unknown", "submitted", "processing", "completed", "failed", "cancelled"],
)
def test_a_call_adds_a_job_where_none_was_accepted_yet(paper: Paper, adds: bool) -> None:
    """What was accepted once is never refused for the quota's sake."""
    assert quotas.adds_a_job(paper.document) is adds


def test_only_a_queued_document_without_a_call_came_directly() -> None:
    """The call has counted already."""
    assert quotas.came_directly(queued().document)
    for paper in (Paper(), queued(submitted_at=NOW), claimed()):
        assert not quotas.came_directly(paper.document)


def test_a_document_over_quota_fails_with_a_message_that_says_how_many() -> None:
    """It is its user's fault, so clients see an ``Exception``."""
    paper = queued()
    assert reason(paper.decide(REFUSE)) == "job.failed"
    assert (paper["status"], paper["error"], paper["error_type"]) == ("failed", True, "Exception")
    assert paper["error_message"] == "Too many generations at once: at most 3 may be queued or processing"


def test_a_document_that_was_called_for_meanwhile_is_not_failed() -> None:
    """Between the count and the write the call may have come."""
    assert why(queued(submitted_at=NOW).decide(REFUSE)) is Why.NOT_QUEUED

"""A cancellation that comes through the shim."""

from __future__ import annotations

import pytest

from daemon.core.job import Why
from daemon.core.submission import ask_to_cancel
from tests.core.samples import Paper, claimed, queued, reason, why


@pytest.mark.parametrize("paper", [queued(), claimed()], ids=["queued", "processing"])
def test_an_active_job_is_asked_once(paper: Paper) -> None:
    """The mark that a client would set itself."""
    assert reason(paper.decide(ask_to_cancel)) == "job.cancel_requested"
    assert paper["cancel_requested"] is True
    assert why(paper.decide(ask_to_cancel)) is Why.DONE


def test_what_has_ended_or_is_not_there_is_left_alone() -> None:
    """There is nothing to cancel."""
    assert why(queued(status="completed").decide(ask_to_cancel)) is Why.DONE
    assert why(Paper().decide(ask_to_cancel)) is Why.ABSENT

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.core.job import Document
from daemon.core.pace import LONGEST, Pace, Turn, pace_of, seconds_per_job, turn
from tests.core.samples import IMAGE

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ended(seconds_ago: object, took: object) -> Document:
    """A completed job."""
    at = NOW - timedelta(seconds=seconds_ago) if isinstance(seconds_ago, int) else seconds_ago
    easeld: dict[str, Any] = {"result": {"finished_at": at}, "timings": {"total": took}}
    return Document(id=IMAGE, fields={"easeld": easeld}, version=1, updated_at=NOW, read_at=NOW)


def test_one_worker_that_works_without_a_pause_takes_what_a_job_takes() -> None:
    """In whatever order they are given."""
    assert seconds_per_job([ended(10, 5), ended(0, 5.0), ended(5, 5)], NOW) == 5.0


def test_an_empty_queue_does_not_slow_the_pace() -> None:
    """Between two jobs nobody worked: only what each took for itself counts."""
    assert seconds_per_job([ended(2000, 5), ended(1000, 5), ended(0, 5)], NOW) == 5.0


def test_many_workers_and_batches_are_as_quick_as_their_jobs_end() -> None:
    """Two at once from two workers; four from one batch."""
    assert seconds_per_job([ended(10, 10), ended(10, 10), ended(0, 10), ended(0, 10)], NOW) == 5.0
    assert seconds_per_job([ended(0, 8)] * 4, NOW) == 2.0


@pytest.mark.parametrize("told", [(3600, 5), (0, None), (0, "5"), (0, -1.0), (0, float("nan")), (None, 5), ("x", 5)])
def test_what_tells_nothing_of_the_pace_is_left_out(told: tuple[object, object]) -> None:
    """Too long ago, or of a wrong type, as a client may write it; of too few nothing is concluded."""
    enough = [ended(10, 5), ended(5, 5), ended(0, 5)]
    assert seconds_per_job([*enough, ended(*told)], NOW) == 5.0
    assert seconds_per_job([*enough[1:], ended(*told)], NOW) is None


def test_documents_without_our_map_tell_nothing() -> None:
    """An older worker's, say."""
    other = Document(id=IMAGE, fields={"easeld": {"timings": 3}}, version=1, updated_at=NOW, read_at=NOW)
    absent = Document(id=IMAGE, fields=None, version=0, updated_at=NOW, read_at=NOW)
    assert seconds_per_job([other, absent], NOW) is None


def running(eta: object, *, seconds_ago: int = 0) -> Document:
    """A job that runs, and what it said of its end."""
    at = NOW - timedelta(seconds=seconds_ago)
    return Document(id=IMAGE, fields={"progress": {"eta_seconds": eta}}, version=1, updated_at=at, read_at=NOW)


def test_a_turn_comes_when_some_job_has_ended_and_those_before_it_have_begun() -> None:
    """And without a pace nobody can say when that is."""
    assert turn(3, Pace(first=40.0, each=2.5)) == Turn(before=3, seconds=47.5)
    assert turn(0, None) == Turn(before=0, seconds=None)


def test_the_next_job_begins_when_the_first_running_one_ends_by_its_own_word() -> None:
    """Behind a long video small pictures of late say little; a word that is old has partly come true."""
    late = [ended(10, 5), ended(5, 5), ended(0, 5)]
    assert pace_of(late, [running(141.3)], NOW) == Pace(first=141.3, each=5.0)
    assert pace_of(late, [running(90), running(40, seconds_ago=10)], NOW) == Pace(first=30.0, each=5.0)
    assert pace_of(late, [running(4, seconds_ago=10)], NOW) == Pace(first=0.0, each=5.0)
    assert pace_of(late[1:], [running(4)], NOW) is None


@pytest.mark.parametrize("eta", [None, "4", True, -1, float("nan"), float("inf"), LONGEST, [1]])
def test_what_tells_nothing_of_the_end_of_a_running_job_is_left_out(eta: object) -> None:
    """Then the next begins when a job of late would have ended."""
    late = [ended(10, 5), ended(5, 5), ended(0, 5)]
    nothing = Document(id=IMAGE, fields={"progress": 7}, version=1, updated_at=NOW, read_at=NOW)
    assert pace_of(late, [running(eta), nothing], NOW) == Pace(first=5.0, each=5.0)

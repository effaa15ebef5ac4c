"""Our own map on a document, however its client mistreats it, and applying changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.core.job import DELETE, SERVER_TIME, Changes, apply
from daemon.core.record import Record, expires_at, holder
from daemon.core.retry import LONGEST, backoff
from tests.core.samples import NOW, Paper, claimed, queued, reason, started, why

JUNK: list[Any] = [None, True, 0, -1, 1.5, "x", b"x", [], ["x"], {}, {"a": 1}, NOW, float("nan"), 10**30]
every_junk = pytest.mark.parametrize("junk", JUNK, ids=repr)
NAMES = ["lease", "result", "attempts", "crashes", "expiries", "not_before", "request", "seeds", "finishes", "replaces"]


@every_junk
def test_a_map_of_ours_that_is_none_is_as_if_absent(junk: object) -> None:
    """Whatever stands there, the job is served."""
    assert reason(queued(easeld=junk).take()) == "job.claimed"


@every_junk
@pytest.mark.parametrize("name", NAMES)
def test_a_mistyped_field_of_ours_never_stops_a_claim(name: str, junk: object) -> None:
    """Ignored, never fatal; times in the past are no hindrance."""
    paper = queued(easeld={name: junk})
    assert reason(paper.take()) == "job.claimed"
    assert paper.ours["lease"]["token"] == "t1"
    assert reason(paper.complete()) == "job.completed"


@every_junk
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("lease", "request")])
def test_a_field_mistyped_during_the_work_never_stops_the_holder(name: str, junk: object) -> None:
    """A client that overwrites our bookkeeping gets its picture all the same."""
    paper = started()
    paper.update(easeld={**paper.ours, name: junk})
    assert reason(paper.renew()) == "job.renewed"
    assert reason(paper.complete()) == "job.completed"


@every_junk
@pytest.mark.parametrize("name", ["worker", "token", "attempt", "seconds", "renewed_at", "started"])
def test_a_mistyped_lease_is_either_rescued_or_nobodys(name: str, junk: object) -> None:
    """It ends within a minute of the last write, or it is no lease of ours."""
    paper = started()
    lease = {**paper.ours["lease"], name: junk}
    paper.update(easeld={**paper.ours, "lease": lease}).wait(61)
    if holder(paper.fields) is None:
        assert name in ("worker", "token")
        assert not isinstance(junk, str)
    else:
        assert reason(paper.expire()) == "job.rescued"


def test_a_lease_cannot_last_beyond_a_day_or_be_renewed_in_the_future() -> None:
    """A forged lease does not keep a job for ever, nor does the largest of all times overflow."""
    paper = started()
    late = datetime.max.replace(tzinfo=UTC)
    paper.update(easeld={**paper.ours, "lease": {**paper.ours["lease"], "renewed_at": late, "seconds": 1e9}})
    lease = holder(paper.fields)
    assert lease is not None
    assert expires_at(paper.document, lease) == paper.now + timedelta(seconds=60)


def test_a_lease_lives_by_its_own_renewals_and_not_by_a_clients_writes() -> None:
    """A client that writes metadata every second does not keep a dead worker's lease alive."""
    paper = started()
    for _ in range(61):
        paper.wait(1).update(mood="sunny")
    assert reason(paper.expire()) == "job.rescued"


@pytest.mark.parametrize("status", ["queued", "completed", None, ["processing"]])
def test_only_a_processing_document_has_a_holder(status: object) -> None:
    """A lease left behind holds nothing."""
    assert holder({**(started().fields or {}), "status": status}) is None
    assert holder(None) is None


def test_counters_are_counted_from_nought_where_they_are_no_counts() -> None:
    """Neither negative, nor boolean, nor a fraction."""
    for value in (-1, True, 1.0, "3", None):
        assert Record.of({"easeld": {"attempts": value}}).attempts == 0
    assert Record.of({"easeld": {"attempts": 3}}).attempts == 3


@pytest.mark.parametrize("seeds", [[True], [1.0], ["1"], "1", {"0": 1}, None])
def test_seeds_that_are_no_integers_are_chosen_anew(seeds: object) -> None:
    """A given-back job with mistyped seeds gets a fresh one."""
    paper = claimed()
    paper.release()
    paper.update(easeld={**paper.ours, "seeds": seeds})
    paper.take("t2", seed=5)
    assert paper.ours["seeds"] == [5]


@pytest.mark.parametrize("name", ["attempts", "crashes", "expiries", "finishes"])
def test_a_counter_at_the_end_of_its_range_is_not_counted_on(name: str) -> None:
    """Firestore's integers have 64 bits: one more would be refused, and each worker would die of it in turn."""
    paper = queued(easeld={name: 2**63 - 1})
    paper.take()
    paper.renew(started=True)
    paper.complete()
    assert paper.ours["finishes"] == 1
    assert paper.ours["result"]["attempt"] == 1
    paper = queued(easeld={name: 2**63 - 1}, prompt=None)
    assert reason(paper.take()) == "job.failed"
    assert paper.ours["finishes"] == 1


def test_seeds_at_the_end_of_their_range_are_chosen_anew() -> None:
    """The next one of a request for two would be too large to write."""
    paper = queued(easeld={"seeds": [2**63 - 1], "request": {"prompt": "x"}}, num_images_per_prompt=2)
    paper.take(seed=7)
    assert paper.ours["seeds"] == [7, 8]


def test_a_claim_in_place_never_counts_below_nought() -> None:
    """Where a client reset the counter of a job whose generation has begun."""
    paper = started()
    paper.update(easeld={**paper.ours, "attempts": 0}, width=256)
    paper.reclaim()
    assert (paper.ours["attempts"], paper.ours["lease"]["attempt"]) == (0, 1)


def test_changes_reach_into_maps_and_fill_in_the_time_at_any_depth() -> None:
    """Dotted paths merge; a map given whole replaces; deleting what is not there does nothing."""
    changes = Changes(
        reason="test",
        fields={
            "a.b": SERVER_TIME,
            "c": {"d": [SERVER_TIME, (1, SERVER_TIME)]},
            "e": DELETE,
            "f.g": DELETE,
            "h.i": 1,
            "j.k": DELETE,
        },
    )
    before = {"a": {"x": 1}, "e": 5, "h": "text", "j": {"k": 1, "l": 2}, "kept": 0}
    assert apply(before, changes, NOW) == {
        "a": {"x": 1, "b": NOW},
        "c": {"d": [NOW, [1, NOW]]},
        "h": {"i": 1},
        "j": {"l": 2},
        "kept": 0,
    }
    assert before == {"a": {"x": 1}, "e": 5, "h": "text", "j": {"k": 1, "l": 2}, "kept": 0}
    assert apply(None, Changes(reason="test", fields={"a": 1}, create=True), NOW) == {"a": 1}


def test_waiting_grows_with_the_attempt_up_to_a_limit_and_half_of_it_is_chance() -> None:
    """Between half and the whole of 5, 10, 20 … 300 seconds, and no attempt is too large."""
    assert [backoff(n, chance=0).total_seconds() for n in (1, 2, 3)] == [2.5, 5.0, 10.0]
    assert backoff(1, chance=0.5).total_seconds() == 3.75
    assert backoff(10**9, chance=0).total_seconds() == LONGEST / 2
    assert all(backoff(n, chance=0.999).total_seconds() < LONGEST for n in range(1, 100))


def test_nothing_is_written_to_a_document_that_is_not_there() -> None:
    """Only a call creates."""
    paper = Paper()
    for write in (paper.take, paper.renew, paper.complete, paper.expire, paper.stop, paper.requeue, paper.cancel):
        assert why(write())
    assert paper.fields is None

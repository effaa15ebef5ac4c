"""What a worker notes of what it holds, for its next life on the machine."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import cast

from daemon.core.job import Collection, JobId
from daemon.heartbeat import Heartbeat
from daemon.held import Held


def held(name: str) -> Held:
    """As much of a claim as is noted."""
    job = JobId(user_id="u", collection=Collection.IMAGES, file_uid=name)
    now = time.monotonic()
    return cast("Held", SimpleNamespace(id=job, token=name, renewed_at=now, claimed_at=now))


def test_a_batch_is_noted_once_and_what_ended_is_left_out_by_the_next_or_the_last() -> None:
    """Noting each end as well would write the file twice for each job; a token that is over gives nothing back."""
    notes: list[list[str]] = []
    heartbeat = Heartbeat(
        interval=15.0, progress_interval=5.0, note=lambda claims: notes.append([token for _, token in claims])
    )
    first, second, third = held("a"), held("b"), held("c")
    heartbeat.keep([first, second])
    heartbeat.forget(first)
    assert notes == [["a", "b"]]
    heartbeat.keep([third])
    heartbeat.forget(second)
    assert notes[1:] == [["b", "c"]]
    heartbeat.forget(third)
    assert notes[2:] == [[]]

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.core.job import Collection, Document, JobId
from daemon.entrypoints.waiting import progress_bars

JOB = JobId(user_id="alice", collection=Collection.IMAGES, file_uid="a")


def document(**fields: Any) -> Document:
    """The job's document with these fields."""
    now = datetime.now(UTC)
    return Document(id=JOB, fields=fields, version=1, updated_at=now, read_at=now)


def generating(step: int, address: object) -> Document:
    """A job at a step, with a preview."""
    progress = {"phase": "generating", "step": step, "steps": 9, "percent": step, "preview_url": address}
    return document(status="processing", progress=progress)


def test_who_waits_is_told_once_where_the_preview_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Its address changes with every step; what steers a terminal, and what is no text, is not printed."""
    with progress_bars([JOB]) as look:
        look(document(status="queued"))
        look(generating(1, 7))
        look(generating(2, "file:///a_preview.jpg\x1b[2J"))
        look(generating(2, "file:///a_preview.jpg?v=2"))
        look(document(status="completed"))
    assert capsys.readouterr().err.splitlines() == [
        "image a: queued",
        "image a: step 1 of 9",
        "preview of image a: file:///a_preview.jpg [2J",
        "image a: step 2 of 9",
        "image a: uploaded",
    ]


def test_who_waits_for_what_nobody_claims_is_told_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while in the queue, and never of a job that somebody had, also where it is queued again."""
    hint = "image a still waits: is a daemon running, and free? `easeld up` starts one here"
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def told(*looks: tuple[float, str]) -> int:
        nonlocal now
        with progress_bars([JOB], patience=20.0) as look:
            for later, status in looks:
                now += later
                look(document(status=status))
        return capsys.readouterr().err.splitlines().count(hint)

    assert told((0.0, "queued"), (19.9, "queued")) == 0
    assert told((0.0, "queued"), (20.0, "queued"), (20.0, "queued")) == 1
    assert told((0.0, "queued"), (1.0, "processing"), (300.0, "queued"), (300.0, "queued")) == 0

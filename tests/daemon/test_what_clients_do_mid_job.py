"""A client cancels, fails, rewrites, changes or deletes its document while a worker generates for it."""

from __future__ import annotations

import pytest

from daemon import rescue
from tests.daemon.rig import Rig, until


def test_a_job_whose_client_asks_for_cancellation_stops_at_the_next_step(rig: Rig) -> None:
    """cancel_requested on a processing document: cancelled, no file, no error, and the device is free again."""
    rig.device.hold()
    job = rig.call("a")
    with rig.worker():
        until(lambda: bool(rig.device.calls), "generation begins")
        rig.device.step()
        rig.merge(job, cancel_requested=True)
        until(lambda: rig.service_sees_end(job), "the worker has noticed")
        rig.device.step()
        fields = rig.until_status(job, "cancelled")
        rig.device.let_go()
        other = rig.call("b")
        rig.until_status(other, "completed")
    assert (fields["generated"], fields["error"]) == (False, False)
    assert "error_message" not in fields
    assert "cancel_requested" not in fields
    assert rig.files() == {"generating/u/image/b.png"}


def test_a_queued_job_whose_client_asks_for_cancellation_is_cancelled_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the hint, not by the next poll, and while the device is busy with another job."""
    monkeypatch.setattr(rescue, "CANCEL_POLL", 3600.0)
    rig.device.hold()
    busy = rig.call("busy")
    with rig.worker():
        until(lambda: bool(rig.device.calls), "generation begins")
        job = rig.call("a", width=512)
        rig.merge(job, cancel_requested=True)
        fields = rig.until_status(job, "cancelled")
        assert rig.status(busy) == "processing"
    assert (fields["generated"], fields["error"]) == (False, False)


def test_a_cancelled_member_leaves_its_batch_and_the_others_go_on(rig: Rig) -> None:
    """Two jobs in one call: the one that is cancelled ends at the next step, the other completes."""
    rig.device.hold()
    one, two = rig.call("one"), rig.call("two")
    with rig.worker():
        until(lambda: bool(rig.device.calls), "generation begins")
        assert len(rig.device.calls[0].items) == 2
        rig.merge(one, cancel_requested=True)
        until(lambda: rig.service_sees_end(one), "the worker has noticed")
        rig.device.step()
        rig.until_status(one, "cancelled")
        assert rig.status(two) == "processing"
        rig.device.let_go()
        rig.until_status(two, "completed")
    assert rig.files() == {"generating/u/image/two.png"}


def test_a_document_that_its_client_fails_stays_as_it_is(rig: Rig) -> None:
    """The client's call was refused, it failed its document: nothing of ours is written or left behind."""
    rig.device.hold()
    job = rig.call("a")
    with rig.worker():
        until(lambda: bool(rig.device.calls), "generation begins")
        rig.merge(job, status="failed", error=True, error_message="refused")
        before = rig.store.read(job)
        until(lambda: rig.service_sees_end(job), "the worker has noticed")
        rig.device.let_go()
        rig.until_status(rig.call("b"), "completed")
    assert rig.store.read(job).version == before.version
    assert rig.files() == {"generating/u/image/b.png"}


def test_a_document_that_is_written_anew_is_a_new_life(rig: Rig) -> None:
    """SetDoc over a processing document: the new request is generated, nothing of the old life touches it."""
    rig.device.hold()
    job = rig.call("a", seed=1)
    with rig.worker():
        until(lambda: bool(rig.device.calls), "generation begins")
        rig.set_anew(job, seed=2, width=320, height=256, num_inference_steps=10)
        until(lambda: rig.service_sees_end(job), "the worker has noticed")
        rig.device.let_go()
        fields = rig.until_status(job, "completed")
    assert fields["seed"] == 2
    assert (rig.device.calls[-1].width, rig.device.calls[-1].items[0].seed) == (320, 2)
    assert rig.files() == {"generating/u/image/a.png"}


def test_a_deleted_document_stays_deleted_and_leaves_no_file(rig: Rig) -> None:
    """Deletion mid-job: the worker stops and writes nothing."""
    rig.device.hold()
    job = rig.call("a")
    with rig.worker():
        until(lambda: bool(rig.device.calls), "generation begins")
        rig.client.delete(job.path)
        until(lambda: rig.service_sees_end(job), "the worker has noticed")
        rig.device.let_go()
        rig.until_status(rig.call("b"), "completed")
    assert rig.store.read(job).fields is None
    assert rig.files() == {"generating/u/image/b.png"}


def test_parameters_that_come_after_the_claim_start_the_job_over(rig: Rig) -> None:
    """The second kind of client was late: the picture is what the call asked for, and no attempt was spent."""
    rig.device.hold()
    rig.set_anew(job := rig.call("a"))
    with rig.worker():
        until(lambda: bool(rig.device.calls), "generation begins")
        rig.call("a", width=384, height=256, num_inference_steps=12)
        until(lambda: rig.service_sees_end(job), "the worker has noticed")
        rig.device.let_go()
        fields = rig.until_status(job, "completed")
    assert (rig.device.calls[-1].width, rig.device.calls[-1].steps) == (384, 12)
    assert fields["easeld"]["result"]["attempt"] == 1
    assert rig.files() == {"generating/u/image/a.png"}

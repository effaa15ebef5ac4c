"""Previews in the bucket: there while a job runs, told on its document, and gone however it ends."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import datetime
from threading import Event

import numpy as np
import pytest
from PIL import Image

from daemon import generation, sweep
from daemon.core.crc32c import crc32c
from daemon.core.errors import BlobsUnavailable, DocumentTooLarge
from daemon.core.job import Changes, Collection, Decide, Document, JobId, Refusal
from daemon.core.objects import ContentType, Mark, Placement
from daemon.core.ports import BlobStore, Store
from daemon.shutdown import EXIT_OK
from models.errors import GenerationFailed
from models.spec import Call
from tests.daemon.rig import Rig, until
from tests.daemon.test_faults import hold_and_die

PICTURE = "generating/u/image/one.png"
PREVIEW = "generating/u/image/one_preview.jpg"


class Gate:
    """A bucket in which a test can hold up or refuse what is done with previews."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self.refused = 0
        self.away = False
        self.putting, self.may_put = Event(), Event()
        self.deleting, self.may_delete = Event(), Event()
        self.may_put.set()
        self.may_delete.set()

    def __getattr__(self, name: str) -> object:
        return getattr(self._blobs, name)

    def put(self, name: str, content: bytes, placement: Placement) -> int | None:
        if name == PREVIEW:
            if self.away:
                self.refused += 1
                raise BlobsUnavailable("the bucket takes no previews")
            self.putting.set()
            self.may_put.wait(20.0)
        return self._blobs.put(name, content, placement)

    def delete(self, name: str, generation: int) -> bool:
        if name == PREVIEW:
            self.deleting.set()
            self.may_delete.wait(20.0)
        return self._blobs.delete(name, generation)


@pytest.fixture
def gate(rig: Rig) -> Gate:
    """The rig's bucket."""
    gate = Gate(rig.blobs)
    rig.blobs = gate  # type: ignore[assignment]  # it passes every other call on
    return gate


def told(rig: Rig, job: JobId) -> object:
    """The address of the preview on the document, where there is one."""
    return rig.fields(job).get("progress", {}).get("preview_url")


def run_to_preview(rig: Rig, *, collection: Collection = Collection.IMAGES, **parameters: object) -> JobId:
    """Let a job run to a step at which its preview is in the bucket and on the document, and hold it there."""
    rig.device.hold()
    job = rig.call("one", collection=collection, **parameters)
    rig.device.step()
    until(lambda: told(rig, job) is not None, "the document tells of the preview")
    return job


def leave(rig: Rig, name: str, *, token: str) -> None:
    """Put an object into the bucket as a claim leaves it that is killed before it cleans up."""
    mark = Mark(document="generations/u/images/one", token=token, attempt=1, claimed=1)
    placement = Placement(generation=0, content_type=ContentType.JPEG, crc32c=crc32c(b"left"), mark=mark)
    assert rig.blobs.put(name, b"left", placement) is not None


def test_a_preview_stands_beside_the_result_to_come(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG under a name of its own, marked as this claim's, replaced in place as the picture forms; then it goes."""
    monkeypatch.setattr(generation, "LOOK_EVERY", 0.0)
    with rig.worker(upload_previews=True):
        job = run_to_preview(rig)
        assert told(rig, job) == f"file:///media/{PREVIEW}"
        first = rig.blobs.look(PREVIEW)
        assert first is not None
        mark, lease = Mark.read(first.metadata), rig.fields(job)["easeld"]["lease"]
        assert mark is not None
        assert (mark.document, mark.token, mark.attempt) == (job.path, lease["token"], lease["attempt"])
        picture = Image.open(io.BytesIO((rig.folder / "media" / PREVIEW).read_bytes()))
        assert (picture.format, picture.size) == ("JPEG", (8, 8))
        rig.device.step()
        until(lambda: rig.blobs.look(PREVIEW) not in (first, None), "a newer one is there")
        assert rig.files() == {PREVIEW}
        rig.device.let_go()
        fields = rig.until_status(job, "completed")
        until(lambda: rig.files() == {PICTURE}, "the preview is gone")
    assert "preview" not in str(fields)


def test_a_video_has_its_preview_too(rig: Rig) -> None:
    """In its own folder."""
    with rig.worker(upload_previews=True):
        job = run_to_preview(rig, collection=Collection.VIDEOS, num_frames=16)
        assert rig.files() == {"generating/u/video/one_preview.jpg"}
        rig.device.let_go()
        rig.until_status(job, "completed")
        until(lambda: rig.files() == {"generating/u/video/one.mp4"}, "the preview is gone")


ENDS: dict[str, tuple[Callable[[Rig, JobId], object], str | None]] = {
    "its client cancels": (lambda rig, job: rig.merge(job, cancel_requested=True), "cancelled"),
    "its client gives up": (lambda rig, job: rig.merge(job, status="failed", error=True, error_message="x"), "failed"),
    "its client deletes it": (lambda rig, job: rig.client.delete(job.path), None),
    "it is written anew": (lambda rig, job: rig.set_anew(job, user_id="u", file_uid="one"), "completed"),
    "its parameters change": (lambda rig, job: rig.merge(job, width=264), "completed"),
    "another has its lease": (lambda rig, job: rig.merge(job, **{"easeld.lease.token": "another"}), "processing"),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_preview_is_gone_whoever_ends_its_claim(rig: Rig, how: str) -> None:
    """Also where the worker only learns that the job is no longer its own."""
    end, becomes = ENDS[how]
    with rig.worker(upload_previews=True):
        job = run_to_preview(rig)
        token = rig.fields(job)["easeld"]["lease"]["token"]
        end(rig, job)
        assert rig.running is not None
        heartbeat = rig.running.service.heartbeat
        until(lambda: all(held.token != token or held.gone for held in heartbeat.held()), "the worker knows")
        rig.device.let_go()
        until(lambda: rig.status(job) == becomes, f"the job is {becomes}")
        until(lambda: PREVIEW not in rig.files(), "the preview is gone")


def test_a_preview_of_a_job_that_fails_is_gone(rig: Rig) -> None:
    """After some steps, as most that fail."""

    def trouble(call: Call) -> None:
        assert call.on_look is not None
        call.on_look(lambda: [np.zeros((8, 8, 3), np.uint8) for _ in call.items])
        until(lambda: PREVIEW in rig.files(), "the preview is there")
        raise GenerationFailed("the pipeline broke")

    rig.device.trouble = trouble
    with rig.worker(upload_previews=True):
        rig.until_status(rig.call("one"), "failed")
        until(lambda: rig.files() == set(), "nothing is left")


def test_a_preview_of_a_job_that_is_given_back_is_gone(rig: Rig) -> None:
    """The next worker begins anew, and the document says nothing of it."""
    with rig.worker(upload_previews=True) as running:
        job = run_to_preview(rig)
        running.shutdown.stop("a test")
        rig.device.step()
        assert running.wait() == EXIT_OK
    assert rig.status(job) == "queued"
    assert told(rig, job) is None
    assert rig.files() == set()


def test_a_drained_worker_does_not_end_before_the_last_preview_is_gone(rig: Rig, gate: Gate) -> None:
    """The job is completed, its claim is over, and still there is something to do."""
    with rig.worker(upload_previews=True, grace=20.0) as running:
        job = run_to_preview(rig)
        gate.may_delete.clear()
        running.shutdown.drain("a test")
        rig.device.let_go()
        rig.until_status(job, "completed")
        until(gate.deleting.is_set, "the preview is being removed")
        running.thread.join(0.5)
        assert running.thread.is_alive()
        gate.may_delete.set()
        assert running.wait() == EXIT_OK
    assert rig.files() == {PICTURE}


def test_an_upload_that_outlives_its_job_is_removed_when_it_comes(rig: Rig, gate: Gate) -> None:
    """No step and no result waits for it, and whoever ended the job has looked too early."""
    gate.may_put.clear()
    with rig.worker(upload_previews=True):
        rig.device.hold()
        job = rig.call("one")
        rig.device.step()
        until(gate.putting.is_set, "the preview is on its way")
        rig.device.let_go()
        rig.until_status(job, "completed")
        until(lambda: rig.service_sees_end(job), "the worker knows")
        gate.may_put.set()
        until(gate.deleting.is_set, "the preview came, and is removed")
        until(lambda: rig.files() == {PICTURE}, "it is gone")


def test_a_bucket_that_takes_no_previews_costs_no_picture(rig: Rig, gate: Gate) -> None:
    """The document tells of none, and the job is none the worse for it."""
    gate.away = True
    with rig.worker(upload_previews=True):
        rig.device.hold()
        job = rig.call("one")
        rig.device.step()
        until(lambda: gate.refused > 0, "the preview is refused")
        rig.device.let_go()
        assert rig.until_status(job, "completed")["easeld"]["result"]["attempt"] == 1
    assert rig.files() == {PICTURE}


def test_a_file_of_somebody_elses_under_that_name_stays(rig: Rig) -> None:
    """There is no preview then."""
    theirs = rig.folder / "media" / PREVIEW
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"a person's")
    with rig.worker(upload_previews=True) as running:
        rig.device.hold()
        job = rig.call("one")
        rig.device.step()
        until(lambda: any(not held.shows_preview for held in running.service.heartbeat.held()), "it was looked at")
        rig.device.let_go()
        rig.until_status(job, "completed")
    assert theirs.read_bytes() == b"a person's"
    assert rig.files() == {PICTURE, PREVIEW}


class Tight:
    """A store whose documents have no room for the address of a preview."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.refused = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def update(self, target: Document | JobId, decide: Decide) -> Document | Refusal:
        def checked(document: Document, now: datetime) -> Changes | Refusal:
            changes = decide(document, now)
            if "preview_url" in str(changes):
                self.refused += 1
                raise DocumentTooLarge("no room")
            return changes

        return self._store.update(target, checked)


def test_a_document_without_room_for_the_address_keeps_its_lease(rig: Rig) -> None:
    """The next renewal goes through without it."""
    tight = Tight(rig.store)
    rig.store = tight  # type: ignore[assignment]  # it passes every other call on
    with rig.worker(upload_previews=True, lease=3.0):
        rig.device.hold()
        job = rig.call("one")
        rig.device.step()
        until(lambda: tight.refused > 0, "there is no room")
        modified = rig.fields(job)["modified"]
        until(lambda: rig.fields(job)["modified"] > modified, "the lease is renewed")
        rig.device.let_go()
        rig.until_status(job, "completed")
        until(lambda: rig.files() == {PICTURE}, "the preview is gone")
    assert tight.refused == 1


# What killed workers leave


def test_a_preview_of_a_killed_worker_goes_with_the_rescue(rig: Rig) -> None:
    """By a worker that uploads none itself, and serves no such model."""
    job = rig.call("one")
    hold_and_die(rig, job, lease=2.0)
    leave(rig, PREVIEW, token=rig.fields(job)["easeld"]["lease"]["token"])
    with rig.worker(lease=2.0, models=["motion"], state=rig.folder / "another"):
        rig.until_status(job, "queued")
        until(lambda: rig.files() == set(), "the preview is gone")


def test_a_preview_of_an_earlier_claim_goes_even_where_the_base_name_is_free(rig: Rig) -> None:
    """Given back by a worker that was killed before it cleaned up: the next claim's media say nothing of it."""
    leave(rig, PREVIEW, token="gone")
    with rig.worker(upload_previews=True):
        rig.until_status(rig.call("one"), "completed")
        until(lambda: rig.files() == {PICTURE}, "the preview is gone")


def test_a_preview_beside_a_result_is_an_orphan(rig: Rig) -> None:
    """Of a worker that was killed between the result and cleaning up: the result does not name it, only its media."""
    with rig.worker():
        job = rig.call("one")
        rig.until_status(job, "completed")
    leave(rig, PREVIEW, token=rig.fields(job)["easeld"]["result"]["token"])
    assert [found.name for found in sweep.orphans(rig.store, rig.blobs, prefix="generating")] == [PREVIEW]
    assert [found.name for found in sweep.sweep(rig.store, rig.blobs, prefix="generating")] == [PREVIEW]
    assert rig.files() == {PICTURE}


def test_a_preview_of_a_living_claim_is_no_orphan(rig: Rig) -> None:
    """Whoever sweeps the bucket leaves it."""
    with rig.worker(upload_previews=True):
        job = run_to_preview(rig)
        assert list(sweep.orphans(rig.store, rig.blobs, prefix="generating")) == []
        rig.device.let_go()
        rig.until_status(job, "completed")

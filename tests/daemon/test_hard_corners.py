"""What a hostile reviewer found: each of these once lost a job, a file or the whole worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from daemon import claiming, encode, rescue, settings
from daemon.core import lifecycle
from daemon.core.errors import BlobsUnavailable, DocumentTooLarge, StoreUnavailable
from daemon.core.job import SERVER_TIME, Collection, Decide, Document, JobId, Refusal
from daemon.core.policy import Ticket
from daemon.core.ports import Store
from daemon.own_claims import OwnClaims
from daemon.serving import policy
from daemon.shutdown import EXIT_BROKEN, EXIT_DEVICE
from models.catalog import BUILTIN
from models.errors import DeviceLost, DeviceUnfit, GenerationFailed
from models.spec import Call
from tests.daemon.rig import Rig, until


class Wrapped:
    """A store whose writes a test can interfere with."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.before: Callable[[JobId], None] = lambda _: None
        self.after_claim: Callable[[JobId], None] = lambda _: None

    def update(self, target: Document | JobId, decide: Decide) -> Document | Refusal:
        self.before(target.id if isinstance(target, Document) else target)
        return self._store.update(target, decide)

    def claim_together(self, claims: object) -> None:
        """Each claim by itself, so that the test has a word in it."""

    def claim(self, document: Document, decide: Decide) -> Document | Refusal:
        self.before(document.id)
        result = self._store.claim(document, decide)
        self.after_claim(document.id)
        return result

    def __getattr__(self, name: str) -> Callable[..., object]:
        return getattr(self._store, name)  # type: ignore[no-any-return]


@pytest.fixture(name="wrapped")
def _wrapped(rig: Rig) -> Wrapped:
    wrapped = Wrapped(rig.store)
    rig.store = wrapped  # type: ignore[assignment]  # it passes every other call on
    return wrapped


@pytest.mark.parametrize("length", [230, 245, 249])
def test_a_long_name_does_not_stop_the_worker_that_cleans_up(rig: Rig, length: int) -> None:
    """Its picture's name just fits into a folder, and the names of others that it may have had do not."""
    long, other = rig.call("a" * length), rig.call("other")

    def fail(_call: Call) -> None:
        raise GenerationFailed("no")

    rig.device.trouble = fail
    with rig.worker(max_batch=1) as running:
        rig.until_status(long, "failed")
        rig.until_status(other, "failed")
        until(lambda: not running.service.worker.busy, "it has cleaned up")
    assert running.exit == 0


def test_a_model_that_this_device_cannot_run_is_left_to_another(rig: Rig) -> None:
    """Its jobs are put off and not split: nothing is wrong with them."""
    loads: list[None] = []

    def load() -> None:
        loads.append(None)
        raise DeviceUnfit("attention cannot be had here")

    with rig.worker(max_batch=4) as running:
        until(lambda: running.service.vitals.idle_reason() is None, "the worker claims")
        rig.device.load = load
        jobs = [rig.call(name) for name in "abcd"]
        until(lambda: all("not_before" in rig.fields(job).get("easeld", {}) for job in jobs), "all are put off")
    assert len(loads) <= len(jobs)
    assert {rig.status(job) for job in jobs} == {"queued"}


@pytest.mark.parametrize("corner", ["queued", "cancelled", "expired", "own"])
def test_a_document_without_room_does_not_stop_the_worker(rig: Rig, wrapped: Wrapped, corner: str) -> None:
    """In the claim, the cancellation, the rescue, and after a restart: the worker goes on with the others."""
    job, state = rig.call("large"), rig.folder / "state"
    if corner == "cancelled":
        rig.merge(job, cancel_requested=True)
    if corner in ("expired", "own"):
        document = rig.store.read(job)
        ticket = Ticket(worker="dead", token="dead", seed=1)
        rules = policy(settings.load(lease=2.0 if corner == "expired" else 3600.0, heartbeat=0.5), BUILTIN)
        assert isinstance(rig.store.claim(document, partial(lifecycle.take, policy=rules, ticket=ticket)), Document)
    if corner == "own":
        claims = OwnClaims.open(state)
        assert claims is not None
        claims.write([(job, "dead")])
        claims.close()
    tried = threading.Event()

    def check(of: JobId) -> None:
        if of == job:
            tried.set()
            raise DocumentTooLarge("the document has no room")

    wrapped.before = check
    with rig.worker(max_batch=1, state=state) as running:
        assert tried.wait(20.0)
        rig.until_status(rig.call("good"), "completed")
        assert running.thread.is_alive()
    assert rig.status(job) == ("queued" if corner in ("queued", "cancelled") else "processing")


def test_what_nobody_foresaw_counts_as_a_crash_of_the_job(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncounted, the job would come first again, and stop every worker in turn."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(encode, "png", broken)
    job = rig.call("a")
    with rig.worker() as running:
        assert running.wait() == EXIT_BROKEN
    easeld = rig.fields(job)["easeld"]
    assert (rig.status(job), easeld["attempts"], easeld["crashes"]) == ("queued", 1, 1)


def test_a_worker_that_breaks_claims_no_more_before_its_job_is_queued_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it could claim the job that broke it itself, and count a second attempt."""
    update, draining = type(rig.store).update, list[bool]()

    def watched(store: Store, target: Document | JobId, decide: Decide) -> Document | Refusal:
        result = update(store, target, decide)
        if rig.running is not None and isinstance(result, Document) and (result.fields or {})["status"] == "queued":
            draining.append(rig.running.shutdown.draining.is_set())
        return result

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(encode, "png", broken)
    rig.call("a")
    monkeypatch.setattr(type(rig.store), "update", watched)
    with rig.worker() as running:
        assert running.wait() == EXIT_BROKEN
    assert draining == [True]


def test_a_full_disk_puts_the_job_off(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes: the job goes back for later, and the worker stays."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encode, "mp4", full)
    job = rig.call("a", collection=Collection.VIDEOS)
    with rig.worker() as running:
        until(lambda: "not_before" in rig.fields(job).get("easeld", {}), "the job is put off")
        assert running.exit is None
    assert rig.status(job) == "queued"


def test_a_note_that_cannot_be_written_does_not_stop_the_worker(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It only saves waiting after a restart."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OwnClaims, "write", full)
    job = rig.call("a")
    with rig.worker():
        rig.until_status(job, "completed")


def test_jobs_already_claimed_into_a_batch_go_on_when_the_store_goes_away(rig: Rig, wrapped: Wrapped) -> None:
    """The second claim of a batch fails: the first is generated, not forgotten until its lease ends."""
    one, two = rig.call("one"), rig.call("two")

    def away(job: JobId) -> None:
        if job == two and rig.status(one) == "processing":
            wrapped.before = lambda _: None
            raise StoreUnavailable("away for a moment")

    wrapped.before = away
    with rig.worker(lease=3600.0):
        rig.until_status(one, "completed")
        rig.until_status(two, "completed")


def test_a_claim_that_was_never_heard_of_again_is_found(rig: Rig, wrapped: Wrapped) -> None:
    """The commit succeeded and the call failed: the job is ours, and goes on before its lease ends."""
    job = rig.call("a")

    def away(_: JobId) -> None:
        wrapped.after_claim = lambda _: None
        raise StoreUnavailable("the answer was lost")

    wrapped.after_claim = away
    with rig.worker(lease=3600.0):
        fields = rig.until_status(job, "completed")
    assert fields["easeld"]["result"]["attempt"] == 1


def test_a_document_without_created_at_is_served_although_the_queue_never_empties(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep has its turn while the window always has something to claim."""
    monkeypatch.setattr(claiming, "SWEEP_EVERY", 0.2)
    hidden = JobId(user_id="u", collection=Collection.IMAGES, file_uid="hidden")
    rig.client.set(hidden.path, {"prompt": "x", "width": 256, "height": 256, "status": "queued"})
    done = threading.Event()

    def keep_full() -> None:
        number = 0
        while not done.is_set():
            jobs = [rig.call(f"{number}-{index}") for index in range(4)]
            number += 1
            until(lambda: done.is_set() or rig.status(jobs[0]) == "completed", "the queue moves")  # noqa: B023

    filler = threading.Thread(target=keep_full)
    with rig.worker(max_batch=1):
        filler.start()
        try:
            rig.until_status(hidden, "completed")
        finally:
            done.set()
            filler.join()


def test_documents_of_an_older_worker_do_not_hide_ours_from_the_rescue(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay untouched for ever, and are first in the order in which expired leases are looked for."""
    monkeypatch.setattr(rescue, "PAGE", 3)
    monkeypatch.setattr(rescue, "SWEEP_EVERY", 3600.0)
    for number in range(7):
        old = JobId(user_id="u", collection=Collection.IMAGES, file_uid=f"old-{number}")
        rig.client.set(old.path, {"prompt": "x", "status": "processing", "modified": SERVER_TIME})
    job = rig.call("a")
    rig.device.hold()
    with rig.worker(lease=2.0) as running:
        until(lambda: rig.fields(job).get("easeld", {}).get("attempts") == 1, "generation has begun")
        fields = rig.fields(job)
        running.shutdown.stop("dying")
        running.wait()
    rig.merge(job, modified=SERVER_TIME, **{name: fields[name] for name in ("status", "easeld")})
    rig.device.let_go()
    with rig.worker(lease=2.0, state=rig.folder / "another"):
        rig.until_status(job, "completed")


def test_a_lost_device_does_not_burn_the_job_that_waits_for_it(rig: Rig) -> None:
    """The prefetched job goes back as if it had never been claimed."""

    def trouble(call: Call) -> None:
        if len(rig.device.calls) == 1:
            until(lambda: rig.status(ahead) == "processing", "the next job is claimed")
            raise DeviceLost("CUDA error: an illegal memory access was encountered")

    rig.device.trouble = trouble
    rig.call("a")
    ahead = rig.call("b", width=320)
    with rig.worker(prefetch=float("inf"), max_batch=1) as running:
        assert running.wait() == EXIT_DEVICE
    assert len(rig.device.calls) == 1
    assert (rig.status(ahead), rig.fields(ahead)["easeld"]["attempts"]) == ("queued", 0)


def test_a_job_cancelled_after_it_was_given_back_leaves_no_file(rig: Rig) -> None:
    """An attempt was killed after its upload; the job ends without another claim, and the file goes with it."""
    job = rig.call("a")
    with rig.worker():
        rig.until_status(job, "completed")
    fields = rig.fields(job)
    result = fields["easeld"]["result"]
    lease = {"worker": "w", "token": result["token"], "attempt": 1, "seconds": 60.0, "started": True}
    ours = {"lease": {**lease, "renewed_at": SERVER_TIME}, "attempts": 1, "request": fields["easeld"]["request"]}
    rig.set_anew(job, status="processing", modified=SERVER_TIME, easeld=ours)  # as if killed before completing
    assert isinstance(rig.store.update(job, partial(lifecycle.release, token=result["token"])), Document)
    rig.merge(job, cancel_requested=True)
    assert rig.files() == {"generating/u/image/a.png"}
    with rig.worker(models=["motion"]):
        rig.until_status(job, "cancelled")
        until(lambda: rig.files() == set(), "the file is gone")


def test_a_cancellation_does_not_wait_for_a_bucket_that_is_away(rig: Rig) -> None:
    """Finished jobs wait for the bucket as long as it takes; a job that its client cancels ends at its next step."""
    blobs, away = rig.blobs, threading.Event()

    class Away:
        def __getattr__(self, name: str) -> Callable[..., object]:
            if away.is_set():
                raise BlobsUnavailable("the bucket is away")
            return getattr(blobs, name)  # type: ignore[no-any-return]

    rig.blobs = Away()  # type: ignore[assignment]  # it passes every call on
    away.set()
    rig.device.hold()
    waiting = [rig.call("one"), rig.call("two")]
    with rig.worker(finishing=2, max_batch=2, prefetch=1000.0):
        until(lambda: bool(rig.device.calls), "generation begins")
        job = rig.call("three", width=384)
        rig.device.step()
        rig.until_status(job, "processing")
        rig.device.step(9)  # the rest of the first call
        until(lambda: len(rig.device.calls) == 2, "the third is begun")
        rig.merge(job, cancel_requested=True)
        until(lambda: rig.service_sees_end(job), "the worker has noticed")
        rig.device.step()
        rig.until_status(job, "cancelled")
        assert [rig.status(other) for other in waiting] == ["processing", "processing"]
        away.clear()
        rig.device.let_go()
        for other in waiting:
            rig.until_status(other, "completed")
    rig.blobs = blobs

"""The device fails, hangs or is told to stop; the bucket or the store goes away: no job is lost, none runs twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from daemon import generation, heartbeat
from daemon.core.errors import BlobsUnavailable, StoreUnavailable
from daemon.core.job import Changes, Decide, Document, JobId, Refusal
from daemon.core.ports import BlobStore, Store
from daemon.own_claims import OwnClaims
from daemon.shutdown import EXIT_DEVICE
from models.errors import BadOutput, DeviceLost, GenerationFailed, ModelMissing, OutOfMemory
from models.spec import Call
from tests.daemon.rig import Rig, until


class AwayBlobs:
    """A bucket that a test takes away."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self.away = Event()
        self.refused = 0

    def __getattr__(self, name: str) -> Callable[..., object]:
        if self.away.is_set():
            self.refused += 1
            raise BlobsUnavailable("the bucket is away")
        return getattr(self._blobs, name)  # type: ignore[no-any-return]


class AwayStore:
    """A store that a test takes away, for everything but reading the clock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = Event()
        self.refused = 0

    def __getattr__(self, name: str) -> Callable[..., object]:
        if self.away.is_set() and name not in ("now", "close"):
            self.refused += 1
            raise StoreUnavailable("the store is away")
        return getattr(self._store, name)  # type: ignore[no-any-return]


# Drain


def test_a_drain_lets_the_running_job_end(rig: Rig) -> None:
    """SIGTERM: no new claim, the running job is completed, exit status 0."""
    rig.device.hold()
    job = rig.call("a")
    with rig.worker(grace=20.0) as running:
        until(lambda: bool(rig.device.calls), "generation begins")
        running.shutdown.drain("a test")
        other = rig.call("b")
        rig.device.let_go()
        assert running.wait() == 0
    assert rig.status(job) == "completed"
    assert rig.status(other) == "queued"


def test_a_drain_that_takes_too_long_gives_the_job_back_without_counting_the_attempt(rig: Rig) -> None:
    """The grace is over at a step: queued again, attempts 0, no sign of an error, within grace + 2 s."""
    rig.device.hold()
    job = rig.call("a")
    with rig.worker(grace=0.5) as running:
        until(lambda: bool(rig.device.calls), "generation begins")
        rig.device.step()
        began = time.monotonic()
        running.shutdown.drain("a test")
        until(running.shutdown.now.is_set, "the grace is over")
        rig.device.step()
        assert running.wait(within=2.5) == 0
        assert time.monotonic() - began < 2.5
    fields = rig.fields(job)
    assert (fields["status"], fields["error"], fields["easeld"]["attempts"]) == ("queued", False, 0)
    assert "lease" not in fields["easeld"]
    assert "progress" not in fields


def test_a_device_that_does_not_step_does_not_hold_up_the_end(rig: Rig) -> None:
    """The device's thread hangs at the stop: the job is given back and the process ends without it."""
    rig.device.hold()
    job = rig.call("a")
    with rig.worker(grace=0.2) as running:
        until(lambda: bool(rig.device.calls), "generation begins")
        running.shutdown.drain("a test")
        assert running.wait(within=2.2) == 0
        assert rig.status(job) == "queued"


def test_a_prefetched_job_is_given_back_at_once(rig: Rig) -> None:
    """What was claimed ahead goes back when the drain begins, while the running job still runs."""
    rig.device.hold()
    job = rig.call("a")
    with rig.worker(grace=20.0, prefetch=1000.0, max_batch=1) as running:
        until(lambda: bool(rig.device.calls), "generation begins")
        ahead = rig.call("b")
        rig.device.step()
        rig.until_status(ahead, "processing")
        running.shutdown.drain("a test")
        rig.until_status(ahead, "queued")
        assert rig.status(job) == "processing"
        rig.device.let_go()
        assert running.wait() == 0
    assert rig.status(job) == "completed"


# The device


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OutOfMemory("CUDA Out of Memory during image generation (256x256)"), "OutOfMemoryError", "CUDA Out of Memory"),
        (BadOutput("all of it is black"), "RuntimeError", "all of it is black"),
        (GenerationFailed("shapes do not fit"), "RuntimeError", "shapes do not fit"),
        (ModelMissing("no weights"), "ModelNotAvailable", "no weights"),
    ],
)
def test_a_call_that_fails_ends_its_job_with_the_contracts_type(
    rig: Rig, error: Exception, kind: str, words: str
) -> None:
    """A deterministic failure is final at once; the next job is untouched."""

    def trouble(call: Call) -> None:
        if call.items[0].prompt == "bad":
            raise error

    rig.device.trouble = trouble
    bad = rig.call("bad", prompt="bad")
    with rig.worker(max_batch=1):
        fields = rig.until_status(bad, "failed")
        rig.until_status(rig.call("good"), "completed")
    assert (fields["generated"], fields["error"], fields["error_type"]) == (False, True, kind)
    assert words in fields["error_message"]


def test_with_exact_a_single_job_fills_its_call_and_still_gets_its_own_pictures(rig: Rig) -> None:
    """Two pictures in a call of four; the copies that fill it go nowhere."""
    job = rig.call("exact", num_images_per_prompt=2, seed=7)
    with rig.worker(exact=True, max_batch=4):
        fields = rig.until_status(job, "completed")
    assert [len(call.items) for call in rig.device.calls] == [4]
    assert fields["image_count"] == 2
    assert len(rig.files()) == 2


def test_a_member_that_spoils_its_batch_is_found_and_the_others_succeed(rig: Rig) -> None:
    """Four jobs in one call, one of which breaks every call it is in: it alone fails."""

    def trouble(call: Call) -> None:
        if any(item.prompt == "poison" for item in call.items):
            raise GenerationFailed("poison")

    rig.device.trouble = trouble
    jobs = [rig.call(name, prompt="poison" if name == "c" else "x") for name in "abcd"]
    with rig.worker():
        for job in jobs:
            rig.until_status(job, "failed" if job.file_uid == "c" else "completed")
    assert len(rig.device.calls[0].items) == 4


def test_a_lost_device_gives_its_jobs_back_and_ends_the_process(rig: Rig) -> None:
    """The attempt counts, the job will run alone, and the exit status asks the supervisor for a restart."""

    def trouble(call: Call) -> None:
        raise DeviceLost("CUDA error: device-side assert triggered")

    rig.device.trouble = trouble
    job = rig.call("a")
    with rig.worker() as running:
        assert running.wait() == EXIT_DEVICE
    easeld = rig.fields(job)["easeld"]
    assert (rig.status(job), easeld["attempts"], easeld["crashes"]) == ("queued", 1, 1)


def test_a_hung_device_gives_its_jobs_back_and_ends_the_process(rig: Rig) -> None:
    """No step within the limit: as a lost device, although its thread never comes back."""
    rig.device.hold()
    job = rig.call("a")
    with rig.worker(step_limit=0.5) as running:
        assert running.wait() == EXIT_DEVICE
        assert rig.fields(job)["easeld"]["attempts"] == 1
    assert rig.status(job) == "queued"


def test_a_model_that_takes_long_to_load_is_no_hung_device(rig: Rig) -> None:
    """Weights may have to come from the other end of the world; the limit is for steps."""
    loaded = Event()
    with rig.worker(step_limit=1.0) as running:
        until(lambda: running.service.vitals.doing == "claiming", "the worker claims")
        rig.device.load = lambda: until(loaded.is_set, "the test goes on")
        job = rig.call("a")
        rig.until_status(job, "processing")
        assert not running.shutdown.draining.wait(2.5)  # the deadman looks every second
        assert rig.fields(job)["progress"]["phase"] == "loading"
        loaded.set()
        rig.until_status(job, "completed")


def test_an_unfit_machine_claims_nothing(rig: Rig) -> None:
    """Too little disk: the job stays queued, the worker stays up and ends when told."""
    job = rig.call("a")
    with rig.worker(min_free_disk=1e9) as running:
        running.shutdown.drain("a test")
        assert running.wait() == 0
    assert rig.status(job) == "queued"
    assert rig.device.calls == []


# Rescue


def hold_and_die(rig: Rig, job: JobId, *, attempt: int = 1, **overrides: Any) -> None:
    """Leave a job as a worker leaves it that is killed in the middle of a step."""
    rig.device.hold()
    with rig.worker(**overrides) as running:
        until(lambda: rig.fields(job).get("easeld", {}).get("attempts") == attempt, "generation has begun")
        fields = rig.fields(job)
        running.shutdown.stop("dying")
        running.wait()
    rig.merge(job, **{name: fields[name] for name in ("status", "easeld")})


def test_a_job_of_a_dead_worker_is_rescued_when_its_lease_ends(rig: Rig) -> None:
    """The lease is over: another worker completes the job, as its second attempt and alone."""
    job = rig.call("a")
    hold_and_die(rig, job, lease=2.0)
    rig.device.let_go()
    with rig.worker(lease=2.0, state=rig.folder / "another"):
        fields = rig.until_status(job, "completed")
    assert fields["easeld"]["result"]["attempt"] == 2


def test_a_restarted_worker_takes_back_what_its_earlier_life_held(rig: Rig, tmp_path: Path) -> None:
    """The lease of an hour does not have to end: the file's lock is free, so whoever held it is dead."""
    job = rig.call("a")
    hold_and_die(rig, job, lease=3600.0)
    token = rig.fields(job)["easeld"]["lease"]["token"]
    claims = OwnClaims.open(tmp_path / "state")
    assert claims is not None
    claims.write([(job, token)])
    claims.close()
    rig.device.let_go()
    with rig.worker(lease=3600.0, state=tmp_path / "state"):
        rig.until_status(job, "completed")


def test_a_claim_that_is_not_in_the_own_file_is_left_alone(rig: Rig, tmp_path: Path) -> None:
    """A living lease of an hour, of somebody else's, stays untouched."""
    job = rig.call("a")
    hold_and_die(rig, job, lease=3600.0)
    rig.device.let_go()
    with rig.worker(lease=3600.0, state=tmp_path / "empty"):
        rig.until_status(rig.call("b"), "completed")
    assert rig.status(job) == "processing"


def test_a_job_that_kills_every_worker_fails_after_the_last_attempt(rig: Rig) -> None:
    """Quarantine: three dead workers are enough, and the message says so."""
    job = rig.call("a")
    for attempt in (1, 2, 3):
        hold_and_die(rig, job, attempt=attempt, lease=2.0)
        with rig.worker(lease=2.0, models=["motion"]):  # one that rescues it, and does not serve it
            until(lambda: rig.status(job) != "processing", "the lease has ended")
    fields = rig.fields(job)
    assert (fields["status"], fields["error_type"]) == ("failed", "RuntimeError")
    assert "3 of 3 attempts" in fields["error_message"]


class SlowToCount:
    """A store in which the write that counts an attempt waits until a call has ``begun``, for half a second at most."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.begun, self.counted = Event(), Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def update(self, target: Document | JobId, decide: Decide) -> Document | Refusal:
        counts = False

        def slow(document: Document, now: datetime) -> Changes | Refusal:
            nonlocal counts
            changes = decide(document, now)
            counts = isinstance(changes, Changes) and "easeld.lease.started" in changes.fields
            if counts:
                self.begun.wait(0.5)
            return changes

        result = self._inner.update(target, slow)
        if counts:
            self.counted.set()
        return result


CALM: dict[str, Any] = {"heartbeat": 60.0, "progress_interval": 60.0, "lease": 300.0}  # no renewal for its own sake


def test_a_short_generation_is_spared_the_write_that_counts_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claimed and completed are all that is written."""
    for module in (generation, heartbeat):
        monkeypatch.setattr(module, "COUNTED_FROM", 60.0)  # so that it is short on any machine
    job = rig.call("a")
    called = rig.store.read(job).version
    with rig.worker(**CALM):
        rig.until_status(job, "completed")
    assert rig.store.read(job).version == called + 2


def test_a_step_that_lasts_is_counted_meanwhile(rig: Rig) -> None:
    """The device need not come to the end of a step for it."""
    job = rig.call("a")
    rig.device.trouble = lambda _: until(lambda: rig.fields(job)["easeld"].get("attempts") == 1, "it is counted")
    with rig.worker(**CALM):
        rig.until_status(job, "completed")


def test_what_was_lost_early_is_counted_before_it_begins_and_runs_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that kills its worker within moments costs no attempt once, and from then on always."""
    job = rig.call("a", prompt="killer")
    with monkeypatch.context() as moment:
        for module in (generation, heartbeat):
            moment.setattr(module, "COUNTED_FROM", 60.0)
        rig.device.hold()
        with rig.worker(lease=2.0, heartbeat=0.6, progress_interval=60.0) as running:
            until(lambda: bool(rig.device.calls), "generation has begun")
            fields = rig.fields(job)
            running.shutdown.stop("dying")
            running.wait()
    rig.merge(job, **{name: fields[name] for name in ("status", "easeld")})
    assert not fields["easeld"].get("attempts")
    with rig.worker(lease=2.0, models=["motion"]):  # one that rescues it, and does not serve it
        until(lambda: rig.status(job) == "queued", "the lease has ended")
    others = [rig.call(f"other-{number}") for number in range(3)]
    rig.store = store = SlowToCount(rig.store)
    seen: dict[str, tuple[bool, int]] = {}

    def begun(call: Call) -> None:
        if call.items[0].prompt == "killer":
            seen["killer"] = (store.counted.is_set(), len(call.items))
            store.begun.set()

    rig.device.trouble = begun
    with rig.worker(state=rig.folder / "another"):
        for one in (job, *others):
            rig.until_status(one, "completed")
    assert seen == {"killer": (True, 1)}


# Outages


@pytest.fixture(name="away_blobs")
def _away_blobs(rig: Rig) -> Iterator[AwayBlobs]:
    blobs = rig.blobs
    away = AwayBlobs(blobs)
    rig.blobs = away  # type: ignore[assignment]  # it passes every call on
    yield away
    rig.blobs = blobs


def test_finished_media_wait_for_the_bucket(rig: Rig, away_blobs: AwayBlobs) -> None:
    """The bucket is away when the picture is ready: the lease is kept, and one generation is enough."""
    away_blobs.away.set()
    job = rig.call("a")
    with rig.worker():
        until(lambda: away_blobs.refused > 1, "the upload has been tried twice")
        assert rig.status(job) == "processing"
        away_blobs.away.clear()
        rig.until_status(job, "completed")
    assert len(rig.device.calls) == 1


def test_a_bucket_that_stays_away_puts_the_job_off(rig: Rig, away_blobs: AwayBlobs) -> None:
    """Longer than the patience: back to the queue for later, the attempt counted, the cause kept to the end."""
    away_blobs.away.set()
    job = rig.call("a")
    with rig.worker(patience=0.0):
        until(lambda: "not_before" in rig.fields(job).get("easeld", {}), "the job is put off")
        fields = rig.fields(job)
    assert (fields["status"], fields["error"], fields["easeld"]["attempts"]) == ("queued", False, 1)
    with rig.worker(patience=0.0, max_attempts=1):
        rig.merge(job, easeld={**fields["easeld"], "not_before": None})
        failed = rig.until_status(job, "failed")
    assert failed["error_type"] == "ConnectionError"


def test_nothing_more_is_claimed_while_the_finishers_are_full(rig: Rig, away_blobs: AwayBlobs) -> None:
    """Memory stays bounded: two may wait while a third is generated and a fourth is ready; the rest stay queued."""
    away_blobs.away.set()
    jobs = [rig.call(name) for name in "abcdef"]
    with rig.worker(finishing=2, max_batch=1, prefetch=0.0):
        until(lambda: len(rig.device.calls) == 3 and away_blobs.refused > 9, "uploads are being tried")
        assert sum(rig.status(job) == "processing" for job in jobs) <= 4
        assert len(rig.device.calls) == 3
        away_blobs.away.clear()
        for job in jobs:
            rig.until_status(job, "completed")


def test_a_result_waits_for_the_store(rig: Rig) -> None:
    """The store goes away mid-job and comes back: the job is completed, generated once."""
    store, away = rig.store, AwayStore(rig.store)
    rig.device.hold()
    job = rig.call("a")
    rig.store = away  # type: ignore[assignment]  # it passes every call on
    with rig.worker():
        until(lambda: bool(rig.device.calls), "generation begins")
        away.away.set()
        refused = away.refused
        rig.device.let_go()
        until(lambda: away.refused > refused + 3, "the store is asked in vain")
        away.away.clear()
        rig.store = store
        rig.until_status(job, "completed")
    assert len(rig.device.calls) == 1

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon import settings
from daemon.backlog import FRESH, Backlog, Waiting
from daemon.core.errors import BlobsUnavailable, StoreUnavailable
from daemon.core.job import SERVER_TIME, Collection, Document
from daemon.core.ports import BlobStore, Store
from daemon.entrypoints import worker_health
from daemon.entrypoints.metrics_page import PAGE, page
from daemon.metrics import Metrics
from daemon.service import Service
from models.errors import GenerationFailed, OutOfMemory
from models.spec import Call
from tests.daemon.rig import Rig, until

OLD = datetime(2020, 1, 1, tzinfo=UTC)
WITHIN = 30.0  # seconds for one call on a busy machine
Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class CountedStore:
    """A store that counts for itself what it is asked, and can be taken away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls: Counter[str] = Counter()
        self.away = False

    def __getattr__(self, name: str) -> Callable[..., object]:
        call: Callable[..., object] = getattr(self._store, name)

        def counted(*positional: Any, **named: Any) -> object:
            self.calls[name] += 1
            if self.away:
                raise StoreUnavailable("the store is away")
            return call(*positional, **named)

        return call if name in ("now", "close", "probe") else counted


class AwayOnce:
    """A bucket that refuses the first upload."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._refused = False

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name == "put" and not self._refused:
            self._refused = True
            raise BlobsUnavailable("the bucket is away")
        return getattr(self._blobs, name)  # type: ignore[no-any-return]


@pytest.fixture
def counted(rig: Rig) -> Iterator[CountedStore]:
    """The worker's store, which counts; the rig's own calls go past it."""
    plain = rig.store
    counted = CountedStore(plain)
    rig.store = counted  # type: ignore[assignment]  # it passes every call on
    yield counted
    rig.store = plain


class Scraped:
    """A worker's HTTP server, as Prometheus and a load balancer see it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str) -> tuple[int, str]:
        """The status and the body."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=WITHIN) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def values(self) -> Values:
        """Every sample but the buckets and the time of creation."""
        status, text = self.get("/metrics")
        assert status == 200
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if not sample.name.endswith(("_bucket", "_created"))
        }


@pytest.fixture
def scraping(tmp_path: Path) -> Callable[[Service], Any]:
    """Serve a worker's health on a free port."""
    configured = settings.load(data=tmp_path, http_port=0)
    return lambda service: worker_health.serving(configured, service, port=0)


def labelled(values: Values, name: str) -> Mapping[str, float]:
    """A metric's values by those of its labels."""
    return {"/".join(value for _, value in labels): number for (own, labels), number in values.items() if own == name}


def test_every_counter_tells_what_a_known_run_has_done(
    rig: Rig, counted: CountedStore, scraping: Callable[[Service], Any]
) -> None:
    """Two images at once, a video, two failures, one job put off and done later, one cancelled at a step."""
    store = counted._store

    def trouble(call: Call) -> None:
        match call.items[0].prompt:
            case "large":
                raise OutOfMemory("no memory")
            case "bad":
                raise GenerationFailed("shapes do not fit")
            case "cancel":
                rig.device.hold()

    rig.device.trouble = trouble
    rig.blobs, blobs = AwayOnce(rig.blobs), rig.blobs  # type: ignore[assignment]  # it passes every call on
    try:
        with rig.worker(max_batch=1, prefetch=0.0, patience=0.0, worker="one") as running:
            rig.store = store
            put_off = rig.call("put-off")
            until(lambda: "not_before" in rig.fields(put_off).get("easeld", {}), "the job is put off")
            rig.until_status(rig.call("two", num_images_per_prompt=2), "completed")
            rig.until_status(rig.call("film", collection=Collection.VIDEOS, num_frames=16), "completed")
            for name in ("large", "bad"):
                rig.until_status(rig.call(name, prompt=name), "failed")
            cancelled = rig.call("cancel", prompt="cancel")
            until(lambda: not rig.device.free.is_set(), "generation begins")
            rig.device.step()
            rig.merge(cancelled, cancel_requested=True)
            until(lambda: rig.service_sees_end(cancelled), "the worker knows")
            rig.device.let_go()
            rig.device.free.set()
            rig.until_status(cancelled, "cancelled")
            rig.until_status(put_off, "completed")
            until(lambda: not running.service.heartbeat.held(), "everything is done")
            running.shutdown.drain("a test")
            assert running.wait() == 0
            with scraping(running.service) as address:
                scraped = Scraped(address)
                scraped.values()  # asks the store how much waits, which counts after this answer
                values = scraped.values()
    finally:
        rig.blobs = blobs

    stages = dict.fromkeys(("queued", "claim", "load", "generate", "encode", "upload", "total"), 3)
    expected: dict[str, Mapping[str, float]] = {
        "easeld_jobs_total": {
            "completed/text2image": 2,
            "completed/text2video": 1,
            "failed/text2image": 2,
            "cancelled/text2image": 1,
            "queued/text2image": 1,
        },
        "easeld_failures_total": {"OutOfMemoryError": 1, "RuntimeError": 1},
        "easeld_retries_total": {"": 1},
        "easeld_lease_losses_total": {"cancel_requested": 1},
        "easeld_rescues_total": {"": 0},
        "easeld_listener_mends_total": {"queue": 0, "cancellations": 0},
        "easeld_stage_seconds_count": stages,
        "easeld_device_idle_seconds_count": {"": 7},
        "easeld_batch_items_count": {"": 7},
        "easeld_batch_items_sum": {"": 8},
        "easeld_store_seconds_count": counted.calls,
        "easeld_worker_info": {f"{version('easeld')}/one": 1},
        "easeld_claiming": {"": 0},
        **{f"easeld_{name}": {"": 0} for name in ("silent_threads", "held_jobs", "finishing_jobs")},
        **{f"easeld_{name}": {"": 0} for name in ("queue_depth", "oldest_queued_seconds")},
        "easeld_model_resident": {"shapes": 1, "motion": 1},
        "easeld_device_memory_bytes": {"free": 3, "total": 4},
    }
    times = {f"easeld_{name}_seconds_sum" for name in ("stage", "device_idle", "store")}
    assert {name: labelled(values, name) for name, _ in values if name not in times} == expected
    absent = {"easeld_store_errors_total"}  # no error, no series; the next test has some
    known = {metric.name for metric in Metrics(worker="").described}
    assert {name for name in known if any(other.startswith(name) for other in expected)} == known - absent


def test_a_store_that_is_away_is_counted_and_makes_the_worker_unready(
    rig: Rig, counted: CountedStore, scraping: Callable[[Service], Any]
) -> None:
    """Alive all the while; ready again when the store is back, and errors are counted by operation."""
    with rig.worker() as running, scraping(running.service) as address:
        scraped = Scraped(address)
        until(lambda: scraped.get("/readyz")[0] == 200, "the worker claims")
        counted.away = True
        until(lambda: scraped.get("/readyz")[0] == 503, "the store is missed")
        status, body = scraped.get("/readyz")
        assert (status, json.loads(body)["error"]) == (503, "Not claiming: the store is away")
        assert scraped.get("/healthz") == (200, '{"status":"ok"}')
        values = scraped.values()
        assert labelled(values, "easeld_claiming") == {"": 0}
        assert sum(labelled(values, "easeld_store_errors_total").values()) > 0
        assert labelled(values, "easeld_queue_depth") == {}, "an autoscaler must not act on a guess"
        counted.away = False
        until(lambda: scraped.get("/readyz")[0] == 200, "the store is back")


class Dead:
    """A subscription that has died."""

    reason = "it has died"

    def alive(self) -> bool:
        return False

    def news(self) -> list[Document]:
        return []

    def close(self) -> None: ...


def test_a_listener_that_is_opened_again_counts_as_mended(rig: Rig) -> None:
    """Each listener by its name, and only once it lives again."""

    class DeadOnce:
        def __init__(self, store: Store) -> None:
            self._store = store
            self.opened = 0

        def __getattr__(self, name: str) -> Callable[..., object]:
            if name == "listen":
                self.opened += 1
                if self.opened == 1:
                    return lambda *_: Dead()
            return getattr(self._store, name)  # type: ignore[no-any-return]

    store = rig.store
    rig.store = DeadOnce(store)  # type: ignore[assignment]  # it passes everything else on
    with rig.worker() as running:
        told = running.service.worker.metrics.registry.get_sample_value
        name = "easeld_listener_mends_total"
        until(lambda: told(name, {"listener": "queue"}) == 1, "the listener is mended")
        assert told(name, {"listener": "cancellations"}) == 0
    rig.store = store


def test_a_job_of_a_dead_worker_counts_as_rescued(rig: Rig) -> None:
    """And as given back, by whoever does it."""
    job = rig.call("a")
    lease = {"worker": "dead", "token": "t", "attempt": 1, "seconds": 1.0, "renewed_at": OLD}
    left = {"status": "processing", "created_at": SERVER_TIME, "modified": OLD, "easeld": {"lease": lease}}
    rig.client.set(job.path, {"prompt": "x", **left})
    with rig.worker(models=["motion"], lease=2.0) as running:
        rig.until_status(job, "queued")
        registry = running.service.worker.metrics.registry
        until(lambda: registry.get_sample_value("easeld_rescues_total") == 1, "the rescue is counted")
        labels = {"task": "text2image", "status": "queued"}
        until(lambda: registry.get_sample_value("easeld_jobs_total", labels) == 1, "the job is counted")


def test_a_silent_thread_is_no_health(rig: Rig, scraping: Callable[[Service], Any]) -> None:
    """And the answer names it."""
    with rig.worker() as running, scraping(running.service) as address:
        running.service.vitals.expect("claim-2", within=0.0)
        until(lambda: Scraped(address).get("/healthz")[0] == 503, "the silence is noticed")
        assert "claim-2" in Scraped(address).get("/healthz")[1]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_backlog_is_that_of_the_tasks_asked_for(rig: Rig) -> None:
    """Depth counts what is queued, not what is processed; age counts from the last write of the head."""
    assert Backlog(rig.store, [Collection.IMAGES]).look() == Waiting(depth=0, oldest=0.0)
    for name in "abc":
        rig.call(name)
    rig.call("film", collection=Collection.VIDEOS, num_frames=16)
    rig.merge(rig.call("d"), status="processing")
    waiting = Backlog(rig.store, [Collection.IMAGES]).look()
    assert waiting is not None
    assert waiting.depth == 3
    assert 0.0 < waiting.oldest < WITHIN


def test_an_old_created_at_makes_no_old_job(rig: Rig) -> None:
    """A document queued again keeps its date of creation; it has waited since it was queued again."""
    rig.client.set(
        "generations/u/images/again",
        {"status": "queued", "created_at": OLD, "submitted_at": SERVER_TIME},
    )
    waiting = Backlog(rig.store, [Collection.IMAGES]).look()
    assert waiting is not None
    assert waiting.oldest < WITHIN


def test_asking_more_often_costs_the_store_nothing(rig: Rig, counted: CountedStore) -> None:
    """Two reads each fifteen seconds, however many scrape."""
    clock = Clock()
    backlog = Backlog(rig.store, [Collection.IMAGES], clock=clock)
    for _ in range(10):
        backlog.look()
    assert counted.calls == {"window": 1, "queued": 1}
    clock.now += FRESH
    backlog.look()
    assert counted.calls == {"window": 2, "queued": 2}


def test_a_store_that_does_not_answer_holds_no_scrape_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scrape goes on without the figure; nothing else is asked until the answer has come."""
    gate, asked = threading.Event(), []

    class Slow:
        def __getattr__(self, name: str) -> Callable[..., object]:
            asked.append(name)
            gate.wait(WITHIN)
            return getattr(rig.store, name)  # type: ignore[no-any-return]

    monkeypatch.setattr("daemon.backlog.PATIENCE", 0.05)
    backlog = Backlog(Slow(), [Collection.IMAGES], clock=lambda: time.monotonic() * 1000)  # type: ignore[arg-type]
    assert backlog.look() is None
    assert backlog.look() is None
    assert asked == ["window"]
    gate.set()
    until(lambda: backlog.look() is not None, "the answer comes")


def test_the_page_of_metrics_is_what_the_code_says() -> None:
    """Written by a command, and never by hand."""
    assert PAGE.read_text(encoding="utf-8") == page()

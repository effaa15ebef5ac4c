"""Row c: one job at a time. How soon its generation starts, and what the whole of it costs besides the model's time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from google.cloud.firestore_v1.base_query import FieldFilter

from benchmarks.child import Watched, ready, watched
from benchmarks.paired import QUICK, Ratio, Row, compared, rounds
from benchmarks.parts import Parts
from benchmarks.place import NULL, NULL_SECONDS, Place

JOBS = 5 if QUICK else 15  # of one side in one round
START, OVERHEAD = 1.3, 1.1  # times what is bare, times the naive worker's
SQLITE = 5.0  # milliseconds
WITHIN = 30.0  # seconds for one job


def rows(parts: Parts, folder: Path) -> Iterator[Row]:
    """The emulator with fake-gcs-server, a naive worker on the same, and the embedded default."""
    with ExitStack() as stack:
        sqlite = stack.enter_context(parts.place("sqlite", folder / "sqlite"))
        ours = stack.enter_context(parts.place("emulator", folder / "ours"))
        theirs = stack.enter_context(parts.place("emulator", folder / "naive"))
        bare = stack.enter_context(parts.place("emulator", folder / "bare"))
        here = stack.enter_context(watched({**sqlite.environment, **NULL}, folder / "sqlite.spans"))
        worker = stack.enter_context(watched({**ours.environment, **NULL}, folder / "ours.spans"))
        stack.enter_context(ready("benchmarks.peers.naive_firestore", environment=theirs.environment))
        hint = stack.enter_context(hinted(bare))
        sides: dict[str, Callable[[], tuple[float, float]]] = {
            "sqlite": partial(many, partial(polled, sqlite, here)),
            "ours": partial(many, partial(listened, ours, worker)),
            "naive": partial(many, partial(listened, theirs, None)),
            "bare": partial(many, hint),
        }
        for side in sides.values():
            side()
        found = rounds(sides)
    start, overhead = ([side[which] for side in found["ours"]] for which in (0, 1))
    floor = [latency + commit for latency, commit in found["bare"]]
    yield compared("c start", "", start, floor, START, unit="ms", at_most=True, wide=1.4)
    naive = [side[1] for side in found["naive"]]
    yield compared("c overhead", "beside naive", overhead, naive, OVERHEAD, unit="ms", at_most=True, wide=1.4)
    local = [side[1] for side in found["sqlite"]]
    ratio = Ratio.of(local, [SQLITE] * len(local))
    word = ratio.judged(1.0, at_most=True, wide=1.4)
    yield Row(letter="c sqlite", figures=f"overhead p50 {median(local):.2f} ms", target=f"<={SQLITE:g}", word=word)


def many(once: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """The medians of both figures, in milliseconds, over jobs that begin at no regular time.

    Before each, every side has had time to be done with the one before.
    """
    found = []
    for _ in range(JOBS):
        time.sleep(random.uniform(0.1, 0.16))
        found.append(once())
    return 1000 * median(one for one, _ in found), 1000 * median(other for _, other in found)


def polled(place: Place, worker: Watched) -> tuple[float, float]:
    """Write a document and look at it after every commit until it is completed.

    Not while the model sleeps: looking takes cores from the worker.
    """
    job, version = place.job(), 0
    began = time.monotonic()
    place.write([job])
    time.sleep(max(0.0, began + NULL_SECONDS - time.monotonic()))
    while version == (version := place.version()) or place.status(job) != "completed":
        assert time.monotonic() - began < WITHIN
        time.sleep(0.0005)
    ended = time.monotonic()  # before ``started``, which waits for the worker's spans
    return started(worker, began), ended - began - NULL_SECONDS


def listened(place: Place, worker: Watched | None) -> tuple[float, float]:
    """Write a document and listen to it until it is completed, as an app does."""
    job, completed, listening = place.job(), threading.Event(), threading.Event()
    ended = 0.0

    def changed(documents: Any, *_: object) -> None:
        nonlocal ended
        listening.set()
        if not completed.is_set() and any((found.to_dict() or {}).get("status") == "completed" for found in documents):
            ended = time.monotonic()
            completed.set()

    assert place.client is not None
    watch = place.client.document(job.path).on_snapshot(changed)
    assert listening.wait(WITHIN)
    began = time.monotonic()
    place.write([job])
    assert completed.wait(WITHIN), job
    watch.unsubscribe()
    return started(worker, began) if worker else 0.0, ended - began - NULL_SECONDS


def started(worker: Watched, written: float) -> float:
    """Seconds from a write to the begin of the call that it led to."""
    worker.until(lambda: bool(worker.of("device")) and worker.of("device")[-1].began > written, "a call", within=WITHIN)
    return worker.of("device")[-1].began - written


class hinted:  # noqa: N801 - used as a context
    """Bare latency of a listener over queued documents, and of one commit."""

    def __init__(self, place: Place) -> None:
        assert place.client is not None
        self._place, self._client = place, place.client
        self._seen = threading.Event()

    def __enter__(self) -> Callable[[], tuple[float, float]]:
        queued = self._client.collection_group("images").where(filter=FieldFilter("status", "==", "queued"))
        self._watch = queued.on_snapshot(lambda *_: self._seen.set())
        assert self._seen.wait(WITHIN)
        return self._once

    def __exit__(self, *_: object) -> None:
        self._watch.unsubscribe()

    def _once(self) -> tuple[float, float]:
        job = self._place.job()
        self._seen.clear()
        began = time.monotonic()
        self._place.write([job])
        assert self._seen.wait(WITHIN)
        latency = time.monotonic() - began
        began = time.monotonic()
        self._client.document(job.path).update({"status": "processing"})
        commit = time.monotonic() - began
        time.sleep(0.1)  # until the listener has seen that, too
        return latency, commit

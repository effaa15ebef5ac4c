"""Row d: the null generator on peers, each in its documented best form, beside ours.

``make peers`` installs them; a peer that is not there is left out, with what to do. Ours writes to SQLite and a folder,
durably; against the naive worker it is on the same emulator. HTTP peers have no store and answer with the picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import peer
from benchmarks.backlog import work_off
from benchmarks.child import LOOK_EVERY, Watched, ready, watched
from benchmarks.paired import QUICK, Row, compared, rounds
from benchmarks.parts import Parts
from benchmarks.peer import Peer, PeerMissing
from benchmarks.place import NULL, NULL_SECONDS, Place
from benchmarks.row_c import listened, many, polled

ALONE = 40 if QUICK else 100  # jobs of one round
BATCHED = 160 if QUICK else 480
BATCH = 8
SINGLES = 5 if QUICK else 15  # jobs one at a time, of one side in one round
TARGETS = {"litserve": 0.99, "runpod": 0.99, "celery": 1.05, "naive": 1.05}  # of their jobs a second, ours
WITHIN = 120.0  # seconds for a backlog

Figures = dict[str, Callable[[], float]]


def rows(parts: Parts, folder: Path) -> Iterator[Row]:
    """Jobs a second of a backlog, and the overhead of one job at a time."""
    rates: Figures = {}
    overheads: Figures = {}
    with ExitStack() as stack:
        for kind, batch in (("sqlite", 1), ("sqlite", BATCH), ("emulator", 1)):
            name = f"ours {kind} {batch}"
            place = stack.enter_context(parts.place(kind, folder / name))
            environment = {**place.environment, **NULL, "EASELD_MAX_BATCH": str(batch)}
            worker = stack.enter_context(watched(environment, folder / f"{name}.spans"))
            rates[name] = partial(_our_rate, place, worker, ALONE if batch == 1 else BATCHED)
            if batch == 1:
                one = polled if kind == "sqlite" else listened
                overheads[name] = partial(_whole_overhead, partial(one, place, worker))
        _naive(stack, parts, folder, rates, overheads)
        peers: dict[str, tuple[int, Callable[[], AbstractContextManager[Peer]]]] = {
            "litserve": (1, partial(peer.litserve, 1)),
            f"litserve batch {BATCH}": (BATCH, partial(peer.litserve, BATCH)),
            "runpod": (1, peer.runpod),
            "celery": (1, partial(peer.celery, folder / "celery")),
        }
        for name, (batch, start) in peers.items():
            try:
                its = stack.enter_context(start())
            except PeerMissing as missing:
                yield Row(letter=f"d {name}", figures=str(missing), target="-", word="LEFT OUT")
                continue
            rates[name] = partial(_rate, its, BATCHED if batch > 1 else ALONE)
            if batch == 1:
                overheads[name] = partial(_overhead, its)
        for measure in (*rates.values(), *overheads.values()):
            measure()  # the first calls connect
        rate, overhead = rounds(rates), rounds(overheads)
    for name, target in TARGETS.items():
        if name in rate:
            ours = rate["ours emulator 1" if name == "naive" else "ours sqlite 1"]
            yield compared(f"d {name}", "", ours, rate[name], target, unit="jobs/s", wide=1.1)
    if (name := f"litserve batch {BATCH}") in rate:
        yield compared(f"d {name}", "", rate[f"ours sqlite {BATCH}"], rate[name], 1.0, unit="jobs/s", wide=1.1)
    told = ", ".join(f"{name} {median(found):.2f}" for name, found in overhead.items())
    yield Row(letter="d overhead", figures=f"one job at a time, p50 in ms: {told}", target="-", word="told")


def _our_rate(place: Place, worker: Watched, number: int) -> float:
    return work_off(place, worker, number, within=WITHIN).per_second


def _whole_overhead(one: Callable[[], tuple[float, float]]) -> float:
    """From the write until the completed document is seen, less the model's time, in milliseconds."""
    return many(one)[1]


def _naive(stack: ExitStack, parts: Parts, folder: Path, rates: Figures, overheads: Figures) -> None:
    place = stack.enter_context(parts.place("emulator", folder / "naive"))
    stack.enter_context(ready("benchmarks.peers.naive_firestore", environment=place.environment))
    rates["naive"] = partial(_naive_rate, place)
    overheads["naive"] = partial(_whole_overhead, partial(listened, place, None))


def _naive_rate(place: Place) -> float:
    """Jobs a second from the commit of a backlog until the last is completed, seen by reading single documents."""
    jobs = place.jobs(ALONE)
    began = time.perf_counter()
    place.write(jobs)
    for job in reversed(jobs):
        while place.status(job) != "completed":
            assert time.perf_counter() - began < WITHIN, job
            time.sleep(LOOK_EVERY)
    took = time.perf_counter() - began
    place.forget(jobs)
    return len(jobs) / took


def _rate(its: Peer, number: int) -> float:
    return number / its.seconds(number)


def _overhead(its: Peer) -> float:
    """The middle of what one job costs beside its sleep, in milliseconds."""
    return 1000 * median(its.seconds(1) - NULL_SECONDS for _ in range(SINGLES))

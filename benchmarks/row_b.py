"""Row b: jobs a second with a generator that only sleeps, against the ideal, and the gap on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.backlog import gap_figures, work_off
from benchmarks.child import watched
from benchmarks.paired import QUICK, Row, compared, rounds
from benchmarks.parts import Parts
from benchmarks.place import NULL, NULL_SECONDS

IDEAL = 1 / NULL_SECONDS  # jobs a second
ALONE = 40 if QUICK else 100  # jobs of one round
BATCHED = 160 if QUICK else 480
BATCH = 8
SETTINGS: Mapping[int, Mapping[str, str]] = {1: {"EASELD_MAX_BATCH": "1"}, BATCH: {"EASELD_MAX_BATCH": str(BATCH)}}
TARGETS = {("sqlite", 1): 0.98, ("emulator", 1): 0.98, ("sqlite", BATCH): 0.90, ("emulator", BATCH): 0.60}
GAP = (1.0, 5.0)  # milliseconds: p50, p95


def rows(parts: Parts, folder: Path) -> Iterator[Row]:
    """Both places, batching off and by 8."""
    with ExitStack() as stack:
        sides = {}
        for kind in ("sqlite", "emulator"):
            for batch, settings in SETTINGS.items():
                place = stack.enter_context(parts.place(kind, folder / f"{kind}-{batch}"))
                worker = stack.enter_context(
                    watched({**place.environment, **NULL, **settings}, folder / f"{kind}-{batch}.spans")
                )
                number = ALONE if batch == 1 else BATCHED
                work_off(place, worker, number // 4, within=60)  # the first calls connect
                sides[f"{kind}-{batch}"] = partial(work_off, place, worker, number, within=120)
        found = rounds(sides)
    for (kind, batch), target in TARGETS.items():
        runs = found[f"{kind}-{batch}"]
        ours, ideal = [run.per_second for run in runs], [IDEAL * batch] * len(runs)
        yield compared(f"b {kind} batch {batch}", "", ours, ideal, target, unit="jobs/s", wide=1.1)
        if batch == 1:
            middle, late = gap_figures(runs)
            word = "ok" if middle <= GAP[0] and late <= GAP[1] else "SHORT"
            figures = f"device gap p50 {middle:.2f} ms, p95 {late:.2f} ms"
            yield Row(letter=f"b {kind} gap", figures=figures, target="p50<=1 p95<=5", word=word)

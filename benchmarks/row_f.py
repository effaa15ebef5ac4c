"""Row f: whether the worker's memory stays flat over many jobs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.child import Watched, watched
from benchmarks.paired import QUICK, Row
from benchmarks.parts import Parts
from benchmarks.place import CATALOG, NULL, Place

JOBS = 400 if QUICK else 2000
FLAT = 1.02
WITHIN = 300.0  # seconds
LOOK_EVERY = 0.05  # seconds
BRIEF = json.dumps({"null": {**CATALOG["null"], "step_seconds": 0.0001}})


def rows(parts: Parts, folder: Path) -> Iterator[Row]:
    """The embedded default, and the emulator with fake-gcs-server."""
    for kind in ("sqlite", "emulator"):
        with parts.place(kind, folder / kind) as place:
            environment = {**place.environment, **NULL, "EASELD_CATALOG": BRIEF, "EASELD_MAX_BATCH": "8"}
            with watched(environment, folder / f"{kind}.spans") as worker:
                second, last = quarters(place, worker)
        figures = f"last quarter {last:.1f} MiB, second quarter {second:.1f} MiB, {JOBS} jobs"
        word = "ok" if last <= FLAT * second else "SHORT"
        yield Row(letter=f"f {kind}", figures=figures, target=f"<={FLAT:g}x", word=word)


def quarters(place: Place, worker: Watched) -> tuple[float, float]:
    """The median memory in MiB while the second and the last quarter of the jobs ran."""
    place.write(place.jobs(JOBS))
    found: tuple[list[float], list[float]] = ([], [])
    deadline = time.monotonic() + WITHIN
    while (done := len(worker.of("completed"))) < JOBS:
        assert time.monotonic() < deadline, f"{done} of {JOBS} jobs in {WITHIN:g} s"
        quarter = 4 * done // JOBS
        if quarter in (1, 3):
            found[quarter // 2].append(resident(worker.process.pid))
        time.sleep(LOOK_EVERY)
        worker.look()
    return median(found[0]), median(found[1])


def resident(pid: int) -> float:
    """The memory of a process that is in the machine's, in MiB."""
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)])) / 1024

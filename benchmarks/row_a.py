"""Row a: a backlog of pictures by the small built-in SDXL, whole jobs, against loops that throw their pictures away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.backlog import work_off
from benchmarks.child import answering, watched
from benchmarks.paired import QUICK, Ratio, Row, compared, rounds
from benchmarks.parts import Parts

JOBS = 16 if QUICK else 64
BARE = 8 if QUICK else 32  # pictures of the bare loop in one round: its pace does not depend on their number
BATCH = 8
MODEL = {"EASELD_MODELS": "shapes"}
BUSY, PACE = 0.99, 0.97


def rows(parts: Parts, folder: Path) -> Iterator[Row]:
    """Batching off and by 8, on the emulator and fake-gcs-server."""
    cache = {"EASELD_CACHE": str(folder / "cache")}
    with ExitStack() as stack:
        ask = stack.enter_context(answering("benchmarks.bare_loop", environment={}))
        sides = {f"bare-{batch}": partial(ask, {"pictures": BARE, "batch": batch}) for batch in (1, BATCH)}
        for side in sides.values():
            side()
        works = {}
        for batch in (1, BATCH):
            place = stack.enter_context(parts.place("emulator", folder / f"batch-{batch}"))
            environment = {**place.environment, **MODEL, **cache, "EASELD_MAX_BATCH": str(batch)}
            worker = stack.enter_context(watched(environment, folder / f"batch-{batch}.spans"))
            work_off(place, worker, BATCH, within=60)
            works[f"ours-{batch}"] = partial(work_off, place, worker, JOBS, within=300)
        found = rounds({**sides, **works})
    for batch in (1, BATCH):
        runs, bare = found[f"ours-{batch}"], found[f"bare-{batch}"]
        if batch == 1:
            ratio = Ratio.of([run.busy for run in runs], [1.0] * len(runs))
            figures = f"busy share {median(run.busy for run in runs):.4f}, {ratio}"
            yield Row(letter="a busy", figures=figures, target=f">={BUSY:g}", word=ratio.judged(BUSY, wide=1.02))
        ours = [run.per_second for run in runs]
        yield compared(f"a batch {batch}", "", ours, bare, PACE, unit="jobs/s", wide=1.1)

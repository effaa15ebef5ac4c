"""Row e: from the start of the process until it claims, beside a script that only imports and loads the pipeline."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.child import claiming, ready
from benchmarks.paired import Row, compared, rounds
from benchmarks.parts import Parts

TARGETS = {"sqlite": 1.15, "emulator": 1.35}
MODEL = {"EASELD_MODELS": "shapes"}


def rows(parts: Parts, folder: Path) -> Iterator[Row]:
    """The embedded default, and the emulator with fake-gcs-server."""
    cache = folder / "cache"
    with ExitStack() as stack:
        places = {kind: stack.enter_context(parts.place(kind, folder / kind)) for kind in TARGETS}
        sides = {
            kind: partial(worker, {**place.environment, **MODEL, "EASELD_CACHE": str(cache)})
            for kind, place in places.items()
        }
        sides["script"] = script
        for side in sides.values():  # once, so that all files are in memory
            side()
        found = rounds(sides)
    for kind, target in TARGETS.items():
        yield compared(f"e {kind}", "", found[kind], found["script"], target, unit="s", at_most=True, wide=1.25)


def worker(environment: Mapping[str, str]) -> float:
    """Seconds until ``easeld worker`` claims."""
    began = time.monotonic()
    with claiming(environment):
        return time.monotonic() - began


def script() -> float:
    """Seconds until the script has its pipeline."""
    began = time.monotonic()
    with ready("benchmarks.only_load", environment={}):
        return time.monotonic() - began

"""A real worker that has points at which it dies, may have a defect, and may live ten minutes before its time."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from daemon import compose
from daemon.entrypoints import cli
from daemon.settings import Settings
from models.keeper import Keeper
from tests.chaos import defects
from tests.chaos.points import PointBlobs, PointKeeper, Points, PointStore


def main(configuration: str) -> None:
    """Run ``easeld worker``; ``configuration`` says in JSON how to die.

    The points lie outside the defects: who freezes before a delete, deletes when it wakes.
    """
    told: dict[str, Any] = json.loads(configuration)
    points = Points(told["kills"], told["freezes"], seed=told["seed"], notes=Path(told["notes"]))
    _skew(told["skew"])
    open_store, open_blobs = compose.open_store, compose.open_blobs
    opened: list[Any] = []  # the bucket: a defect may be in both, so both are opened at the same time

    def store_of(settings: Settings) -> Any:
        store, blobs = defects.commit(told["defect"], open_store(settings), open_blobs(settings))
        opened.append(PointBlobs(blobs, points))
        return PointStore(store, points)

    patched: Any = compose
    patched.open_store = store_of
    patched.open_blobs = lambda _settings: opened.pop()
    patched.Keeper = lambda **keywords: PointKeeper(Keeper(**keywords), points)
    sys.argv = ["easeld", "worker"]
    cli.main()


def _skew(seconds: float) -> None:
    """Let the wall clock of this process be wrong. Nothing of ours may depend on it.

    gRPC compares Python's clock with one in C, which stays right here: it goes on with the right one in Python, too.
    """
    if not seconds:
        return
    now, now_ns = time.time, time.time_ns
    right = SimpleNamespace(**vars(time))
    for name in ("grpc._channel", "grpc._common"):
        sys.modules[name].__dict__["time"] = right
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)

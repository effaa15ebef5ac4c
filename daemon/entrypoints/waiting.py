"""Waiting for jobs: every change of a document, and a progress bar for each where somebody is looking."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from daemon.core.job import Document, JobId, Status
from daemon.core.ports import Store
from daemon.entrypoints.present import done_percent, ended, preview, stage
from daemon.settings import Settings, StoreKind

Look = Callable[[Document], None]

UNCLAIMED = 20.0  # seconds in the queue after which whoever waits may want to look whether anybody serves it


def look_every(settings: Settings) -> float:
    """Seconds between two looks at a document: a read costs nothing in SQLite, and money in Firestore."""
    return 0.1 if settings.store is StoreKind.SQLITE else 1.0


def wait_for(
    store: Store, jobs: Sequence[JobId], *, every: float, look: Look, alive: Callable[[], bool] = lambda: True
) -> list[Document]:
    """Look at every job until each has ended, and return their last documents.

    ``alive`` is asked now and then; ``False`` ends the waiting early. Times in seconds.
    """
    last = {job: store.read(job) for job in jobs}
    while True:
        for document in last.values():
            look(document)
        waiting = [job for job, document in last.items() if not ended(document.fields)]
        if not waiting or not alive():
            return list(last.values())
        time.sleep(every)
        for job in waiting:
            last[job] = store.read(job)


@contextmanager
def progress_bars(jobs: Sequence[JobId], *, patience: float = UNCLAIMED) -> Iterator[Look]:
    """A live bar for each job on standard error; without a terminal, a line for each change.

    For the first job that has been seen queued for ``patience`` seconds there is a hint, once.
    """
    unclaimed = _unclaimed(patience)
    if not sys.stderr.isatty():
        yield _lines(unclaimed)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[stage]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars = {job: progress.add_task(_name(job), total=100.0, stage="queued") for job in jobs}
        first_preview = _first_previews()

        def look(document: Document) -> None:
            fields = document.fields
            if (hint := unclaimed(document)) is not None:
                progress.console.print(hint, markup=False, soft_wrap=True)
            if (address := first_preview(document)) is not None:
                progress.console.print(f"preview of {_name(document.id)}: {address}", markup=False, soft_wrap=True)
            progress.update(bars[document.id], completed=done_percent(fields), stage=stage(fields))
            if ended(fields):
                progress.stop_task(bars[document.id])

        yield look


def _lines(unclaimed: Callable[[Document], str | None]) -> Look:
    said: dict[JobId, str] = {}
    first_preview = _first_previews()

    def look(document: Document) -> None:
        now = stage(document.fields)
        if (address := first_preview(document)) is not None:
            print(f"preview of {_name(document.id)}: {address}", file=sys.stderr, flush=True)
        if said.get(document.id) != now:
            said[document.id] = now
            print(f"{_name(document.id)}: {now}", file=sys.stderr, flush=True)
        if (hint := unclaimed(document)) is not None:
            print(hint, file=sys.stderr, flush=True)

    return look


def _unclaimed(patience: float) -> Callable[[Document], str | None]:
    """Gives a hint once, where a job has been seen queued, and nothing else, for so many seconds."""
    since: dict[JobId, float] = {}
    told = False

    def hint(document: Document) -> str | None:
        nonlocal told
        now = time.monotonic()
        if (document.fields or {}).get("status") != Status.QUEUED:
            since[document.id] = float("inf")  # somebody serves it, also where it is queued again
        if told or now - since.setdefault(document.id, now) < patience:
            return None
        told = True
        return f"{_name(document.id)} still waits: is a daemon running, and free? `easeld up` starts one here"

    return hint


def _first_previews() -> Callable[[Document], str | None]:
    """Tells where each job's preview is once: its address changes with every step."""
    told: set[JobId] = set()

    def first(document: Document) -> str | None:
        address = None if document.id in told else preview(document.fields)
        if address is not None:
            told.add(document.id)
        return address

    return first


def _name(job: JobId) -> str:
    return f"{job.collection.folder} {job.file_uid}"

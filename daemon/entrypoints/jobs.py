"""``easeld jobs`` and ``easeld show``: what is queued, what runs, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import typer

from daemon.core import pace
from daemon.core.job import Collection, Document, JobId, Status
from daemon.core.ports import Store
from daemon.entrypoints.opening import client_store, find
from daemon.entrypoints.operate import Job, Json
from daemon.entrypoints.present import (
    addresses,
    as_json,
    as_line,
    created,
    duration,
    place,
    plain,
    print_table,
    shortened,
    stage,
)
from daemon.entrypoints.waiting import look_every
from daemon.outlook import Outlook

FOLLOWED = 50  # jobs of each status whose changes are noticed
OLDEST = datetime.min.replace(tzinfo=UTC)


def jobs(
    status: Annotated[list[Status] | None, typer.Option(help="Only these; may be given more than once.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on, with a line for each change.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on each line: path and document.")] = False,
) -> None:
    """List jobs, the newest first."""
    wanted = status or list(Status)
    with client_store() as (settings, store):
        found = newest(store, wanted, user=user, limit=limit)
        if json or follow:  # whoever follows reads downwards
            _print_lines(reversed(found) if follow else found, json=json)
        else:
            _print_table(found)
            if any((document.fields or {}).get("status") == Status.QUEUED for document in found):
                _print_queue(store)
        if follow:
            _follow(store, wanted, found, user=user, json=json, every=10 * look_every(settings))


def show(job: Job, json: Json = False) -> None:
    """Show one job: its document, and where its media are."""
    with client_store() as (_, store):
        document = find(store, job)
        turn = None if json else Outlook(store).turn(document)
    if json:
        print(as_json(document.fields))
        return
    print(f"{plain(document.id.path)}: {stage(document.fields)}{f', {place(turn)}' if turn else ''}")
    for address in addresses(document.fields):
        print(plain(address))
    print(as_json(document.fields))


def newest(store: Store, statuses: Iterable[Status], *, user: str | None, limit: int) -> list[Document]:
    """Up to ``limit`` jobs in these states, the newest first."""
    found = [document for status in statuses for document in store.newest(status=status, limit=limit, user_id=user)]
    found.sort(key=lambda document: (created(document.fields) or OLDEST, document.id), reverse=True)
    return found[:limit]


def _follow(
    store: Store, wanted: list[Status], known: list[Document], *, user: str | None, json: bool, every: float
) -> None:
    """Print every job again whenever it changed, until somebody interrupts."""
    seen: dict[JobId, int] = {document.id: document.version for document in known}
    while True:
        time.sleep(every)
        found = reversed(newest(store, wanted, user=user, limit=FOLLOWED))
        changed = [document for document in found if seen.get(document.id) != document.version]
        seen |= {document.id: document.version for document in changed}
        _print_lines(changed, json=json)


def _print_lines(documents: Iterable[Document], *, json: bool) -> None:
    for document in documents:
        print(as_line(document) if json else "  ".join(_row(document)), flush=True)


def _print_table(documents: list[Document]) -> None:
    if not documents:
        print("No jobs.")
        return
    print_table(("Created", "Job", "State", "Prompt"), map(_row, documents))


def _print_queue(store: Store) -> None:
    """How much waits, and how long a job that came now would."""
    waiting = store.queued(tuple(Collection))
    seconds = pace.turn(waiting, Outlook(store).pace()).seconds
    wait = "" if seconds is None else f"; a new one would begin in about {duration(seconds)}"
    print(f"\n{waiting} queued{wait}")


def _row(document: Document) -> tuple[str, str, str, str]:
    fields = document.fields or {}
    at = created(fields)
    return (
        at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else "-",
        plain(document.id.path.removeprefix("generations/")),
        stage(fields),
        shortened(fields.get("prompt", ""), 60),
    )

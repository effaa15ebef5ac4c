"""``easeld adopt``: what to do with documents that the worker before us has left half done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Annotated

import typer

from daemon.core import lifecycle
from daemon.core.errors import Rejected
from daemon.core.job import Collection, Document, Refusal, Status, Why
from daemon.core.ports import Store
from daemon.entrypoints.opening import client_store

PAGE = 200  # documents in one query
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}  # seconds


def adopt(
    fail: Annotated[bool, typer.Option("--fail", help="Fail those that are old enough.")] = False,
    queue: Annotated[bool, typer.Option("--queue", help="Queue those that are old enough again.")] = False,
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Touch only what nobody has written to for so long: 90s, 10m, 2h, 1d.")
    ] = "10m",
) -> None:
    """Count documents that say "processing" and that no worker of ours holds; then fail or queue them.

    They belong to the worker that was here before. While it still runs, they may still be finished by it.
    """
    if fail and queue:
        raise Rejected("say --fail or --queue, not both")
    untouched = _seconds(older_than)
    decide = partial(lifecycle.adopt, untouched=timedelta(seconds=untouched), queue=queue)
    foreign = old = done = 0
    with client_store() as (_, store):
        for document in _processing(store):
            decided = decide(document, store.now())
            if isinstance(decided, Refusal):
                foreign += decided.why is Why.NOT_YET
                continue
            foreign, old = foreign + 1, old + 1
            if fail or queue:
                done += isinstance(store.update(document, decide), Document)
    print(f"{foreign} being processed without a lease of ours, {old} of them untouched for more than {older_than}")
    if fail or queue:
        print(f"{done} {'failed' if fail else 'queued again'}")
    elif old:
        print("nothing was changed: say --fail or --queue")


def _processing(store: Store) -> Iterator[Document]:
    page: list[Document] = []
    while True:
        page = store.by_name(tuple(Collection), status=Status.PROCESSING, limit=PAGE, after=page[-1] if page else None)
        yield from page
        if len(page) < PAGE:
            return


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", age.strip())
    if match is None:
        raise Rejected(f"--older-than {age}: say a number and s, m, h or d, such as 10m")
    return float(match[1]) * UNITS[match[2]]

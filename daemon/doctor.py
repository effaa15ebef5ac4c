"""What a worker needs, checked in the order in which a newcomer fails at it; each trouble says what to do."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from threading import Event

from daemon.core.errors import BlobsUnavailable, DocumentTooLarge, StoreUnavailable, WrongSettings
from daemon.core.job import DELETE, Changes, Collection, Document, JobId, Status
from daemon.core.ports import BlobStore, Store
from daemon.fitness import Unfit
from models.errors import ModelError

SCRATCH = JobId(user_id="easeld-doctor", collection=Collection.IMAGES, file_uid="scratch")
ANSWER_WITHIN = 15.0  # seconds from a write to the hint of it
LOOK_EVERY = 1.0  # seconds between two looks at whether the listener lives
TRUE_WITHIN = 30.0  # seconds by which the clock may be wrong; Google refuses credentials from 5 minutes on


class Trouble(Exception):
    """A check that failed; each argument is a line that says what to do."""


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    TROUBLE = "trouble"
    SKIPPED = "skipped"  # it needs one that failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """``run`` returns what it found, in words, or raises; it is not run where one that it ``needs`` failed."""

    name: str
    run: Callable[[], str]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check has shown: lines for a person, each saying what to do where there is trouble."""

    check: str
    state: State
    lines: tuple[str, ...]


def examine(checks: Iterable[Check]) -> Iterator[Finding]:
    """Run the checks, one after the other."""
    failed: set[str] = set()
    for check in checks:
        state, lines = State.OK, tuple[str, ...]()
        if missing := [name for name in check.needs if name in failed]:
            state, lines = State.SKIPPED, (f"needs {missing[0]}",)
        else:
            try:
                lines = (check.run(),)
            except Trouble as exc:
                state, lines = State.TROUBLE, tuple(str(line) for line in exc.args)
            except (StoreUnavailable, BlobsUnavailable, WrongSettings, Unfit, ModelError) as exc:
                state, lines = State.TROUBLE, (str(exc),)
        if state is not State.OK:
            failed.add(check.name)
        yield Finding(check=check.name, state=state, lines=lines)


def answering(store: Store) -> str:
    """Whether the store answers at all."""
    began = time.monotonic()
    store.read(SCRATCH)
    return f"answers in {_milliseconds(began)}"


def read_and_write(store: Store) -> str:
    """Write a document of our own and read it back. It stays, cancelled: nothing of ours deletes documents."""
    began, nonce = time.monotonic(), secrets.token_hex(8)
    _write(store, status=Status.CANCELLED.value, easeld={"doctor": nonce}, cancel_requested=DELETE)
    read = (store.read(SCRATCH).fields or {}).get("easeld")
    if read != {"doctor": nonce}:
        raise Trouble(f"What was written to {SCRATCH.path} was not read back: is that document another program's?")
    return f"{SCRATCH.path} written and read in {_milliseconds(began)}"


def indexes(store: Store) -> str:
    """Whether every query has its index."""
    if troubles := store.probe():
        raise Trouble(*troubles)
    return "every query runs"


def listener(store: Store, *, within: float = ANSWER_WITHIN) -> str:
    """Whether a write comes back as a hint, on a queued document that no worker does more with than to cancel it.

    The first hint may be of what was there when the listener opened; the second is of our own writing.
    """
    wake = Event()
    subscription = store.listen_cancellations(list(Collection), wake.set)
    began = time.monotonic()
    try:
        for _ in range(2):
            wake.clear()
            began = time.monotonic()
            _write(store, status=Status.QUEUED.value, cancel_requested=True, easeld={"doctor": secrets.token_hex(8)})
            while not wake.wait(LOOK_EVERY):
                if time.monotonic() - began > within:
                    raise Trouble(
                        "A write was not heard of: let long-lived HTTP/2 streams to firestore.googleapis.com through "
                        "proxy and firewall, `curl -sSI --http2 https://firestore.googleapis.com` tries it. "
                        "Until then workers find jobs by polling, every 2 s"
                    )
        heard = _milliseconds(began)
    finally:
        try:  # before the stream is closed: the emulator tells a writer of a stream that goes away under its commit
            _write(store, status=Status.CANCELLED.value, cancel_requested=DELETE)
        finally:
            subscription.close()
    return f"a write is heard of in {heard}"


def bucket(blobs: BlobStore) -> str:
    """Whether media can be written, fetched as clients fetch them, and deleted."""
    if troubles := blobs.probe():
        raise Trouble(*troubles)
    return "written, fetched and deleted"


def clock(now: datetime, wall: float) -> str:
    """Whether this machine's clock is near the store's; ``wall`` is in seconds since 1970."""
    ahead = wall - now.timestamp()
    if abs(ahead) > TRUE_WITHIN:
        way = "ahead" if ahead > 0 else "behind"
        raise Trouble(f"The clock is {abs(ahead):.0f} s {way} of the store's: sudo timedatectl set-ntp true")
    return f"within {max(1.0, abs(ahead)):.0f} s of the store's"


def _write(store: Store, **fields: object) -> None:
    def decide(document: Document, _now: datetime) -> Changes:
        new = document.fields is None
        kept = {name: value for name, value in fields.items() if value is not DELETE or not new}
        return Changes(reason="doctor", fields=kept, create=new)

    try:
        store.update(SCRATCH, decide)
    except DocumentTooLarge as exc:
        raise Trouble(f"{SCRATCH.path} cannot be written: {exc}") from exc


def _milliseconds(since: float) -> str:
    return f"{1000 * (time.monotonic() - since):.0f} ms"

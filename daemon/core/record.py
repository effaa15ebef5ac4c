"""Our own map ``easeld`` on a document, read without trusting it: a wrong type is as if absent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from daemon.core.job import Document, Fields, Status
from daemon.core.request import NAMES

MANY = 1_000_000  # no counter of ours comes so far: a client wrote it, and one more might be more than a store can hold
LARGE = 2**53  # no seed of ours is larger, for the same reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who holds a job. It is alive until ``renewed_at`` plus ``seconds``, by the store's clock."""

    worker: str
    token: str
    attempt: int  # the attempt that this claim is, 1-based
    seconds: float
    renewed_at: datetime | None  # None: missing or mistyped
    started: bool  # whether generation is known to have begun, which is when the attempt counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How the last life of a document ended."""

    token: str | None
    seed: int | None  # the seed that we wrote into the top-level field
    finished_at: datetime | None
    has_media: bool  # whether it names objects; one that failed or was cancelled does not


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The map ``easeld``."""

    raw: Mapping[str, Any]
    lease: Lease | None
    result: Result | None
    attempts: int  # generations begun in this life
    crashes: int  # of these, how many ended with a lease that expired
    expiries: int  # leases that expired before generation was known to have begun
    finishes: int  # terminal writes in this life; never more than one
    not_before: datetime | None
    request: Mapping[str, Any] | None  # in its canonical form
    seeds: tuple[int, ...]
    given_up: bool  # its client failed it, in this life
    replaces: frozenset[str]  # addresses of an older worker's media, which this life may replace

    @classmethod
    def of(cls, fields: Fields) -> Self:
        raw = _map(fields.get("easeld"))
        return cls(
            raw=raw,
            lease=_lease(_map(raw.get("lease"))),
            result=_result(raw.get("result")),
            attempts=_count(raw.get("attempts")),
            crashes=_count(raw.get("crashes")),
            expiries=_count(raw.get("expiries")),
            finishes=_count(raw.get("finishes")),
            not_before=moment(raw.get("not_before")),
            request=_request(_map(raw.get("request"))),
            seeds=_seeds(raw.get("seeds")),
            given_up=fields.get("error") is True or "error_message" in fields,
            replaces=texts(raw.get("replaces")),
        )

    @property
    def cost_workers(self) -> bool:
        """Whether workers died while they held it: maybe of it, and maybe so soon that no attempt was counted."""
        return self.crashes > 0 or self.expiries > 0

    @property
    def new_life(self) -> bool:
        """Whether a queued document begins a new life: its last one ended, or none of ours wrote what it holds.

        We never leave a lease or an error on a queued document, so one that has it was queued by its client.
        """
        return not self.raw or self.result is not None or self.lease is not None or self.given_up


def holder(fields: Fields | None) -> Lease | None:
    """The lease of a processing document; ``None`` where no worker of ours holds it."""
    if fields is None or fields.get("status") != Status.PROCESSING:
        return None
    return Record.of(fields).lease


def expires_at(document: Document, lease: Lease) -> datetime:
    """When the lease ends, by the store's clock."""
    renewed = lease.renewed_at or document.updated_at
    return min(renewed, document.updated_at) + timedelta(seconds=lease.seconds)  # no lease was renewed in the future


def moment(value: object) -> datetime | None:
    """A time with a zone, or ``None``."""
    return value if isinstance(value, datetime) and value.tzinfo is not None else None


def texts(value: object) -> frozenset[str]:
    """The strings in a list; empty for anything else."""
    return (
        frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else frozenset()
    )


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _request(raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return {name: raw.get(name) for name in NAMES} if raw else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MANY else 0


def _seeds(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or any(type(item) is not int or abs(item) > LARGE for item in value):
        return ()
    return tuple(value)


def _lease(raw: Mapping[str, Any]) -> Lease | None:
    token, worker, seconds = raw.get("token"), raw.get("worker"), raw.get("seconds")
    if not isinstance(token, str) or not isinstance(worker, str):
        return None
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < 86_400:
        seconds = 60.0
    return Lease(
        worker=worker,
        token=token,
        attempt=max(1, _count(raw.get("attempt"))),
        seconds=float(seconds),
        renewed_at=moment(raw.get("renewed_at")),
        started=raw.get("started") is True,
    )


def _result(raw: object) -> Result | None:
    if not isinstance(raw, Mapping):
        return None
    token, seed = raw.get("token"), raw.get("seed")
    return Result(
        token=token if isinstance(token, str) else None,
        seed=seed if type(seed) is int else None,
        finished_at=moment(raw.get("finished_at")),
        has_media=bool(raw.get("generations")),
    )

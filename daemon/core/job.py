"""The values of a job: its address, its document at one moment, and changes to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Self

from models.spec import Task

PATH = re.compile(r"generations/(?P<user_id>[^/]+)/(?P<collection>images|videos)/(?P<file_uid>[^/]+)", re.DOTALL)


class Status(StrEnum):
    """Where a job stands, and who moves it on."""

    QUEUED = "queued"  # a worker claims it
    PROCESSING = "processing"  # its holder finishes it or gives it back; when the lease ends, any worker rescues it
    COMPLETED = "completed"  # its client or an operator may queue it again
    FAILED = "failed"  # likewise
    CANCELLED = "cancelled"  # likewise


# No set: a document may hold anything in its status, also what has no hash.
TERMINAL = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


class Collection(StrEnum):
    """The collection that holds a job's document; it decides the task."""

    IMAGES = "images"
    VIDEOS = "videos"

    @property
    def task(self) -> Task:
        return Task.TEXT2IMAGE if self is Collection.IMAGES else Task.TEXT2VIDEO

    @property
    def folder(self) -> str:
        """The folder of the media in the bucket, singular by contract."""
        return self.value.removesuffix("s")

    @classmethod
    def of(cls, task: Task) -> Self:
        return cls("images" if task is Task.TEXT2IMAGE else "videos")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class JobId:
    """The address of a job's document: ``generations/{user_id}/{collection}/{file_uid}``."""

    user_id: str
    collection: Collection
    file_uid: str

    @property
    def path(self) -> str:
        return f"generations/{self.user_id}/{self.collection}/{self.file_uid}"

    @classmethod
    def parse(cls, path: str) -> Self | None:
        """The job at a document path, or ``None`` where it is no job's path (other apps have ``images`` too)."""
        match = PATH.fullmatch(path)
        if match is None:
            return None
        return cls(user_id=match["user_id"], collection=Collection(match["collection"]), file_uid=match["file_uid"])

    def __str__(self) -> str:
        return self.path


Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A job's document as read, or as written by us, at one moment.

    ``fields`` is ``None`` where there is no such document. ``version`` grows with every commit to the document: it is
    the condition of the next write and the order of claims. ``updated_at`` is when that version was committed and
    ``read_at`` when it was seen, both by the store's clock.
    """

    id: JobId
    fields: Fields | None
    version: int
    updated_at: datetime
    read_at: datetime


class Marker(Enum):
    """Values that only the store can fill in."""

    SERVER_TIME = "server time"  # the time of the commit
    DELETE = "delete"  # the field goes


SERVER_TIME = Marker.SERVER_TIME
DELETE = Marker.DELETE


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Fields to write. Keys are field paths, dotted into maps; values may hold ``SERVER_TIME``, and be ``DELETE``.

    ``reason`` is the transition's name in the log. With ``create`` the document must be absent, else present.
    """

    reason: str
    fields: Mapping[str, Any]
    create: bool = False


class Why(StrEnum):
    """Why a decision refuses to write."""

    ABSENT = "the document does not exist"
    NOT_QUEUED = "the document is not queued"
    NOT_PROCESSING = "the document is not being processed"
    NOT_OURS = "another worker, or an older one, holds the document"
    NOT_YET = "the document may be claimed later"
    NOT_SERVED = "this worker does not serve the job's model"
    ALIVE = "the lease is alive"
    CANCEL_REQUESTED = "its client asked for cancellation"
    CHANGED = "its request was changed after the claim"
    DONE = "there is nothing to write"
    LOST = "another writer was quicker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A decision not to write: nothing is wrong, there is just nothing to do here."""

    why: Why
    until: datetime | None = None  # with NOT_YET: the moment to look again, by the store's clock


Decide = Callable[[Document, datetime], Changes | Refusal]
"""A pure decision from a document and the store's time. It may be called again with a newer document."""


def apply(fields: Fields | None, changes: Changes, now: datetime) -> dict[str, Any]:
    """The fields after ``changes``, committed at ``now``. Every store behaves as this does."""
    result = dict(fields or {})
    for path, value in changes.fields.items():
        _put(result, path.split("."), value, now)
    return result


def _put(place: dict[str, Any], path: list[str], value: Any, now: datetime) -> None:
    name, *rest = path
    if rest:
        child = place.get(name)
        if value is DELETE and not isinstance(child, Mapping):
            return
        place[name] = dict(child) if isinstance(child, Mapping) else {}
        _put(place[name], rest, value, now)
    elif value is DELETE:
        place.pop(name, None)
    else:
        place[name] = fill(value, now)


def fill(value: Any, now: datetime) -> Any:
    """``value`` with every ``SERVER_TIME`` in it replaced by ``now``."""
    if value is SERVER_TIME:
        return now
    if isinstance(value, Mapping):
        return {key: fill(item, now) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill(item, now) for item in value]
    return value

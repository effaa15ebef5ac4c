"""Media objects: their names, the mark that ties one to a claim, and who may replace what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from daemon.core.errors import LeaseLost, Rejected
from daemon.core.job import Collection, Fields, JobId
from daemon.core.record import Record, holder

MOST_MEDIA = {Collection.IMAGES: 4, Collection.VIDEOS: 1}  # of one job, by contract
MAX_NAME_BYTES = 1024  # of an object's name: cloud.google.com/storage/docs/objects#naming


class ContentType(StrEnum):
    """The media we write, and their previews."""

    PNG = "image/png"
    MP4 = "video/mp4"
    JPEG = "image/jpeg"


def object_names(job: JobId, count: int, *, prefix: str) -> list[str]:
    """The names of a job's ``count`` media: ``{file_uid}``, then ``{file_uid}_1``, ``_2`` and so on."""
    suffix = "png" if job.collection is Collection.IMAGES else "mp4"
    folder = f"{prefix}/{job.user_id}/{job.collection.folder}"
    return [f"{folder}/{job.file_uid}{f'_{index}' if index else ''}.{suffix}" for index in range(count)]


def preview_name(job: JobId, *, prefix: str) -> str:
    """The name of the small picture of what a running job is making. No medium of any job has it."""
    return f"{prefix}/{job.user_id}/{job.collection.folder}/{job.file_uid}_preview.jpg"


def all_names(job: JobId, *, prefix: str) -> list[str]:
    """Every name under which a claim of a job may leave something."""
    return [*object_names(job, MOST_MEDIA[job.collection], prefix=prefix), preview_name(job, prefix=prefix)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Which claim wrote an object; kept in the object's metadata.

    ``claimed`` is the version of the document that the claim committed. Versions of one document only grow, so that of
    two claims the later one has the larger number.
    """

    document: str  # path
    token: str
    attempt: int
    claimed: int

    def metadata(self) -> dict[str, str]:
        return {
            "easeld-document": self.document,
            "easeld-token": self.token,
            "easeld-attempt": str(self.attempt),
            "easeld-claimed": str(self.claimed),
        }

    @classmethod
    def read(cls, metadata: Mapping[str, str]) -> Self | None:
        """The mark in an object's metadata, or ``None`` where the object is not ours."""
        try:
            return cls(
                document=metadata["easeld-document"],
                token=metadata["easeld-token"],
                attempt=int(metadata["easeld-attempt"]),
                claimed=int(metadata["easeld-claimed"]),
            )
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One generation of an object."""

    name: str
    generation: int
    crc32c: str  # base64 of the big-endian checksum, as Cloud Storage gives it
    size: int  # bytes
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How to write an object: on which condition, and with what beside the bytes."""

    generation: int  # the generation that is replaced; 0: there must be none
    content_type: ContentType
    crc32c: str
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """The object is there already, whole, by this very claim."""

    generation: int


def place(
    existing: StoredObject | None, *, mark: Mark, crc32c: str, content_type: ContentType, may_adopt: bool
) -> Placement | Present:
    """Decide how this claim may write an object.

    ``may_adopt`` says that an object without a mark may be replaced: the document names it, or it has the document's
    own base name and the life is new (an older worker made it).

    Raises:
        LeaseLost: a later claim of this document wrote it.
        Rejected: it belongs to another document, or to nobody we know.
    """

    def replacing(generation: int) -> Placement:
        return Placement(generation=generation, content_type=content_type, crc32c=crc32c, mark=mark)

    if existing is None:
        return replacing(0)
    theirs = Mark.read(existing.metadata)
    if theirs is None:
        if may_adopt:
            return replacing(existing.generation)
        raise Rejected(f"The object {existing.name} exists already and was not made for this document")
    if theirs.document != mark.document:
        raise Rejected(f"The object {existing.name} exists already and belongs to {theirs.document}")
    if theirs.token == mark.token:
        if existing.crc32c == crc32c:
            return Present(generation=existing.generation)
        return replacing(existing.generation)
    if theirs.claimed > mark.claimed:
        raise LeaseLost
    return replacing(existing.generation)


def is_orphan(mark: Mark, fields: Fields | None, *, preview: bool = False) -> bool:
    """Whether an object with this mark belongs to no living claim and no result of its document.

    What a claim uploaded before it failed or was cancelled is an orphan: its result names no media. A ``preview`` is
    one as soon as its claim is over: no result names it. ``fields`` come from a fresh read of ``mark.document``; for an
    absent document only the claim itself may clean up.
    """
    if fields is None:
        return False
    lease, result = holder(fields), Record.of(fields).result
    named = result is not None and result.has_media and not preview
    return mark.token not in (lease and lease.token, result.token if result and named else None)


def check_name(name: str) -> None:
    """Refuse a name that the bucket would refuse.

    Raises:
        Rejected: it is too long.
    """
    if len(name.encode()) > MAX_NAME_BYTES:
        raise Rejected("user_id and file_uid are too long together for an object name")

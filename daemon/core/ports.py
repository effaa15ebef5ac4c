"""What the flow needs of the outside: a store of documents, a store of media, and hints. Adapters implement these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from daemon.core.errors import DocumentTooLarge, StoreUnavailable
from daemon.core.job import Collection, Decide, Document, JobId, Refusal, Why
from daemon.core.objects import Mark, Placement, StoredObject


class Subscription(Protocol):
    """A running hint: it calls back when something may have changed. Losing hints costs time, never a job.

    Once it hears, it calls back for what may have changed before.
    """

    def alive(self) -> bool:
        """Whether hints can be trusted to come; ``False`` also while it is being opened, and when nobody can tell."""
        ...

    @property
    def reason(self) -> str:
        """Why it is not alive, for the log."""
        ...

    def news(self) -> list[Document]:
        """What it has heard of since the last call and still has, each as it then was; nothing, where it hears no more.

        A shortcut past the window, and no more than that: whoever claims one finds out whether it is still so.
        """
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """Documents. Every method raises ``StoreUnavailable`` where the store cannot be reached; all are thread safe.

    The read-only queries return documents in the order given, paths that are no job's left out. ``limit`` counts what
    is returned. ``after`` is the last document of the page before.
    """

    def read(self, job: JobId) -> Document:
        """Read afresh. An absent document has ``fields`` of ``None``."""
        ...

    def update(self, target: Document | JobId, decide: Decide) -> Document | Refusal:
        """Write what ``decide`` says, atomically, on the condition that the document is still what it saw.

        Starts from the document in hand, or reads. Where another writer was quicker, reads and decides again.

        Raises:
            DocumentTooLarge: the store refuses the write for the document's size or index entries.
        """
        ...

    def claim(self, document: Document, decide: Decide) -> Document | Refusal:
        """As ``update`` from the document in hand, but gives up with ``Why.LOST`` at once.

        A lost acknowledgement looks like losing: a claim that lost must be read again before its job is forgotten
        for good, which the rescue of expired leases does anyway.
        """
        ...

    def claim_together(self, claims: Sequence[tuple[Document, Decide]]) -> list[Document | Refusal] | None:
        """As ``claim`` for each of several documents, no two the same, in one round trip.

        ``None`` where one of them may stand in the way of the rest: then nothing was written, unless an
        acknowledgement was lost, and each has to be claimed by itself.
        """
        ...

    def window(self, collections: Sequence[Collection], *, limit: int, after: Document | None = None) -> list[Document]:
        """Queued documents by ``created_at``, oldest first (missing ``created_at`` is not seen here)."""
        ...

    def by_name(
        self, collections: Sequence[Collection], *, status: str, limit: int, after: Document | None = None
    ) -> list[Document]:
        """Documents of one status by path: finds what the other queries hide for a missing or mistyped field."""
        ...

    def stale(self, *, before: datetime, limit: int, after: Document | None = None) -> list[Document]:
        """Processing documents whose ``modified`` lies before a time, by ``modified``."""
        ...

    def cancelling(self, *, limit: int) -> list[Document]:
        """Queued and processing documents with ``cancel_requested: true``."""
        ...

    def newest(
        self, *, status: str, limit: int, user_id: str | None = None, before: datetime | None = None
    ) -> list[Document]:
        """Documents of one status, all users' or one's, by ``created_at``, the newest first.

        With ``before``, only those created before that time. What has no ``created_at`` is not seen, as in the window.
        """
        ...

    def queued(self, collections: Sequence[Collection], *, before: datetime | None = None) -> int:
        """How many documents are queued, counted by the store and not read; other apps' of that shape among them.

        With ``before``, only those created before that time.
        """
        ...

    def now(self) -> datetime:
        """The store's time: that of the last response, and what has passed since by a monotonic clock."""
        ...

    def listen(self, collections: Sequence[Collection], wake: Callable[[], None]) -> Subscription:
        """Call ``wake`` soon after a document becomes queued, from any process."""
        ...

    def listen_cancellations(self, collections: Sequence[Collection], wake: Callable[[], None]) -> Subscription:
        """Call ``wake`` soon after a queued or processing document gets ``cancel_requested: true``.

        Those of other collections may wake, too.
        """
        ...

    def probe(self) -> list[str]:
        """Run every query once; one line for each trouble, saying what to do (a missing index, say)."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One of many updates: of the first of these documents that exists, or where none does, of the first."""

    candidates: tuple[JobId, ...]
    decide: Decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of one of many updates: written, or refused for a reason."""

    job: JobId
    why: Why | None = None


class Intake(Store, Protocol):
    """A store that takes in many jobs at once."""

    def update_each(self, updates: Sequence[Update]) -> list[Settled | DocumentTooLarge | StoreUnavailable]:
        """As ``update`` for each, in as few round trips as the store allows; none depends on another.

        Returns what became of each, in their order.

        Raises:
            StoreUnavailable: the store is away; any of them may have been written.
        """
        ...


class BlobStore(Protocol):
    """Media objects. Every method raises ``BlobsUnavailable`` where the store cannot be reached; all thread safe."""

    def look(self, name: str) -> StoredObject | None:
        """The object's present generation, or ``None``."""
        ...

    def put(self, name: str, content: bytes, placement: Placement) -> int | None:
        """Store ``content`` under ``name`` if the object's generation is still ``placement.generation`` (0: absent).

        Returns the new generation, or ``None`` where the condition did not hold: look again.

        Raises:
            Retryable: what arrived does not have the placement's checksum; nothing was stored.
            Rejected: the store cannot hold an object of that name.
        """
        ...

    def delete(self, name: str, generation: int) -> bool:
        """Delete that very generation; ``False`` where it is no longer the present one."""
        ...

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose name starts with ``prefix``."""
        ...

    def address(self, name: str, mark: Mark, *, version: int | None = None) -> str:
        """The address under which clients fetch what this claim writes, percent-encoded.

        ``version`` makes it another address for the same object, where a cache might show what was there before.
        """
        ...

    def probe(self) -> list[str]:
        """Write, fetch as a client would and delete a small object; one line for each trouble, saying what to do."""
        ...

    def close(self) -> None: ...


class Supervisor(Protocol):
    """Whoever started this process and restarts it: systemd, or nobody. Nothing here fails or waits."""

    def ready(self) -> None:
        """Say that the start is over."""
        ...

    def status(self, text: str) -> None:
        """Say what the process does, in one line for a person."""
        ...

    def alive(self) -> None:
        """Say that it lives; the supervisor kills what has not said so for too long."""
        ...

    def stopping(self) -> None:
        """Say that the end has begun."""
        ...

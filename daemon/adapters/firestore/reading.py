"""Documents from snapshots, and lists of documents from queries over several collection groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from heapq import merge
from itertools import islice
from typing import Any, cast

from google.cloud.firestore_v1._helpers import decode_dict
from google.cloud.firestore_v1.base_aggregation import AggregationResult
from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.query import Query

from daemon.adapters.firestore import queries
from daemon.adapters.firestore.client import Client, disarm
from daemon.adapters.firestore.failures import translated
from daemon.adapters.firestore.times import StoreClock, as_datetime, as_version
from daemon.core.job import Document, JobId

FOREIGN_PAGES = 20  # pages of one query that may hold nothing but other apps' documents

Page = list[DocumentSnapshot[Any]]


def as_document(job: JobId, snapshot: DocumentSnapshot[Any]) -> Document:
    """The document that a snapshot shows."""
    read_at = as_datetime(snapshot.read_time)
    if not snapshot.exists:
        return Document(id=job, fields=None, version=0, updated_at=read_at, read_at=read_at)
    return Document(
        id=job,
        fields=snapshot.to_dict(),
        version=as_version(snapshot.update_time),
        updated_at=as_datetime(snapshot.update_time),
        read_at=read_at,
    )


def as_heard(client: Client, raw: Any) -> Document | None:
    """The job that a listener's raw document is; ``None`` for another app's."""
    own = client.documents
    job = JobId.parse(raw.name.removeprefix(own))
    if job is None:
        return None
    disarm(raw.fields.values(), own)
    return Document(
        id=job,
        fields=cast("dict[str, Any]", decode_dict(raw.fields, client)),
        version=as_version(raw.update_time),
        updated_at=as_datetime(raw.update_time),
        read_at=as_datetime(raw.update_time),  # then at least it was so
    )


class Reader:
    """Runs queries; each tells the clock what time the server has. Raises ``StoreUnavailable``."""

    def __init__(self, client: Client, clock: StoreClock) -> None:
        self._client = client
        self._clock = clock
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="firestore-query")

    def merged(
        self,
        asked: Sequence[Query],
        field: str | None,
        limit: int,
        after: Document | None,
        *,
        descending: bool = False,
    ) -> list[Document]:
        """The first ``limit`` jobs after a document, of queries that are all ordered by ``field``, or by path."""
        if after is not None:
            asked = [queries.after(self._client, query, after, field) for query in asked]
        # The first pages of all collections at once: one round trip, not one for each.
        firsts = list(self._pool.map(lambda query: self.page(query, limit), asked)) if len(asked) > 1 else [None]
        rows = [self._rows(query, limit, first) for query, first in zip(asked, firsts, strict=True)]
        return list(islice(merge(*rows, key=queries.order(field), reverse=descending), limit))

    def page(self, query: Query, limit: int) -> Page:
        """The first ``limit`` documents of a query, anybody's."""
        with translated("asking for documents", project=self._client.project):
            page = list(query.limit(limit).stream(**self._client.limits))
        for snapshot in page[:1]:
            self._clock.saw(as_datetime(snapshot.read_time))
        return page

    def count(self, query: Query) -> int:
        """How many documents a query would find, counted by the server."""
        with translated("counting documents", project=self._client.project):
            [[result]] = cast("list[list[AggregationResult]]", query.count().get(**self._client.limits))
        return int(result.value)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _rows(self, query: Query, limit: int, first: Page | None) -> Iterator[Document]:
        """The jobs that a query finds, page by page, other apps' documents left out."""
        for _ in range(FOREIGN_PAGES):
            page, first = first if first is not None else self.page(query, limit), None
            for snapshot in page:
                if job := JobId.parse(snapshot.reference.path):
                    yield as_document(job, snapshot)
            if len(page) < limit:
                return
            query = query.start_after(page[-1])

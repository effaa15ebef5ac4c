"""The queries, each over one collection group. Other apps' collections have these names too: check every path.

``firebase/firestore.indexes.json`` holds an index for each of them; a test derives the indexes from ``every``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cmp_to_key
from typing import Any

from google.cloud.firestore_v1 import _helpers
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.client import Client
from google.cloud.firestore_v1.order import Order
from google.cloud.firestore_v1.query import Query

from daemon.core.job import Collection, Document, Status

NAME = "__name__"
ACTIVE = [Status.QUEUED.value, Status.PROCESSING.value]


def window(client: Client, collection: Collection) -> Query:
    """Queued documents, oldest first: what is claimed next."""
    return _where(client, collection, "status", Status.QUEUED.value).order_by("created_at").order_by(NAME)


def newest(client: Client, collection: Collection, status: str = Status.QUEUED.value) -> Query:
    """Documents of one status, newest first: a limited listener on the queued ones sees each new one at any length."""
    return _where(client, collection, "status", status).order_by("created_at", direction=Query.DESCENDING)


def newest_of(client: Client, user_id: str, collection: Collection, status: str) -> Query:
    """The same of one user's. It lives on the index of the apps' own query for what is active."""
    query: Query = client.collection("generations", user_id, collection.value).where(
        filter=FieldFilter("status", "==", status)
    )
    return query.order_by("created_at", direction=Query.DESCENDING)


def created_before(query: Query, moment: datetime) -> Query:
    """The same, of what was created before a time; the index is the same, too."""
    return query.where(filter=FieldFilter("created_at", "<", moment))


def by_name(client: Client, collection: Collection, status: str) -> Query:
    """Documents of one status by path."""
    return _where(client, collection, "status", status).order_by(NAME)


def stale(client: Client, collection: Collection, before: datetime) -> Query:
    """Processing documents that have not been touched since."""
    query = _where(client, collection, "status", Status.PROCESSING.value)
    return query.where(filter=FieldFilter("modified", "<", before)).order_by("modified").order_by(NAME)


def cancelling(client: Client, collection: Collection) -> Query:
    """Active documents whose client asked for cancellation."""
    query = _where(client, collection, "cancel_requested", True)
    return query.where(filter=FieldFilter("status", "in", ACTIVE)).order_by(NAME)


def every(client: Client) -> Iterator[tuple[str, Query]]:
    """Each query that is ever made, with its name."""
    for collection in Collection:
        yield f"window of {collection}", window(client, collection)
        yield f"newest of {collection}", newest(client, collection)
        one_users = newest_of(client, "easeld", collection, Status.QUEUED)
        yield f"newest of one user's {collection}", created_before(one_users, datetime(2000, 1, 1, tzinfo=UTC))
        yield f"by name of {collection}", by_name(client, collection, Status.QUEUED)
        yield f"stale of {collection}", stale(client, collection, datetime(2000, 1, 1, tzinfo=UTC))
        yield f"cancelling of {collection}", cancelling(client, collection)


def _where(client: Client, collection: Collection, field: str, value: object) -> Query:
    query: Query = client.collection_group(collection.value).where(filter=FieldFilter(field, "==", value))
    return query


def after(client: Client, query: Query, last: Document, field: str | None) -> Query:
    """The query from where ``last`` stands in its order, whichever collection ``last`` is of."""
    cursor: dict[str, Any] = {NAME: client.document(last.id.path)}
    if field is not None:
        cursor[field] = (last.fields or {}).get(field)
    return query.start_after(cursor)


def order(field: str | None) -> Any:
    """A sort key for documents: by a field as Firestore orders values of any type, then by path."""

    def compare(left: Document, right: Document) -> int:
        if field is not None:
            first, second = (_helpers.encode_value((item.fields or {}).get(field)) for item in (left, right))
            if result := Order.compare(first, second):
                return result
        paths = left.id.path.split("/"), right.id.path.split("/")
        return (paths[0] > paths[1]) - (paths[0] < paths[1])

    return cmp_to_key(compare)

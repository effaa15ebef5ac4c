from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.query import Query
from google.cloud.firestore_v1.types import StructuredQuery

from daemon.adapters.firestore import queries
from daemon.adapters.firestore.client import Client

FILE = Path(__file__).parents[2] / "firebase/firestore.indexes.json"
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
EQUALITIES = {StructuredQuery.FieldFilter.Operator.EQUAL, StructuredQuery.FieldFilter.Operator.IN}


@dataclass(frozen=True)
class Needed:
    """What an index must offer: fields compared for equality first, in any order, then those of the order."""

    scope: str
    group: str
    equal: frozenset[str]
    ordered: tuple[tuple[str, str], ...]

    def met_by(self, index: dict[str, Any]) -> bool:
        """Whether a composite index of the file serves this."""
        fields = [(field["fieldPath"], field["order"]) for field in index["fields"]]
        return (
            index["collectionGroup"] == self.group
            and index["queryScope"] == self.scope
            and {name for name, _ in fields[: len(self.equal)]} == self.equal
            and tuple(fields[len(self.equal) :]) == self.ordered
        )


@pytest.fixture
def client() -> Iterator[Client]:
    """A client that never connects."""
    client = Client(project="test", credentials=AnonymousCredentials(), deadline=1.0)
    yield client
    client.close()  # type: ignore[no-untyped-call]


def made_by_apps(client: Client) -> Iterator[Query]:
    """The queries of contract.md, section 3."""
    for kind in ("images", "videos"):
        own = client.collection("generations", "user", kind)
        group = client.collection_group(kind)
        active = own.where(filter=FieldFilter("status", "in", ["queued", "processing"]))
        yield active.order_by("created_at", direction=Query.DESCENDING)
        for parent in (own, group):
            stuck = parent.where(filter=FieldFilter("status", "==", "processing"))
            yield stuck.where(filter=FieldFilter("modified", "<", MOMENT))
        failures = group.where(filter=FieldFilter("error", "==", True))
        yield failures.where(filter=FieldFilter("failed_at", ">", MOMENT))


def needed(query: Query) -> Needed:
    """Derive from the query, as it goes over the wire, the index that Firestore wants for it."""
    asked = query._to_protobuf()
    [selector] = asked.from_
    where = asked.where
    filters = [part.field_filter for part in where.composite_filter.filters] or [where.field_filter]
    equal = frozenset(part.field.field_path for part in filters if part.op in EQUALITIES)
    ordered = [(order.field.field_path, order.direction.name) for order in asked.order_by]
    ordered = [(name, direction) for name, direction in ordered if name != "__name__"]
    for part in filters:
        name = part.field.field_path
        if name not in equal and name not in dict(ordered):
            ordered.append((name, "ASCENDING"))
    scope = "COLLECTION_GROUP" if selector.all_descendants else "COLLECTION"
    return Needed(scope, selector.collection_id, equal, tuple(ordered))


def all_needed(client: Client) -> list[Needed]:
    """The needs of every query, ours and the apps'."""
    ours = [query for _, query in queries.every(client)]
    return [needed(query) for query in [*ours, *made_by_apps(client)]]


def test_every_query_has_its_index_and_no_index_is_for_nothing(client: Client) -> None:
    """The file holds exactly the composite indexes that our queries and the apps' need."""
    wanted = [each for each in all_needed(client) if len(each.equal) + len(each.ordered) > 1]
    shipped = json.loads(FILE.read_text(encoding="utf-8"))["indexes"]
    assert [each for each in wanted if not any(each.met_by(index) for index in shipped)] == []
    assert [index for index in shipped if not any(each.met_by(index) for each in wanted)] == []
    assert len({json.dumps(index) for index in shipped}) == len(shipped)


def test_a_query_of_one_field_over_a_collection_group_has_its_override(client: Client) -> None:
    """Firestore makes single-field indexes by itself, but only for one collection: the group's must be asked for."""
    wanted = {each for each in all_needed(client) if len(each.equal) + len(each.ordered) == 1}
    assert wanted, "by name is such a query"
    overrides = json.loads(FILE.read_text(encoding="utf-8"))["fieldOverrides"]
    shipped = {
        (override["collectionGroup"], override["fieldPath"], index["order"], index["queryScope"])
        for override in overrides
        for index in override["indexes"]
        if "order" in index
    }
    for each in wanted:
        [name] = [*each.equal, *dict(each.ordered)]
        assert (each.group, name, "ASCENDING", each.scope) in shipped
        assert (each.group, name, "DESCENDING", "COLLECTION") in shipped, "the override keeps the automatic indexes"


def test_no_field_without_an_index_is_asked_for(client: Client) -> None:
    """Texts and our own map are exempt, which keeps large documents writable; no query uses them."""
    overrides = json.loads(FILE.read_text(encoding="utf-8"))["fieldOverrides"]
    exempt = {override["fieldPath"] for override in overrides if not override["indexes"]}
    assert {"prompt", "easeld", "progress"} <= exempt
    used = {name for each in all_needed(client) for name in [*each.equal, *dict(each.ordered)]}
    assert not exempt & {name.split(".")[0] for name in used}

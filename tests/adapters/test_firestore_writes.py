"""Our own way to make a write says what the library's does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

import pytest
from google.cloud import firestore
from google.cloud.firestore_v1._helpers import pbs_for_update
from google.cloud.firestore_v1.types import Write
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.firestore import writes
from daemon.adapters.firestore.times import from_version
from daemon.core.job import DELETE, SERVER_TIME, Changes

NAME, VERSION = "projects/p/databases/(default)/documents/generations/u/images/a", 1_700_000_000_123_456_789
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.just(UTC))
    | st.builds(firestore.GeoPoint, st.floats(-90, 90), st.floats(-180, 180))
)
LISTS = st.lists(PLAIN | st.dictionaries(st.text(min_size=1), PLAIN, max_size=2), max_size=3)
MAPS = st.recursive(
    st.dictionaries(st.text(min_size=1), PLAIN | LISTS, min_size=1, max_size=3),
    # A map of nothing but times of the server's: the library leaves it out, we write it empty, and it ends the same.
    lambda inner: st.builds(
        lambda plain, more: {"plain": plain, **more},
        PLAIN,
        st.dictionaries(st.text(min_size=1), inner | st.just(SERVER_TIME), max_size=3),
    ),
    max_leaves=5,
)
FIELDS = st.dictionaries(
    st.sampled_from(["status", "modified", "easeld.lease", "easeld.result", "easeld.a.b", "progress"]),
    PLAIN | LISTS | MAPS | st.just(SERVER_TIME) | st.just(DELETE),
    min_size=1,
)


@given(fields=FIELDS)
def test_a_write_is_the_librarys(fields: Mapping[str, Any]) -> None:
    """Values, mask, transforms and condition are the same, in whatever order."""
    ours = Write.pb(writes.update(NAME, Changes(reason="test", fields=fields), version=VERSION))
    condition = firestore.Client.write_option(last_update_time=from_version(VERSION))
    [write] = pbs_for_update(NAME, {path: dressed(value) for path, value in fields.items()}, condition)
    theirs = Write.pb(write)
    for each in (ours, theirs):
        each.update_mask.field_paths.sort()
        each.update_transforms.sort(key=lambda transform: transform.field_path)
    assert ours == theirs


@pytest.mark.parametrize("value", [object(), [SERVER_TIME], [{"at": SERVER_TIME}], {"a": [{"at": SERVER_TIME}]}])
def test_what_firestore_cannot_hold_is_refused(value: object) -> None:
    """A value of no type of Firestore's raises, and is not left out; so does a time of the server's within a list."""
    with pytest.raises(TypeError):
        writes.update(NAME, Changes(reason="test", fields={"a": value}), version=VERSION)


def dressed(value: Any) -> Any:
    """A value of ``Changes`` as the library takes it."""
    if isinstance(value, dict):
        return {key: dressed(item) for key, item in value.items()}
    if value is SERVER_TIME:
        return firestore.SERVER_TIMESTAMP
    return firestore.DELETE_FIELD if value is DELETE else value

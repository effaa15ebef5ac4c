"""What ``/docs`` and ``/openapi.json`` tell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from daemon.adapters.sqlite import SqliteStore
from daemon.core.request import NAMES, RANGES
from tests.entrypoints.shim.running import Shim, running


@pytest.fixture
def shim(sqlite_store: SqliteStore) -> Iterator[Shim]:
    """A shim on the embedded store."""
    with running(sqlite_store) as shim:
        yield shim


def test_it_describes_every_field_with_its_range(shim: Shim) -> None:
    """From the code that checks them, so that they cannot differ."""
    schema = shim.http.get("/openapi.json").json()
    operation = schema["paths"]["/v2/{endpoint_id}/runsync"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]["input"]
    assert set(body["properties"]) == {*NAMES, "user_id", "file_uid"}
    assert body["required"] == ["prompt", "user_id", "file_uid", "use_cloud_storage"]
    for name, (least, most) in RANGES.items():
        shown = body["properties"][name]
        assert (shown["minimum"], shown["maximum"]) == (least, most)


def test_it_describes_the_answers_that_it_gives(shim: Shim) -> None:
    """Every status of the contract in the contract's form; none that only the framework knows."""
    schema = shim.http.get("/openapi.json").json()
    answers = schema["paths"]["/v2/{endpoint_id}/runsync"]["post"]["responses"]
    assert set(answers) == {"200", "400", "401", "404", "413", "415", "429", "503"}
    assert set(schema["components"]["schemas"]) == {"Accepted", "Failure"}
    runpod = {"run", "runsync", "status/{job_id}", "cancel/{job_id}", "health"}
    assert set(schema["paths"]) == {f"/v2/{{endpoint_id}}/{name}" for name in runpod} | {"/healthz", "/readyz"}


def test_a_person_finds_the_description(shim: Shim) -> None:
    """``/docs`` is a page, without a key: it tells nothing that this repository does not."""
    page = shim.http.get("/docs", headers={"Authorization": ""})
    assert page.status_code == 200
    assert "openapi.json" in page.text

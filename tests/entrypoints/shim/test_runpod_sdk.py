"""The real RunPod SDK, unmodified, with its base address pointing at the shim."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from daemon.core import lifecycle
from daemon.core.errors import JobError
from daemon.core.job import Collection, Decide, Document, JobId
from daemon.core.policy import Ticket
from daemon.entrypoints.shim.jobs import decode, encode
from tests.core.samples import POLICY, outcome
from tests.entrypoints.shim.running import ENDPOINT, KEY, Shim, job_of, request, running
from tests.parts.missing import skip_or_fail

TOKEN = "the-claim"


@pytest.fixture
def endpoint(shim: Shim, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An endpoint of the SDK."""
    try:
        runpod: Any = importlib.import_module("runpod")
    except ImportError:
        skip_or_fail("RunPod's SDK", "pip install runpod")
    monkeypatch.setattr(runpod, "endpoint_url_base", f"{shim.address}/v2")
    endpoint = runpod.Endpoint(ENDPOINT, api_key=KEY)
    yield endpoint
    endpoint.rp_client.rp_session.close()


def decided(shim: Shim, job: JobId, decide: Decide) -> None:
    """Let a worker write."""
    assert isinstance(shim.store.update(job, decide), Document)


def take(shim: Shim, job: JobId) -> None:
    """Hold a job, as a worker does."""
    ticket = Ticket(worker="one", token=TOKEN, seed=42)
    decided(shim, job, partial(lifecycle.take, policy=POLICY, ticket=ticket))


def test_a_job_is_run_asked_for_and_handed_over(shim: Shim, endpoint: Any) -> None:
    """``run``, ``status``, ``output`` and ``health``, through a job's whole life; its document is the output."""
    fields = request(width=640)
    job = job_of(fields)
    running = endpoint.run(fields)
    assert running.status() == "IN_QUEUE"
    assert endpoint.health(timeout=30) == {"jobs": {"inQueue": 1, "inProgress": 0}, "workers": {"running": 0}}
    take(shim, job)
    assert running.status() == "IN_PROGRESS"
    assert endpoint.health(timeout=30) == {"jobs": {"inQueue": 0, "inProgress": 1}, "workers": {"running": 1}}
    assert running.output() is None
    decided(shim, job, partial(lifecycle.complete, token=TOKEN, outcome=outcome(job)))
    assert running.status() == "COMPLETED"
    output = running.output()
    assert output["images"] == ["https://h/0.png"]
    assert output["completed_at"] == output["modified"]
    assert "easeld" not in output
    assert endpoint.run({"input": fields}).status() == "COMPLETED", "the same request is no second generation"


def test_a_job_that_waits_is_told_its_place(shim: Shim, endpoint: Any) -> None:
    """Beside RunPod's fields, as long as it waits; the time too, once enough jobs have told how long they took."""
    requests = [request() for _ in range(6)]
    for fields in requests:
        endpoint.run(fields)

    def asked(fields: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = shim.http.get(f"/v2/{ENDPOINT}/status/{encode(job_of(fields))}").json()
        return {name: value for name, value in answer.items() if name != "id"}

    assert asked(requests[5]) == {"status": "IN_QUEUE", "position": 6}
    for fields in requests[:4]:
        take(shim, job_of(fields))
        made = replace(outcome(job_of(fields)), timings={"total": 8.0})
        decided(shim, job_of(fields), partial(lifecycle.complete, token=TOKEN, outcome=made))
    assert "position" not in asked(requests[0])
    with running(shim.store) as another:
        answer = another.http.get(f"/v2/{ENDPOINT}/status/{encode(job_of(requests[4]))}").json()
    assert (answer["status"], answer["position"]) == ("IN_QUEUE", 1)
    assert 2.0 <= answer["expected_wait_seconds"] < 8.0  # four of 8 s that ended together: 2 s each


def test_a_failed_job_says_why(shim: Shim, endpoint: Any) -> None:
    """``FAILED``, with the message as RunPod has it."""
    fields = request()
    job = job_of(fields)
    running = endpoint.run(fields)
    take(shim, job)
    decided(shim, job, partial(lifecycle.fail, token=TOKEN, error=JobError("The pipeline broke")))
    assert running.status() == "FAILED"
    answer = shim.http.get(f"/v2/{ENDPOINT}/status/{encode(job)}").json()
    assert answer["error"] == "The pipeline broke"
    assert answer["output"]["error_type"] == "Exception"


def test_a_job_is_cancelled(shim: Shim, endpoint: Any) -> None:
    """``cancel`` asks in the client's name; what has ended stays as it is."""
    fields = request(num_frames=16)
    job = job_of(fields, Collection.VIDEOS)
    running = endpoint.run(fields)
    assert running.cancel()["status"] == "CANCELLED"
    assert (shim.fields(job) or {})["cancel_requested"] is True
    decided(shim, job, lifecycle.cancel)
    version = shim.store.read(job).version
    assert running.cancel()["status"] == "CANCELLED"
    assert shim.store.read(job).version == version
    assert running.status() == "CANCELLED"


@pytest.mark.parametrize("identifier", ["nonsense", "", "aW1hZ2Vz", "c291bmRzL2EvYg", "aW1hZ2VzLy9i", "é", "a" * 5000])
def test_an_id_that_is_none_of_ours_is_not_found(shim: Shim, identifier: str) -> None:
    """As is a job whose document is not there; all in the contract's form."""
    absent = encode(JobId(user_id="nobody", collection=Collection.IMAGES, file_uid="x"))
    for name in (identifier, absent):
        for method, what in (("GET", "status"), ("POST", "cancel")):
            answer = shim.http.request(method, f"/v2/{ENDPOINT}/{what}/{name}")
            assert answer.status_code == 404
            assert answer.json()["status"] == "failed"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "run"), ("GET", "status/a"), ("POST", "cancel/a"), ("GET", "health")]
)
def test_every_endpoint_asks_for_the_key(shim: Shim, method: str, path: str) -> None:
    """And checks the endpoint's id."""
    assert shim.http.request(method, f"/v2/{ENDPOINT}/{path}", headers={"Authorization": "Bearer x"}).status_code == 401
    assert shim.http.request(method, f"/v2/other/{path}").status_code == 404


def test_an_id_is_the_address_of_a_document() -> None:
    """Any legal name survives the way there and back."""
    for name in ("a", "é#?%", "x" * 500, "a b"):
        job = JobId(user_id=name, collection=Collection.VIDEOS, file_uid=name)
        assert decode(encode(job)) == job

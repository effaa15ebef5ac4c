"""What a call does to a document in each of its states, on both kinds of store."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from threading import Barrier
from typing import Any

import httpx2
import pytest

from daemon.core import lifecycle
from daemon.core.errors import JobError
from daemon.core.job import SERVER_TIME, Changes, Collection, Decide, Document, JobId, Refusal
from daemon.core.policy import Ticket
from daemon.core.ports import Store
from daemon.core.record import Record
from tests.contracts.conftest import Database
from tests.core.samples import POLICY, outcome
from tests.entrypoints.shim.running import Shim, job_of, request

TOKEN = "the-claim"
AT_ONCE = replace(POLICY, settling_seconds=0.0)  # a worker that waits for no call
MANY = 100  # identical calls at once


def written(store: Store, job: JobId, decide: Decide) -> Document:
    """Let a worker or a client write."""
    result = store.update(job, decide)
    assert isinstance(result, Document), result
    return result


def claim(store: Store, job: JobId) -> Document:
    """Hold a queued job, as a worker does."""
    ticket = Ticket(worker="one", token=TOKEN, seed=42)
    return written(store, job, partial(lifecycle.take, policy=AT_ONCE, ticket=ticket))


def complete(store: Store, job: JobId) -> Document:
    """Hold and finish a queued job."""
    claim(store, job)
    return written(store, job, partial(lifecycle.complete, token=TOKEN, outcome=outcome(job)))


def fail(store: Store, job: JobId) -> Document:
    """Hold and fail a queued job."""
    claim(store, job)
    return written(store, job, partial(lifecycle.fail, token=TOKEN, error=JobError("The pipeline broke")))


def client_writes(database: Database, fields: dict[str, Any], **more: Any) -> JobId:
    """The document as an app writes it before it calls."""
    job = job_of(fields, Collection.VIDEOS if fields.get("numFrames") else Collection.IMAGES)
    document = {"prompt": fields["prompt"], "status": "queued", "created_at": SERVER_TIME, "style": "mine", **more}
    database.client.set(job.path, document)
    return job


def accept(shim: Shim, fields: dict[str, Any]) -> httpx2.Response:
    """A call that is accepted."""
    answer = shim.call(fields)
    assert answer.status_code == 200, answer.text
    return answer


def test_a_call_without_a_document_creates_it(shim: Shim) -> None:
    """All that a client would have written, and when."""
    fields = request(width=640, negativePrompt="blurry")
    accept(shim, fields)
    document = dict(shim.fields(job_of(fields)) or {})
    created, submitted = document.pop("created_at"), document.pop("submitted_at")
    assert isinstance(created, datetime)
    assert created == submitted
    assert document == {
        "prompt": "a red car",
        "negative_prompt": "blurry",
        "width": 640,
        "use_cloud_storage": True,
        "user_id": "ada",
        "file_uid": fields["file_uid"],
        "status": "queued",
        "generated": False,
        "error": False,
    }


def test_a_call_adds_its_parameters_to_the_queued_document(shim: Shim, database: Database) -> None:
    """The second kind of client: the document has the prompt and metadata, the call the rest."""
    fields = request(width=640, seed=7)
    job = client_writes(database, fields, rating=5)
    before = shim.store.read(job)
    accept(shim, fields)
    document = dict(shim.fields(job) or {})
    assert (document["width"], document["seed"], document["style"], document["rating"]) == (640, 7, "mine", 5)
    assert document["created_at"] == (before.fields or {})["created_at"]
    assert isinstance(document["submitted_at"], datetime)
    assert document["status"] == "queued"


def test_the_calls_value_wins_over_the_documents(shim: Shim, database: Database) -> None:
    """In whichever spelling the document has it."""
    fields = request(num_inference_steps=30)
    job = client_writes(database, fields, numInferenceSteps=20)
    accept(shim, fields)
    document = dict(shim.fields(job) or {})
    assert document["num_inference_steps"] == 30


@pytest.mark.parametrize(
    ("given", "collection"),
    [({"numFrames": 16}, Collection.IMAGES), ({}, Collection.VIDEOS)],
    ids=["an image's document", "a video's document"],
)
def test_the_collection_of_an_existing_document_decides(
    shim: Shim, database: Database, given: dict[str, Any], collection: Collection
) -> None:
    """A call that names frames for an image's document makes an image, and the other way round."""
    fields = request(**given)
    job = job_of(fields, collection)
    database.client.set(job.path, {"prompt": "a", "status": "queued", "created_at": SERVER_TIME})
    assert accept(shim, fields).json()["task_type"] == collection.task.value
    assert "submitted_at" in (shim.fields(job) or {})
    (other,) = set(Collection) - {collection}
    assert shim.fields(job_of(fields, other)) is None


def test_the_same_call_again_writes_nothing(shim: Shim, database: Database) -> None:
    """A client that timed out calls again, queued or processing or done: accepted, and one generation."""
    fields = request(width=640)
    job = client_writes(database, fields)
    accept(shim, fields)
    for move in (lambda: None, partial(claim, shim.store, job), partial(_complete_held, shim.store, job)):
        move()
        before = shim.store.read(job)
        accept(shim, fields)
        assert shim.store.read(job).version == before.version
    assert (shim.fields(job) or {})["status"] == "completed"


def _complete_held(store: Store, job: JobId) -> None:
    written(store, job, partial(lifecycle.complete, token=TOKEN, outcome=outcome(job)))


def test_a_call_with_other_parameters_reaches_the_worker_that_holds_the_job(shim: Shim, database: Database) -> None:
    """The parameters are merged; the holder's next write is refused because of them, and it starts over."""
    fields = request()
    job = client_writes(database, fields)
    claim(shim.store, job)
    accept(shim, fields | {"width": 640})
    document = dict(shim.fields(job) or {})
    assert (document["status"], document["width"]) == ("processing", 640)
    assert document["easeld"]["lease"]["token"] == TOKEN
    renewed = shim.store.update(job, partial(lifecycle.renew, token=TOKEN))
    assert isinstance(renewed, Refusal)


@pytest.mark.parametrize("end", [complete, fail])
def test_a_call_equal_to_the_one_that_ended_writes_nothing(shim: Shim, end: Callable[[Store, JobId], Document]) -> None:
    """Neither a finished picture is made again, nor what failed is tried again by a mere retry of the call."""
    fields = request(width=640)
    accept(shim, fields)
    ended = end(shim.store, job_of(fields))
    accept(shim, fields)
    assert shim.store.read(job_of(fields)).version == ended.version


def test_a_completed_job_is_not_made_again_for_other_parameters(shim: Shim) -> None:
    """What was called for and delivered stays; a new picture has a new name."""
    fields = request()
    accept(shim, fields)
    ended = complete(shim.store, job_of(fields))
    accept(shim, fields | {"width": 640})
    assert shim.store.read(job_of(fields)).version == ended.version


def test_a_failed_job_begins_a_new_life_with_another_request(shim: Shim) -> None:
    """A user who mends the request and tries again under the same name gets a fresh job."""
    fields = request()
    accept(shim, fields)
    fail(shim.store, job_of(fields))
    accept(shim, fields | {"width": 640})
    document = dict(shim.fields(job_of(fields)) or {})
    assert (document["status"], document["width"], document["error"]) == ("queued", 640, False)
    assert not {"error_message", "error_type", "failed_at", "easeld"} & set(document)


def test_a_job_that_its_client_failed_begins_a_new_life_with_any_call(shim: Shim, database: Database) -> None:
    """The client gave up on a call that did not come through, and calls again."""
    fields = request()
    job = client_writes(database, fields, status="failed", error=True, error_message="timeout")
    accept(shim, fields)
    document = dict(shim.fields(job) or {})
    assert (document["status"], document["error"], document["style"]) == ("queued", False, "mine")
    assert "error_message" not in document


def test_a_hundred_identical_calls_at_once_are_one_job(shim: Shim) -> None:
    """All are accepted; the document is written once and can be claimed once."""
    fields = request(width=640)
    start = Barrier(MANY)

    def one(_: int) -> int:
        start.wait(60)
        return shim.call(fields).status_code

    with ThreadPoolExecutor(MANY) as threads:
        assert set(threads.map(one, range(MANY))) == {200}
    document = shim.store.read(job_of(fields))
    assert document.fields is not None
    assert document.fields["created_at"] == document.fields["submitted_at"], "a second write would have a later time"
    assert shim.fields(job_of(fields, Collection.VIDEOS)) is None
    ended = complete(shim.store, job_of(fields))
    assert (ended.fields or {})["easeld"]["finishes"] == 1


def test_calls_that_race_with_the_clients_own_write_are_one_job(shim: Shim, database: Database) -> None:
    """Whoever is first, there is one document, queued, whose every parameter is the client's."""
    for _ in range(5):
        fields = request(width=640, seed=7)
        start = Barrier(9)

        def call(fields: dict[str, Any] = fields, start: Barrier = start) -> int:
            start.wait(60)
            return shim.call(fields).status_code

        def write(fields: dict[str, Any] = fields, start: Barrier = start) -> None:
            start.wait(60)
            client_writes(database, fields, width=640, seed=7)

        with ThreadPoolExecutor(9) as threads:
            calls = [threads.submit(call) for _ in range(8)]
            threads.submit(write).result()
            assert {called.result() for called in calls} == {200}
        document = dict(shim.fields(job_of(fields)) or {})
        assert document["style"] == "mine"
        assert (document["status"], document["width"], document["seed"]) == ("queued", 640, 7)
        assert shim.fields(job_of(fields, Collection.VIDEOS)) is None
        accept(shim, fields)  # a retry of the call: the same job still
        ended = complete(shim.store, job_of(fields))
        assert (ended.fields or {})["easeld"]["finishes"] == 1
        accept(shim, fields)
        assert shim.store.read(job_of(fields)).version == ended.version


def test_a_call_races_with_a_claim_and_neither_is_lost(shim: Shim, database: Database) -> None:
    """The worker has claimed with the call's parameters, or learns of them at its next write."""
    for _ in range(5):
        fields = request(width=640)
        job = client_writes(database, fields)
        start = Barrier(2)

        def call(fields: dict[str, Any] = fields, start: Barrier = start) -> int:
            start.wait(60)
            return shim.call(fields).status_code

        with ThreadPoolExecutor(1) as thread:
            called = thread.submit(call)
            start.wait(60)
            claim(shim.store, job)
            assert called.result() == 200
        document = dict(shim.fields(job) or {})
        assert (document["status"], document["width"]) == ("processing", 640)
        renewed = shim.store.read(job)
        decided = lifecycle.renew(renewed, renewed.read_at, token=TOKEN)
        claimed = Record.of(document).request or {}
        assert isinstance(decided, Changes) == (claimed["width"] == 640)

"""What the page shows and does, without a browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import pytest

from daemon.core.job import SERVER_TIME, Collection, JobId
from daemon.entrypoints import server
from daemon.entrypoints.page import live
from daemon.entrypoints.page.view import bucket_media, embedded_media, job
from tests.daemon.rig import Rig, until
from tests.entrypoints.page.conftest import Caller
from tests.entrypoints.page.running import serving


def event(caller: Caller, name: str, wanted: Callable[[Any], bool]) -> Any:
    """Read the stream until a section is as wanted."""
    with closing(caller.events()) as events:  # type: ignore[type-var]
        return next(content for of, content in events if of == name and wanted(content))


def test_the_stream_begins_with_every_section(caller: Caller) -> None:
    """So a page that connects, or comes back, knows everything at once."""
    wanted = {"running", "queue", "results", "failures", "minutes", "health", "trouble"}
    with closing(caller.events()) as events:  # type: ignore[type-var]
        for name, _ in events:
            wanted.discard(name)
            if not wanted:
                return
    pytest.fail(f"no {wanted}")


def test_so_many_may_look_at_once_and_no_more(caller: Caller) -> None:
    """A stream too many is refused in words, and one that ends makes room."""
    with ExitStack() as streams:
        for _ in range(live.MOST_STREAMS):
            streams.enter_context(caller.open("GET", "/page/events", headers={}))
        refused = caller.get("/page/events")
    assert refused.status == 503
    assert "Too many people" in refused.json["error"]

    def another() -> bool:
        with caller.open("GET", "/page/events", headers={}) as stream:
            return stream.status == 200

    until(another, "there is room again")


def test_a_running_job_shows_its_steps_as_they_are_made(caller: Caller) -> None:
    """From the worker's memory, sooner than its document tells."""
    caller.rig.device.hold()
    caller.rig.call("first", prompt="one", num_inference_steps=20)
    until(lambda: bool(caller.rig.device.calls), "the device has it")
    caller.rig.device.step(3)
    [running] = event(caller, "running", lambda jobs: jobs and jobs[0]["progress"]["step"] == 3)
    assert running["here"] is True
    assert running["prompt"] == "one"
    assert running["progress"]["percent"] == 15
    assert running["parameters"]["model"] == "shapes"


def test_the_queue_tells_at_which_pace_jobs_have_ended(caller: Caller) -> None:
    """All workers' together; nothing while too few have ended."""
    caller.rig.device.hold()
    assert event(caller, "queue", lambda _: True)["pace"] is None
    for number in range(3):
        made = {"result": {"finished_at": caller.rig.store.now()}, "timings": {"total": 9.0}}
        caller.rig.client.set(
            f"generations/u/images/{number}", {"status": "completed", "created_at": SERVER_TIME, "easeld": made}
        )
    assert 3.0 <= event(caller, "queue", lambda queue: queue["pace"] is not None)["pace"]["each"] < 4.0


def test_a_finished_picture_is_served_from_the_folder(caller: Caller) -> None:
    """Its address changes with each result; ranges work, as a video's player needs them."""
    caller.rig.until_status(caller.rig.call("done"), "completed")
    [result] = event(caller, "results", lambda jobs: len(jobs) == 1)
    [address] = result["media"]
    answer = caller.get(f"/{address}")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert answer.body.startswith(b"\x89PNG")
    part = caller.get(f"/{address}", Range="bytes=1-3")
    assert (part.status, part.body) == (206, b"PNG")


OUTSIDE = (
    "..%2f..%2fjobs.db/image/a.png",
    "u/image/..%2f..%2f..%2f..%2fjobs.db",
    "../../jobs.db/a/b.png",
    "u/..%2f/secret.png",
    "../.easeld/objects.db",
    ".easeld/staged/objects.db",
    "u/image/a%00.png",
    "u/image/link.png",
    "u/image/none.png",
    "u/image/notes.txt",
    "u/image",
)


def test_nothing_but_media_comes_out_of_the_folder(caller: Caller) -> None:
    """No path leads out of it, no link is followed, and no other kind of file is given."""
    folder = caller.rig.folder / "media" / "generating" / "u" / "image"
    folder.mkdir(parents=True)
    (caller.rig.folder / "secret.png").write_text("secret")
    (folder / "link.png").symlink_to(caller.rig.folder / "secret.png")
    (folder / "notes.txt").write_text("notes")
    assert {path: caller.get(f"/page/media/{path}").status for path in OUTSIDE} == dict.fromkeys(OUTSIDE, 404)


def test_a_job_from_the_form_is_as_one_from_a_call(caller: Caller) -> None:
    """The same check, the same document; the ids are the page's, whatever the form says."""
    answer = caller.change("/page/jobs", {"prompt": "x", "num_inference_steps": 10, "user_id": "someone", "seed": 5})
    found = JobId.parse(answer.json["job"])
    assert found is not None
    assert found.user_id == "operator"
    assert caller.rig.until_status(found, "completed")["seed"] == 5
    refused = caller.change("/page/jobs", {"prompt": "x", "width": 1})
    assert (refused.status, refused.json["error"]) == (400, "width must be between 256 and 1024")


def test_again_asks_for_the_same_with_the_same_seed(caller: Caller) -> None:
    """A video too, whose frames must be named to make it a video again."""
    for collection in Collection:
        first = caller.rig.call("one", collection=collection)
        seed = caller.rig.until_status(first, "completed")["seed"]
        found = JobId.parse(caller.change("/page/again", {"job": first.path}).json["job"])
        assert found is not None
        assert found.collection is collection
        assert caller.rig.until_status(found, "completed")["seed"] == seed


def test_buttons_that_come_too_late_say_so(caller: Caller) -> None:
    """A job that has ended cannot be cancelled, a job that waits cannot be retried, and none that is not there."""
    job = caller.rig.call("done")
    caller.rig.until_status(job, "completed")
    assert caller.change("/page/cancel", {"job": job.path}).status == 409
    assert caller.change("/page/retry", {"job": job.path}).status == 200
    assert caller.change("/page/retry", {"job": "generations/u/images/none"}).status == 409
    assert caller.change("/page/retry", {"job": "elsewhere/1"}).status == 404


def test_a_body_that_is_no_small_object_is_refused(caller: Caller) -> None:
    """It is not read further than that."""
    for body, status in (("[]", 400), ("{", 400), ('"x"', 400), ("x" * 70_000, 413)):
        with caller.open("POST", "/page/jobs", body=body, headers={"X-Easeld-Page": "1"}) as answer:
            assert answer.status == status


def test_a_document_of_wrong_types_is_shown_all_the_same(caller: Caller) -> None:
    """Clients may write anything into their documents; the page shows what can be shown."""
    wrong = {"prompt": ["a"], "seed": "x", "progress": 7, "images": 3, "easeld": "no", "width": {"a": float("nan")}}
    caller.rig.client.set(
        "generations/u/images/wrong", {**wrong, "status": "completed", "created_at": SERVER_TIME, "completed_at": 3}
    )
    [shown] = event(caller, "results", lambda jobs: len(jobs) == 1)
    assert shown["prompt"] == "['a']"
    assert shown["media"] == []
    assert shown["progress"] is None


def test_long_texts_are_cut(caller: Caller) -> None:
    """A list of jobs stays small, whatever is in them."""
    made = caller.rig.store.read(caller.rig.call("long"))
    fields = {**(made.fields or {}), "prompt": "x" * 100_000, "error_message": "y" * 100_000}
    shown = job(replace(made, fields=fields), lambda *_: [])
    assert len(shown["prompt"]) == len(shown["error_message"]) == 2000


def test_open_streams_do_not_hold_up_the_end(rig: Rig) -> None:
    """The server tells them to end, where it would otherwise wait for them to."""
    with rig.worker(), ExitStack() as served:
        caller = Caller(served.enter_context(serving(rig)), rig)
        with caller.open("GET", "/page/events", headers={}) as stream:
            stream.readline()
            began = time.monotonic()
            served.close()
            assert time.monotonic() - began < server.GRACE / 2
            assert stream.read().endswith(b"\n\n")


def test_media_of_a_bucket_are_shown_from_the_bucket_alone(caller: Caller) -> None:
    """The document's own addresses, but of no other origin than the settings and the contract name."""
    made = caller.rig.store.read(caller.rig.call("one"))
    images = ["https://storage.googleapis.com/b/a.png", "https://storage.googleapis.com.evil.example/a.png", "data:,x"]
    media = bucket_media(("https://storage.googleapis.com/",))
    assert job(replace(made, fields={"images": images}), media)["media"] == images[:1]


def test_a_preview_that_another_worker_keeps_in_the_bucket_is_shown_from_there_alone(caller: Caller) -> None:
    """By the same rule; where media are in a folder, only what is in this worker's memory is."""
    made = caller.rig.store.read(caller.rig.call("one"))
    ours = "https://storage.googleapis.com/b/generating/u/image/one_preview.jpg?v=1"
    media = bucket_media(("https://storage.googleapis.com/",))
    for address, shown in ((ours, ours), ("https://evil.example/one_preview.jpg", None), (7, None)):
        document = replace(made, fields={"status": "processing", "progress": {"preview_url": address}})
        assert job(document, media)["preview_address"] == shown
        assert job(document, embedded_media)["preview_address"] is None

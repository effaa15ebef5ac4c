from __future__ import annotations

import json
import subprocess
from functools import partial
from typing import Any

import pytest

from daemon.adapters.sqlite import SqliteStore
from daemon.core.job import SERVER_TIME, Changes, Collection, JobId
from daemon.core.submission import submit
from tests.entrypoints.conftest import COMMAND, QuickEaseld
from tests.parts.process import killed_with_us


def queue(quick: QuickEaseld, user: str, file: str, *more: str) -> dict[str, Any]:
    """Submit without waiting; the queued document."""
    ended = quick("submit", f"prompt of {file}", "--user", user, "--id", file, "--json", *more)
    assert (ended.status, ended.err) == (0, "")
    document: dict[str, Any] = ended.json
    return document


def test_submit_writes_the_document_that_the_shim_would(quick: QuickEaseld) -> None:
    """Queued, with the request and its ids and times, and nothing that was not asked for."""
    document = queue(quick, "alice", "a", "--width", "256", "--images", "2", "--seed", "7", "--guidance", "2.5")
    assert document.pop("created_at").endswith("Z")
    assert document.pop("submitted_at").endswith("Z")
    assert document == {
        "prompt": "prompt of a",
        "width": 256,
        "num_images_per_prompt": 2,
        "seed": 7,
        "guidance_scale": 2.5,
        "use_cloud_storage": True,
        "status": "queued",
        "generated": False,
        "error": False,
        "user_id": "alice",
        "file_uid": "a",
    }


def test_every_field_of_a_request_is_an_option(quick: QuickEaseld) -> None:
    """Each by the name of its field, dashes for underscores."""
    fields = {
        "negative_prompt": "blurry",
        "width": 256,
        "height": 512,
        "num_images_per_prompt": 3,
        "num_inference_steps": 11,
        "guidance_scale": 3.0,
        "seed": 5,
        "num_frames": 17,
        "fps": 9,
        "video_width": 320,
        "video_height": 256,
        "video_guidance_scale": 4.0,
        "model": "null-video",
    }
    options = [part for name, value in fields.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    document = queue(quick, "alice", "a", *options)
    assert {name: document[name] for name in fields} == fields
    assert quick("show", "alice/videos/a").status == 0


def test_the_same_submission_again_is_the_same_job(quick: QuickEaseld) -> None:
    """It costs nothing to repeat a submission that may have been lost."""
    assert queue(quick, "alice", "a") == queue(quick, "alice", "a")
    assert len(quick("jobs", "--json").out.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("  ",), "prompt is required"),
        (("a cat", "--width", "100"), "width must be between 256 and 1024"),
        (
            ("a cat", "--steps", "9", "--fps", "99"),
            "Validation failed: num_inference_steps must be between 10 and 50; ",
        ),
        (("a cat", "--id", "a/b"), "Validation failed: file_uid must not contain slashes"),
    ],
)
def test_a_request_that_cannot_be_is_one_line_and_status_2(
    arguments: tuple[str, ...], says: str, quick: QuickEaseld
) -> None:
    """With the very message that a client of the endpoint gets."""
    ended = quick("submit", *arguments)
    assert ended.status == 2
    assert ended.complaint.startswith(f"easeld: {says}")
    assert quick("jobs").out == "No jobs.\n"


def test_jobs_are_listed_newest_first_and_filtered(quick: QuickEaseld) -> None:
    """By status, by user, up to a limit; as a table, and as one JSON object a line."""
    for user, file in (("alice", "a1"), ("bob", "b1"), ("alice", "a2")):
        queue(quick, user, file)
    quick("cancel", "bob/b1")
    assert listed(quick) == ["alice/images/a2", "bob/images/b1", "alice/images/a1"]
    assert listed(quick, "--status", "queued") == ["alice/images/a2", "alice/images/a1"]
    assert listed(quick, "--status", "failed", "--status", "completed") == ["bob/images/b1"]
    assert listed(quick, "--user", "alice", "--limit", "1") == ["alice/images/a2"]
    table = quick("jobs").out
    assert table.index("alice/images/a2") < table.index("bob/images/b1") < table.index("alice/images/a1")
    assert "Cancelled by the operator" in table


def listed(quick: QuickEaseld, *options: str) -> list[str]:
    """What ``jobs --json`` lists, oldest last."""
    lines = quick("jobs", "--json", *options).out.splitlines()
    return [json.loads(line)["path"].removeprefix("generations/") for line in lines]


def test_a_queued_job_is_shown_with_its_place(quick: QuickEaseld) -> None:
    """How many are before it; how long, once enough jobs have told how long they took. Of the whole queue too."""
    for file in ("a", "b", "c"):
        queue(quick, "alice", file)
    assert quick("show", "alice/a").out.startswith("generations/alice/images/a: queued, next in the queue\n")
    assert quick("show", "alice/b").out.startswith("generations/alice/images/b: queued, 1 job before it\n")
    assert quick("jobs").out.endswith("\n3 queued\n")
    assert "queued\n" not in quick("jobs", "--status", "failed").out
    store = SqliteStore(quick.folder / "data" / "jobs.db")
    for number in range(4):
        done = JobId(user_id="bob", collection=Collection.IMAGES, file_uid=str(number))
        made = {"result": {"finished_at": SERVER_TIME}, "timings": {"total": 240.0}}
        fields = {"status": "completed", "created_at": SERVER_TIME, "easeld": made}
        store.update(done, lambda *_, fields=fields: Changes(reason="test", fields=fields, create=True))
    store.close()
    assert ": queued, 2 jobs before it, about 3 min\n" in quick("show", "alice/c").out
    assert quick("jobs").out.endswith("\n3 queued; a new one would begin in about 4 min\n")


def test_following_prints_every_change_as_it_comes(quick: QuickEaseld) -> None:
    """First what is there, then a line for each change."""
    queue(quick, "alice", "a")
    command = [*COMMAND, "jobs", "--follow", "--json"]
    with subprocess.Popen(command, env=quick.environment, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        with killed_with_us(following.pid):
            try:
                assert json.loads(following.stdout.readline())["document"]["status"] == "queued"
                quick("cancel", "alice/a")
                assert json.loads(following.stdout.readline())["document"]["status"] == "failed"
            finally:
                following.kill()


def test_cancelling_ends_a_job_once(quick: QuickEaseld) -> None:
    """A queued job ends as the contract says; an ended one is left as it is."""
    queue(quick, "alice", "a")
    document = quick("cancel", "alice/a", "--json").json
    assert (document["status"], document["error"]) == ("failed", True)
    assert document["error_message"] == "Cancelled by the operator"
    again = quick("cancel", "alice/a")
    assert again.status == 1
    assert "nothing to cancel" in again.complaint


def test_retrying_queues_an_ended_job(quick: QuickEaseld) -> None:
    """With its parameters, and without what its last life left; an active one is left as it is."""
    queue(quick, "alice", "a", "--seed", "7")
    assert "nothing to retry" in quick("retry", "alice/a").complaint
    quick("cancel", "alice/a")
    document = quick("retry", "alice/a", "--json").json
    assert (document["status"], document["seed"]) == ("queued", 7)
    assert "error_message" not in document


@pytest.mark.parametrize("command", ["show", "cancel", "retry"])
@pytest.mark.parametrize(
    ("named", "status", "says"),
    [
        ("alice/none", 1, "there is no job alice/none"),
        ("alice", 2, "alice names no job"),
        ("alice/audio/a", 2, "alice/audio/a names no job"),
        ("__x__/a", 2, "user_id is not a legal id"),
    ],
)
def test_a_job_that_is_not_there_is_one_line(
    command: str, named: str, status: int, says: str, quick: QuickEaseld
) -> None:
    """So is a name that no job can have."""
    ended = quick(command, named)
    assert ended.status == status
    assert says in ended.complaint


def test_a_name_that_two_jobs_have_asks_for_more(quick: QuickEaseld) -> None:
    """An image and a video may share their id: then the collection must be named, or the whole path."""
    queue(quick, "alice", "a")
    store = SqliteStore(quick.folder / "data" / "jobs.db")  # the command line would find the image and leave it at that
    video = JobId(user_id="alice", collection=Collection.VIDEOS, file_uid="a")
    store.update(video, partial(submit, values={"prompt": "a cat", "num_frames": 16}))
    store.close()
    ended = quick("show", "alice/a")
    assert ended.status == 2
    assert ended.complaint == "easeld: there are two jobs alice/a: say alice/images/a or alice/videos/a"
    assert quick("show", "alice/videos/a", "--json").json["num_frames"] == 16
    assert "num_frames" not in quick("show", "generations/alice/images/a", "--json").json


def test_a_hostile_prompt_cannot_steer_the_terminal(quick: QuickEaseld) -> None:
    """Control characters are not printed, and markup is text."""
    hostile = "\x1b[31mred\x07 [bold]loud[/bold]\nnext line"
    assert quick("submit", hostile, "--user", "alice", "--id", "a").status == 0
    for shown in (quick("jobs"), quick("show", "alice/a"), quick("jobs", "--json")):
        assert "\x1b" not in shown.out
        assert "\x07" not in shown.out
    assert "[bold]loud[/bold] next line" in quick("jobs").out
    assert quick("show", "alice/a", "--json").json["prompt"] == hostile


def test_submit_tells_what_the_worker_had_to_say(quick: QuickEaseld) -> None:
    """Beside the addresses, on standard error, where a script that reads addresses does not meet it."""
    queue(quick, "alice", "a")
    ours = {"warnings": ["it ignored: sports\x1b[2J, car"]}
    fields = {"status": "completed", "generated": True, "images": ["file:///a.png"], "easeld": ours}
    store = SqliteStore(quick.folder / "data" / "jobs.db")
    job = JobId(user_id="alice", collection=Collection.IMAGES, file_uid="a")
    store.update(job, lambda _document, _now: Changes(reason="a test", fields=fields))
    store.close()
    ended = quick("submit", "prompt of a", "--user", "alice", "--id", "a")
    assert ended.out.splitlines() == ["alice/images/a: uploaded", "file:///a.png"]
    assert ended.err.splitlines() == ["note: it ignored: sports [2J, car"]

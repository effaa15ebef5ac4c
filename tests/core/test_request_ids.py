"""Which ids are legal, that the document's path is the authority for them, and comparing requests."""

from __future__ import annotations

import math
from typing import Any

import pytest

from daemon.core.errors import Rejected
from daemon.core.job import Changes, Collection, JobId
from daemon.core.request import MAX_ID_BYTES, Submission, canonical, check_ids, id_problem, same
from tests.core.samples import CALL, Paper

LEGAL = [
    "a",
    "user.123",
    "...",
    "a b",
    "ключ",
    "\U0001f600",
    "_x",
    "__",
    "a__",
    "a\u2028b",
    "é" * 450,
    "%2F",
    "a?b#c",
    "*",
]
ILLEGAL = {
    ".": "is not a legal id",
    "..": "is not a legal id",
    "__x__": "is not a legal id",
    "____": "is not a legal id",
    "a/b": "must not contain slashes, backslashes or control characters",
    "../a": "must not contain slashes, backslashes or control characters",
    "a\\b": "must not contain slashes, backslashes or control characters",
    "a\nb": "must not contain slashes, backslashes or control characters",
    "a\x00": "must not contain slashes, backslashes or control characters",
    "a\x7f": "must not contain slashes, backslashes or control characters",
    "a\x85": "must not contain slashes, backslashes or control characters",
    "a\ud800": "must not contain slashes, backslashes or control characters",
    "a" * (MAX_ID_BYTES + 1): f"must be at most {MAX_ID_BYTES} bytes",
    "é" * 751: f"must be at most {MAX_ID_BYTES} bytes",
}
SHORT = pytest.mark.parametrize("name", ["user_id", "file_uid"])


@SHORT
@pytest.mark.parametrize("value", LEGAL, ids=ascii)
def test_a_legal_document_id_is_accepted(name: str, value: str) -> None:
    """Whatever can name a document and an object may name a job."""
    assert id_problem(name, value) is None
    parsed = Submission.parse(CALL | {name: value}, max_prompt_characters=10)
    assert getattr(parsed.job(Collection.VIDEOS), name) == value


@SHORT
@pytest.mark.parametrize("value", ILLEGAL, ids=lambda value: ascii(value)[:20])
def test_an_illegal_id_is_refused_with_what_is_wrong_about_it(name: str, value: str) -> None:
    """Slashes, dots, control characters, half characters, reserved names and giants."""
    with pytest.raises(Rejected) as caught:
        Submission.parse(CALL | {name: value}, max_prompt_characters=10)
    assert str(caught.value) == f"Validation failed: {name} {ILLEGAL[value]}"


@SHORT
@pytest.mark.parametrize("value", [1, True, False, 1.5, ["a"], {"a": 1}, b"a", math.nan], ids=repr)
def test_an_id_that_is_no_string_is_refused(name: str, value: object) -> None:
    """0, false and the like are not "missing", they are wrong."""
    with pytest.raises(Rejected) as caught:
        Submission.parse(CALL | {name: value}, max_prompt_characters=10)
    assert str(caught.value) == f"Validation failed: {name} must be a string"


@pytest.mark.parametrize("field", ["user_id", "file_uid", "userId", "fileUid"])
@pytest.mark.parametrize("value", ["somebody-else", "", 1, ["ada"]], ids=repr)
def test_an_id_field_that_disagrees_with_the_path_fails_the_document(field: str, value: object) -> None:
    """The path is the authority; a document that claims another identity is refused, not followed."""
    paper = Paper({"status": "queued", "prompt": "a cat", field: value}).wait(5)
    paper.take()
    name = {"userId": "user_id", "fileUid": "file_uid"}.get(field, field)
    assert paper["error_message"] == f"Validation failed: {name} does not agree with the document's path"
    assert (paper["user_id"], paper["file_uid"]) == ("ada", "picture")


def test_id_fields_that_agree_with_the_path_are_fine() -> None:
    """Both spellings, where they say the same."""
    paper = Paper({"status": "queued", "prompt": "a cat", "userId": "ada", "file_uid": "picture", "fileUid": 7}).wait(5)
    paper.take()
    assert paper["status"] == "processing"


def test_a_path_with_illegal_ids_fails_the_document_with_both_problems() -> None:
    """Firestore lets clients choose names that cannot name an object."""
    job = JobId(user_id="..", collection=Collection.IMAGES, file_uid="a\nb")
    with pytest.raises(Rejected) as caught:
        check_ids(job, {})
    assert str(caught.value) == (
        "Validation failed: user_id is not a legal id; "
        "file_uid must not contain slashes, backslashes or control characters"
    )
    paper = Paper({"status": "queued", "prompt": "a cat"}, job=job).wait(5)
    assert isinstance(paper.take(), Changes)
    assert paper["status"] == "failed"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "generations/u/images",
        "generations/u/images/f/more",
        "generations/u/images/",
        "generations//images/f",
        "/generations/u/images/f",
        "galleries/u/images/f",
        "generations/u/image/f",
        "a/generations/u/images/f",
        "generations/u/images/f/images/g",
        "generations/u/imagesx/f",
    ],
)
def test_a_path_that_is_no_jobs_is_none(path: str) -> None:
    """Other apps have collections that are called ``images`` too."""
    assert JobId.parse(path) is None


@pytest.mark.parametrize("path", ["generations/u/images/f", "generations/..\n/videos/\x00", "generations/й/images/ "])
def test_a_jobs_path_is_read_back_from_its_id(path: str) -> None:
    """Whatever stands between the slashes."""
    job = JobId.parse(path)
    assert job is not None
    assert (job.path, str(job)) == (path, path)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"prompt": "a"}, {"prompt": "a"}, True),
        ({"prompt": "a"}, {"prompt": "a", "width": 512, "numFrames": 16, "negative_prompt": ""}, True),
        ({"prompt": "a", "guidanceScale": 7}, {"prompt": "a", "guidance_scale": 7.0}, True),
        ({"prompt": "a", "num_frames": 0}, {"prompt": "a"}, True),
        ({"prompt": "a"}, {"prompt": "b"}, False),
        ({"prompt": "a"}, {"prompt": "a", "seed": 1}, False),
        ({"prompt": "a"}, {"prompt": "a", "width": "512"}, False),
        ({"prompt": 1}, {"prompt": 1}, True),
        ({"prompt": "a", "seed": math.nan}, {"prompt": "a", "seed": float("nan")}, False),
    ],
)
def test_two_requests_are_the_same_when_they_ask_for_the_same(one: Any, other: Any, *, expected: bool) -> None:
    """Defaults and spellings do not count; what is no request is like nothing but itself."""
    assert same(canonical(one), canonical(other)) is expected
    assert same(canonical(other), canonical(one)) is expected


def test_ids_that_leave_no_room_for_an_object_s_name_are_refused() -> None:
    """Each is legal by itself; the bucket takes 1024 bytes for prefix, folder, both ids and the suffix."""
    job = JobId(user_id="u" * 500, collection=Collection.IMAGES, file_uid="f" * 461)
    with pytest.raises(Rejected, match="960 bytes together"):
        check_ids(job, {})
    check_ids(JobId(user_id="u" * 500, collection=Collection.IMAGES, file_uid="f" * 460), {})

"""Every row of the contract's table of fields, through HTTP."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from daemon.core.job import Collection
from tests.entrypoints.shim.running import Shim, job_of, request


class Row(NamedTuple):
    """A field as the contract's table has it."""

    name: str
    camel: str
    kind: str  # of its values, as messages call them
    least: float | None = None
    most: float | None = None
    example: Any = None


NUMBERS = [
    Row("width", "width", "an integer", 256, 1024, 512),
    Row("height", "height", "an integer", 256, 1024, 512),
    Row("num_images_per_prompt", "numImagesPerPrompt", "an integer", 1, 4, 1),
    Row("num_inference_steps", "numInferenceSteps", "an integer", 10, 50, 20),
    Row("guidance_scale", "guidanceScale", "a number", 1.0, 20.0, 7.5),
    Row("num_frames", "numFrames", "an integer", 16, 81, 16),
    Row("fps", "fps", "an integer", 6, 15, 8),
]
UNBOUNDED = [  # their limits are the video model's, which the worker knows
    Row("video_width", "videoWidth", "an integer", example=512),
    Row("video_height", "videoHeight", "an integer", example=512),
    Row("video_guidance_scale", "videoGuidanceScale", "a number", example=5.0),
    Row("seed", "seed", "an integer", example=1234567890),
]
TEXT = Row("negative_prompt", "negativePrompt", "a string", example="blurry, low quality")
OPTIONAL = [*NUMBERS, *UNBOUNDED, TEXT]
WRONG: dict[str, list[Any]] = {
    "an integer": ["512", True, 20.5, [20], {"value": 20}],
    "a number": ["7.5", False, [7.5], {"value": 7.5}],
    "a string": [1, True, ["blurry"], {"text": "blurry"}],
}
CLOUD = "user_id and file_uid are required for cloud storage"

BOUNDS = [(row, value) for row in NUMBERS for value in (row.least, row.most)]
PAST = [(row, value) for row in NUMBERS for value in (row.least - 1, row.most + 1)]  # type: ignore[operator]
TYPES = [(row, value) for row in OPTIONAL for value in WRONG[row.kind]]
REQUIRED = [
    ("prompt", "prompt is required", ["", "   "], "Validation failed: prompt must be a string"),
    ("use_cloud_storage", "use_cloud_storage is required", [], "Validation failed: use_cloud_storage must be true"),
    ("user_id", CLOUD, [""], "Validation failed: user_id must be a string"),
    ("file_uid", CLOUD, [""], "Validation failed: file_uid must be a string"),
]


def named(value: object) -> str:
    """A test's name for a case."""
    return value.name if isinstance(value, Row) else repr(value)


def collection_of(fields: dict[str, Any]) -> Collection:
    """Where clients put the document of these fields: by the number of frames."""
    return Collection.VIDEOS if fields.get("num_frames") or fields.get("numFrames") else Collection.IMAGES


def check_accepted(shim: Shim, fields: dict[str, Any]) -> dict[str, Any]:
    """The call is accepted with exactly the contract's fields; returns the document."""
    collection = collection_of(fields)
    answer = shim.call(fields)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "status": "accepted",
        "message": "Generation task accepted and processing",
        "user_id": fields["user_id"],
        "file_uid": fields["file_uid"],
        "task_type": collection.task.value,
    }
    document = shim.fields(job_of(fields, collection))
    assert document is not None
    assert document["status"] == "queued"
    return dict(document)


def check_refused(shim: Shim, fields: dict[str, Any], message: str) -> None:
    """The call is refused with exactly this message, and nothing is written."""
    answer = shim.call(fields)
    assert (answer.status_code, answer.json()) == (400, {"error": message, "status": "failed"})
    assert answer.headers["content-type"] == "application/json"
    if all(isinstance(fields.get(name), str) and fields[name] for name in ("user_id", "file_uid")):
        assert shim.fields(job_of(fields)) is None
        assert shim.fields(job_of(fields, Collection.VIDEOS)) is None


@pytest.mark.parametrize(("row", "value"), BOUNDS, ids=named)
def test_a_number_at_its_bound_is_accepted_in_both_spellings(shared_shim: Shim, row: Row, value: float) -> None:
    """Ranges are inclusive; the document holds the value under its name in snake_case."""
    assert check_accepted(shared_shim, request(**{row.name: value}))[row.name] == value
    assert check_accepted(shared_shim, request(**{row.camel: value}))[row.name] == value


@pytest.mark.parametrize(("row", "value"), PAST, ids=named)
def test_a_number_one_past_its_bound_is_refused_with_its_range(shared_shim: Shim, row: Row, value: float) -> None:
    """The message names the field and its range as clients match on it."""
    message = f"{row.name} must be between {row.least} and {row.most}"
    check_refused(shared_shim, request(**{row.name: value}), message)
    check_refused(shared_shim, request(**{row.camel: value}), message)


@pytest.mark.parametrize(("row", "value"), TYPES, ids=named)
def test_a_value_of_a_wrong_type_is_refused(shared_shim: Shim, row: Row, value: object) -> None:
    """Numbers in strings, booleans, lists and objects are neither numbers nor texts."""
    message = f"Validation failed: {row.name} must be {row.kind}"
    check_refused(shared_shim, request(**{row.name: value}), message)
    check_refused(shared_shim, request(**{row.camel: value}), message)


@pytest.mark.parametrize("row", OPTIONAL, ids=named)
def test_an_optional_field_may_be_missing_or_null(shared_shim: Shim, row: Row) -> None:
    """``null`` is as if absent, and what is absent is not written into the document."""
    assert row.name not in check_accepted(shared_shim, request())
    assert row.name not in check_accepted(shared_shim, request(**{row.name: None, row.camel: None}))


@pytest.mark.parametrize("row", OPTIONAL, ids=named)
def test_the_values_of_the_contracts_example_are_accepted(shared_shim: Shim, row: Row) -> None:
    """Each value of the example, in the spelling of either kind of client."""
    assert check_accepted(shared_shim, request(**{row.name: row.example}))[row.name] == row.example
    assert check_accepted(shared_shim, request(**{row.camel: row.example}))[row.name] == row.example


@pytest.mark.parametrize("row", [row for row in NUMBERS if row.camel != row.name], ids=named)
def test_snake_case_wins_where_both_spellings_differ(shared_shim: Shim, row: Row) -> None:
    """One document field holds the value that counts."""
    document = check_accepted(shared_shim, request(**{row.name: row.least, row.camel: row.most}))
    assert document[row.name] == row.least
    assert row.camel not in document


@pytest.mark.parametrize(("name", "missing", "empty", "mistyped"), REQUIRED, ids=[row[0] for row in REQUIRED])
def test_a_required_field_is_asked_for(
    shared_shim: Shim, name: str, missing: str, empty: list[Any], mistyped: str
) -> None:
    """Missing, null and empty have one message, a wrong type another."""
    fields = request()
    del fields[name]
    check_refused(shared_shim, fields, missing)
    for value in (None, *empty):
        check_refused(shared_shim, request(**{name: value}), missing)
    for value in (1, ["a"], {"a": 1}, *([False, "true"] if name == "use_cloud_storage" else [False])):
        check_refused(shared_shim, request(**{name: value}), mistyped)


@pytest.mark.parametrize("name", ["user_id", "file_uid"])
@pytest.mark.parametrize("value", ["a/b", ".", "..", "__a__", "a\\b", "a\nb", "x" * 1501])
def test_an_id_that_no_document_can_have_is_refused(shared_shim: Shim, name: str, value: str) -> None:
    """An id names a document and a part of an object; what cannot is refused before anything is written."""
    answer = shared_shim.call(request(**{name: value}))
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"Validation failed: {name} ")


def test_several_troubles_are_told_at_once(shared_shim: Shim) -> None:
    """A person who mends a request wants to know all that is wrong with it."""
    message = "Validation failed: width must be between 256 and 1024; fps must be between 6 and 15"
    check_refused(shared_shim, request(width=1, fps=99), message)


def test_names_that_nobody_knows_are_neither_refused_nor_written(shared_shim: Shim) -> None:
    """Clients spread options of their own; the document's other fields are their own business."""
    document = check_accepted(shared_shim, request(style="mine", easeld={"lease": 1}, status="completed"))
    assert "style" not in document
    assert "easeld" not in document


@pytest.mark.parametrize(
    ("frames", "task"),
    [
        ({}, "text2image"),
        ({"num_frames": None}, "text2image"),
        ({"numFrames": 0}, "text2image"),
        ({"num_frames": 16}, "text2video"),
        ({"numFrames": 81}, "text2video"),
        ({"fps": 8, "video_width": 512, "videoHeight": 512, "video_guidance_scale": 5}, "text2image"),
    ],
    ids=repr,
)
def test_a_call_is_for_a_video_exactly_when_it_says_how_many_frames(
    shared_shim: Shim, frames: dict[str, Any], task: str
) -> None:
    """The test by which clients choose the collection, and nothing else."""
    fields = request(**frames)
    assert shared_shim.call(fields).json()["task_type"] == task
    assert shared_shim.fields(job_of(fields, collection_of(fields))) is not None


def test_the_contracts_whole_example_is_accepted(shared_shim: Shim) -> None:
    """The seed's own request, word for word but for the ids."""
    options = {row.name: row.example for row in OPTIONAL} | {"seed": None}
    document = check_accepted(shared_shim, request(**options))
    assert {name: document[name] for name, value in options.items() if value is not None} == {
        name: value for name, value in options.items() if value is not None
    }
    assert "seed" not in document

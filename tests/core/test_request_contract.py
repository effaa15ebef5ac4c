"""Every row of the contract's table, from both doors: a call of the endpoint, and a document."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest

from daemon.core.errors import Rejected
from daemon.core.job import Changes
from daemon.core.record import Record
from daemon.core.request import NAMES, Submission
from models.spec import Task
from tests.core.samples import CALL, VIDEO, queued


class Row(NamedTuple):
    """A numeric field as the contract's table has it."""

    name: str
    camel: str
    least: float
    most: float
    default: float | None
    kind: type


ROWS = [
    Row("width", "width", 256, 1024, 512, int),
    Row("height", "height", 256, 1024, 512, int),
    Row("num_images_per_prompt", "numImagesPerPrompt", 1, 4, 1, int),
    Row("num_inference_steps", "numInferenceSteps", 10, 50, 20, int),
    Row("guidance_scale", "guidanceScale", 1.0, 20.0, 7.5, float),
    Row("num_frames", "numFrames", 16, 81, 16, int),
    Row("fps", "fps", 6, 15, 8, int),
]
LIMITS = [  # of the test's video model
    Row("video_width", "videoWidth", 128, 832, 512, int),
    Row("video_height", "videoHeight", 160, 640, 512, int),
    Row("video_guidance_scale", "videoGuidanceScale", 1.0, 9.0, 5.0, float),
]
SEED = Row("seed", "seed", -(2**53) + 1, 2**53 - 1, None, int)
TEXTS = [("prompt", "prompt"), ("negative_prompt", "negativePrompt"), ("model", "model")]
every_row = pytest.mark.parametrize("row", [*ROWS, SEED], ids=lambda row: row.name)
every_number = pytest.mark.parametrize("row", [*ROWS, *LIMITS, SEED], ids=lambda row: row.name)
every_limit = pytest.mark.parametrize("row", LIMITS, ids=lambda row: row.name)


def parse(**fields: Any) -> Submission:
    """A call with these fields beside what is required."""
    return Submission.parse(CALL | fields, max_prompt_characters=1000)


def call_refusal(fields: dict[str, Any]) -> str:
    """The message that a call with these fields is refused with."""
    with pytest.raises(Rejected) as caught:
        Submission.parse(fields, max_prompt_characters=1000)
    assert caught.value.error_type == "Exception"
    return str(caught.value)


def document_refusal(**fields: Any) -> str:
    """The message that a video document with these fields fails with."""
    paper = queued(job=VIDEO, **fields)
    assert isinstance(paper.take(), Changes)
    assert paper["status"] == "failed", paper["status"]
    assert paper["error_type"] == "Exception"
    return str(paper["error_message"])


def accepted(**fields: Any) -> dict[str, Any]:
    """The request with which a video document is claimed."""
    paper = queued(job=VIDEO, **fields)
    assert isinstance(paper.take(), Changes)
    assert paper["status"] == "processing", paper["error_message"]
    return dict(Record.of(paper.fields or {}).request or {})


@every_row
@pytest.mark.parametrize("end", ["least", "most"])
def test_a_number_at_its_bound_is_accepted(row: Row, end: str) -> None:
    """Ranges are inclusive, for calls and documents and in both spellings."""
    value = getattr(row, end)
    assert getattr(parse(**{row.name: value}).request, row.name) == value
    assert getattr(parse(**{row.camel: value}).request, row.name) == value
    assert accepted(**{row.name: value})[row.name] == value
    assert accepted(**{row.camel: value})[row.name] == value


@every_row
@pytest.mark.parametrize("side", [-1, 1])
def test_a_number_one_past_its_bound_is_refused_with_the_range(row: Row, side: int) -> None:
    """The message names the field and both ends exactly as the contract writes it."""
    beyond = row.least - 1 if side < 0 else row.most + 1
    message = f"{row.name} must be between {row.least} and {row.most}"
    assert call_refusal(CALL | {row.name: beyond}) == message
    assert call_refusal(CALL | {row.camel: beyond}) == message
    assert document_refusal(**{row.name: beyond}) == message
    assert document_refusal(**{row.camel: beyond}) == message


@every_limit
@pytest.mark.parametrize("end", ["least", "most"])
def test_a_video_at_its_models_own_limit_is_accepted(row: Row, end: str) -> None:
    """The size and guidance of a video are bounded by its model alone."""
    assert accepted(**{row.name: getattr(row, end)})[row.name] == getattr(row, end)


@every_limit
@pytest.mark.parametrize("side", [-1, 1])
def test_a_video_past_its_models_own_limit_is_refused_with_that_limit(row: Row, side: int) -> None:
    """The message carries the model's numbers."""
    beyond = row.least - 1 if side < 0 else row.most + 1
    assert document_refusal(**{row.camel: beyond}) == f"{row.name} must be between {row.least} and {row.most}"


def test_a_picture_is_not_measured_by_the_limits_of_a_video_model() -> None:
    """A client that spreads video options into a picture's document gets its picture."""
    paper = queued(video_width=1, video_height=99_999, video_guidance_scale=99.0)
    paper.take()
    assert paper["status"] == "processing"


@every_number
def test_a_number_that_is_absent_or_null_takes_its_default(row: Row) -> None:
    """``null`` is as if absent, in either spelling, and even where the other spelling has a value."""
    for fields in ({}, {row.name: None}, {row.camel: None}):
        assert getattr(parse(**fields).request, row.name) == row.default
    if row.camel != row.name:
        assert getattr(parse(**{row.name: None, row.camel: row.most}).request, row.name) == row.most


@every_number
@pytest.mark.parametrize("value", [True, False, "20", "", [20], {"a": 1}, b"20", 1j], ids=repr)
def test_a_number_of_a_wrong_type_is_refused(row: Row, value: object) -> None:
    """Booleans, numbers in strings, lists and maps are no numbers."""
    message = f"Validation failed: {row.name} must be {'an integer' if row.kind is int else 'a number'}"
    assert call_refusal(CALL | {row.camel: value}) == message
    assert document_refusal(**{row.name: value}) == message


@every_number
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(row: Row, value: float) -> None:
    """NaN and the infinities have a message of their own kind, not a range."""
    kind = "an integer" if row.kind is int else "a finite number"
    assert call_refusal(CALL | {row.name: value}) == f"Validation failed: {row.name} must be {kind}"
    assert document_refusal(**{row.camel: value}) == f"Validation failed: {row.name} must be {kind}"


@every_number
@pytest.mark.parametrize("value", [10**30, -(10**30), 1e300, 10**400])
def test_a_huge_number_is_out_of_range_whatever_its_type(row: Row, value: float) -> None:
    """No size of a number stops the parser."""
    assert row.name in document_refusal(**{row.name: value})


@every_number
def test_a_whole_float_is_an_integer_and_a_fraction_is_not(row: Row) -> None:
    """JavaScript has one kind of number: 512.0 is 512."""
    assert getattr(parse(**{row.name: float(row.most)}).request, row.name) == row.most
    if row.kind is int:
        assert call_refusal(CALL | {row.name: 20.5}) == f"Validation failed: {row.name} must be an integer"
    else:
        assert getattr(parse(**{row.name: 5}).request, row.name) == 5


@every_number
def test_snake_case_wins_over_camel_case(row: Row) -> None:
    """Where both spellings differ, snake_case counts, and the other is not even looked at."""
    if row.camel != row.name:
        assert getattr(parse(**{row.camel: "junk", row.name: row.most}).request, row.name) == row.most


@pytest.mark.parametrize(("name", "camel"), TEXTS)
@pytest.mark.parametrize("value", [1, 1.5, True, [], ["a"], {}, {"a": "b"}, b"bytes"], ids=repr)
def test_a_text_of_a_wrong_type_is_refused(name: str, camel: str, value: object) -> None:
    """Only strings are texts."""
    assert call_refusal(CALL | {camel: value}) == f"Validation failed: {name} must be a string"
    if name != "model" and value != b"bytes":
        assert document_refusal(**{name: value}) == f"Validation failed: {name} must be a string"


@pytest.mark.parametrize("prompt", [None, "", " ", "\n\t "])
def test_an_empty_prompt_is_required(prompt: str | None) -> None:
    """Missing, null, empty and blank are one thing."""
    assert call_refusal(CALL | {"prompt": prompt}) == "prompt is required"
    assert document_refusal(prompt=prompt) == "prompt is required"


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_a_text_may_be_as_long_as_the_limit_and_no_longer(name: str) -> None:
    """The limit counts characters and is inclusive."""
    assert getattr(parse(**{name: "é" * 1000}).request, name) == "é" * 1000
    assert call_refusal(CALL | {name: "é" * 1001}) == f"Validation failed: {name} must be at most 1000 characters"


@pytest.mark.parametrize("name", ["prompt", "negative_prompt", "model"])
def test_a_text_with_half_a_surrogate_pair_is_refused(name: str) -> None:
    """JSON can carry what UTF-8 cannot; no store and no tokenizer takes it."""
    assert call_refusal(CALL | {name: "a \ud83d b"}) == f"Validation failed: {name} must be valid Unicode text"
    assert getattr(parse(**{name: "a \U0001f600 b"}).request, name) == "a \U0001f600 b"


@pytest.mark.parametrize("value", [False, 0, 1, "true", "yes", [], [True], {}, 1.0], ids=repr)
def test_cloud_storage_must_be_true_and_nothing_like_it(value: object) -> None:
    """The contract's message, exactly."""
    message = "Validation failed: use_cloud_storage must be true"
    assert call_refusal(CALL | {"use_cloud_storage": value}) == message
    assert document_refusal(useCloudStorage=value) == message


@pytest.mark.parametrize("value", [None, ...])
def test_a_call_without_cloud_storage_is_told_that_it_is_required(value: object) -> None:
    """A call must say it; a document need not."""
    call = CALL | {"use_cloud_storage": value} if value is None else {k: v for k, v in CALL.items() if "cloud" not in k}
    assert call_refusal(call) == "use_cloud_storage is required"
    assert accepted(use_cloud_storage=None)["use_cloud_storage"] is None


@pytest.mark.parametrize("name", ["user_id", "file_uid"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_call_without_an_id_is_told_about_cloud_storage(name: str, value: str | None) -> None:
    """One message for either id."""
    message = "user_id and file_uid are required for cloud storage"
    assert call_refusal(CALL | {name: value}) == message
    assert call_refusal({key: item for key, item in CALL.items() if key != name}) == message


def test_ids_are_accepted_in_camel_case() -> None:
    """``userId`` and ``fileUid`` name the job too."""
    call = {"prompt": "a cat", "useCloudStorage": True, "userId": "u", "fileUid": "f"}
    parsed = Submission.parse(call, max_prompt_characters=10)
    assert (parsed.user_id, parsed.file_uid) == ("u", "f")


def test_several_problems_are_joined_under_one_prefix() -> None:
    """The prefix comes once; each problem keeps its own words."""
    message = call_refusal({"width": 1, "seed": "x", "use_cloud_storage": False, "negative_prompt": "n" * 1001})
    assert message.startswith("Validation failed: ")
    assert set(message.removeprefix("Validation failed: ").split("; ")) == {
        "user_id and file_uid are required for cloud storage",
        "prompt is required",
        "use_cloud_storage must be true",
        "width must be between 256 and 1024",
        "seed must be an integer",
        "negative_prompt must be at most 1000 characters",
    }


def test_an_empty_call_is_refused_with_everything_that_it_needs() -> None:
    """Nothing given, three things said, each once."""
    assert call_refusal({}) == (
        "Validation failed: user_id and file_uid are required for cloud storage; use_cloud_storage is required; "
        "prompt is required"
    )


@pytest.mark.parametrize(
    ("fields", "task"),
    [
        ({}, Task.TEXT2IMAGE),
        ({"num_frames": None}, Task.TEXT2IMAGE),
        ({"num_frames": 0}, Task.TEXT2IMAGE),
        ({"numFrames": 0.0}, Task.TEXT2IMAGE),
        ({"fps": 12, "video_width": 512, "video_guidance_scale": 4.0}, Task.TEXT2IMAGE),
        ({"num_frames": 16}, Task.TEXT2VIDEO),
        ({"numFrames": 81}, Task.TEXT2VIDEO),
    ],
)
def test_the_number_of_frames_alone_decides_the_task(fields: dict[str, Any], task: Task) -> None:
    """Present, not null, not 0: the very test by which clients choose the collection."""
    assert parse(**fields).task is task


def test_unknown_fields_are_ignored() -> None:
    """Clients spread whatever options they have."""
    assert parse(quality="best", easeld={"lease": 1}, priority=[1]).request == parse().request


def test_the_fields_of_a_request_are_those_of_the_contract() -> None:
    """The table, the ids left out, and the optional ``model``."""
    named = {row.name for row in [*ROWS, *LIMITS, SEED]} | {name for name, _ in TEXTS} | {"use_cloud_storage"}
    assert set(NAMES) == named

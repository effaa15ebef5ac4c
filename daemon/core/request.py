"""What a client may ask for: every field, range and message of the contract, for documents and calls alike.

Names come in snake_case and camelCase; ``null`` is as if absent. The *canonical* form of a request has every known
field once, in snake_case, ``None`` where absent; it is what a claim stores and what two requests are compared by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from daemon.core.errors import Rejected
from daemon.core.job import Collection, JobId
from models.spec import ModelSpec, Range, Task

IDS_REQUIRED = "user_id and file_uid are required for cloud storage"
PREFIX = "Validation failed: "
MAX_ID_BYTES = 1500  # of a document's name: firebase.google.com/docs/firestore/quotas
MAX_IDS_BYTES = 960  # of both together: an object's name has 1024, of which prefix, folder and suffix take the rest
NOT_IN_IDS = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # slashes, and what Unicode calls Cc and Cs
SURROGATES = re.compile(r"[\ud800-\udfff]")
MAX_SAFE_INTEGER = 2**53 - 1  # the largest integer that JavaScript reads exactly

RANGES: dict[str, tuple[int, int] | tuple[float, float]] = {
    "width": (256, 1024),
    "height": (256, 1024),
    "num_images_per_prompt": (1, 4),
    "num_inference_steps": (10, 50),
    "guidance_scale": (1.0, 20.0),
    "num_frames": (16, 81),
    "fps": (6, 15),
    "seed": (-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER),
}


def _whole(value: Any) -> Any:
    """Let 512.0 pass for 512: JSON knows one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _true(value: Any) -> Literal[True]:
    if value is not True:  # 1 == True, so a Literal would let 1 pass
        raise PydanticCustomError("not_true", "must be true")
    return value


def _ranged(name: str) -> Any:
    minimum, maximum = RANGES[name]
    return Field(ge=minimum, le=maximum, allow_inf_nan=False if isinstance(minimum, float) else None)


Whole = Annotated[int, BeforeValidator(_whole)]


class Request(BaseModel):
    """A valid request, defaults filled in. Sizes in pixels.

    ``width``, ``height`` and ``guidance_scale`` are a picture's; a video has its own three. ``seed`` of ``None`` is a
    random one, ``model`` of ``None`` the task's default.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    prompt: str
    negative_prompt: str = ""
    width: Annotated[Whole, _ranged("width")] = 512
    height: Annotated[Whole, _ranged("height")] = 512
    num_images_per_prompt: Annotated[Whole, _ranged("num_images_per_prompt")] = 1
    num_inference_steps: Annotated[Whole, _ranged("num_inference_steps")] = 20
    guidance_scale: Annotated[float, _ranged("guidance_scale")] = 7.5
    seed: Annotated[Whole, _ranged("seed")] | None = None
    num_frames: Annotated[Whole, _ranged("num_frames")] = 16
    fps: Annotated[Whole, _ranged("fps")] = 8
    video_width: Whole = 512
    video_height: Whole = 512
    video_guidance_scale: Annotated[float, Field(allow_inf_nan=False)] = 5.0
    model: str | None = None
    use_cloud_storage: Annotated[Literal[True], BeforeValidator(_true)] = True

    def count(self, task: Task) -> int:
        """How many media the request asks for."""
        return self.num_images_per_prompt if task is Task.TEXT2IMAGE else 1


NAMES = tuple(Request.model_fields)
"""Every field of a request but the ids, in the contract's order."""

CAMEL = {name: to_camel(name) for name in (*NAMES, "user_id", "file_uid")}
"""Every name as JavaScript writes it."""

Canonical = Mapping[str, Any]


def pick(fields: Mapping[str, Any], name: str) -> Any:
    """The value of a field in either spelling; snake_case wins, ``None`` is as if absent."""
    value = fields.get(name)
    return fields.get(CAMEL[name]) if value is None else value


def canonical(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical form of the request in a document or in a call's input. Nothing is validated."""
    values = {name: pick(fields, name) for name in NAMES}
    if values["num_frames"] == 0 and values["num_frames"] is not False:
        values["num_frames"] = None  # clients send 0 to say that they want no video
    return values


def validate(values: Canonical, *, max_prompt_characters: int) -> Request:
    """Check a canonical request against the contract.

    Raises:
        Rejected: with the contract's message.
    """
    request, problems = _check(values, max_prompt_characters)
    if request is None:
        raise _rejected(problems)
    return request


def same(one: Canonical, other: Canonical) -> bool:
    """Whether two canonical requests ask for the same, defaults counted; what is no valid request differs."""
    if one == other:
        return True
    try:
        return Request.model_validate(_present(one)) == Request.model_validate(_present(other))
    except ValidationError:
        return False


def check_limits(request: Request, spec: ModelSpec) -> None:
    """Check a video's size and guidance against its model's own limits; a picture's are the contract's.

    Raises:
        Rejected: with the contract's message.
    """
    if spec.task is not Task.TEXT2VIDEO:
        return
    limits = {"video_width": spec.width, "video_height": spec.height, "video_guidance_scale": spec.guidance}
    problems = [_between(name, limit) for name, limit in limits.items() if not _within(getattr(request, name), limit)]
    if problems:
        raise _rejected(problems)


def check_ids(job: JobId, fields: Mapping[str, Any]) -> None:
    """Check that a document's path can name objects, and that its own id fields, where present, say the same.

    Raises:
        Rejected: one of the ids is not legal, or disagrees with the path.
    """
    problems = [problem for name in ("user_id", "file_uid") if (problem := id_problem(name, getattr(job, name)))]
    for name in ("user_id", "file_uid"):
        value = pick(fields, name)
        if value is not None and value != getattr(job, name):
            problems.append(f"{PREFIX}{name} does not agree with the document's path")
    problems += _too_long(job.user_id, job.file_uid)
    if problems:
        raise _rejected(problems)


class Submission(BaseModel):
    """A valid call of the endpoint: the job it names and the canonical request it sends."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    user_id: str
    file_uid: str
    values: dict[str, Any]
    request: Request

    @classmethod
    def parse(cls, fields: Mapping[str, Any], *, max_prompt_characters: int) -> Self:
        """Check a call's ``input`` against the contract.

        Raises:
            Rejected: with the contract's message.
        """
        ids = {name: pick(fields, name) for name in ("user_id", "file_uid")}
        values = canonical(fields)
        problems = []
        if any(value is None or value == "" for value in ids.values()):
            problems.append(IDS_REQUIRED)
        problems += [
            problem for name, value in ids.items() if value not in (None, "") and (problem := id_problem(name, value))
        ]
        problems += _too_long(*ids.values())
        if values["use_cloud_storage"] is None:
            problems.append("use_cloud_storage is required")
        request, more = _check(values, max_prompt_characters)
        if request is None or problems:
            raise _rejected(problems + more)
        return cls(**ids, values=values, request=request)

    def job(self, collection: Collection) -> JobId:
        return JobId(user_id=self.user_id, collection=collection, file_uid=self.file_uid)

    @property
    def task(self) -> Task:
        """What a call without a document asks for: a video exactly when it says how many frames."""
        return Task.TEXT2IMAGE if self.values["num_frames"] is None else Task.TEXT2VIDEO


def id_problem(name: str, value: object) -> str | None:
    """Why ``value`` is no legal id (a document's name and a part of an object's name), or ``None``."""
    if not isinstance(value, str):
        return f"{PREFIX}{name} must be a string"
    if value in ("", ".", "..") or (len(value) >= 4 and value.startswith("__") and value.endswith("__")):
        return f"{PREFIX}{name} is not a legal id"
    if NOT_IN_IDS.search(value):
        return f"{PREFIX}{name} must not contain slashes, backslashes or control characters"
    if len(value.encode()) > MAX_ID_BYTES:
        return f"{PREFIX}{name} must be at most {MAX_ID_BYTES} bytes"
    return None


def _too_long(*ids: object) -> list[str]:
    sizes = [len(value.encode(errors="replace")) for value in ids if isinstance(value, str)]
    if sum(sizes) <= MAX_IDS_BYTES or max(sizes) > MAX_ID_BYTES:  # of one that is too long by itself we have told
        return []
    return [f"{PREFIX}user_id and file_uid must have at most {MAX_IDS_BYTES} bytes together"]


def _present(values: Canonical) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _check(values: Canonical, max_prompt_characters: int) -> tuple[Request | None, list[str]]:
    present = _present(values)
    problems = [
        problem
        for name in ("prompt", "negative_prompt", "model")
        if (problem := _text_problem(name, present, max_prompt_characters))
    ]
    try:
        request = Request.model_validate(present)
    except ValidationError as exc:
        known = {problem.removeprefix(PREFIX).split(" ", 1)[0] for problem in problems}
        problems += [_message(error) for error in exc.errors(include_url=False) if error["loc"][0] not in known]
        return None, problems
    return (None, problems) if problems else (request, [])


def _text_problem(name: str, present: Mapping[str, Any], max_characters: int) -> str | None:
    text = present.get(name)
    if not isinstance(text, str):
        return None  # absent or of a wrong type: the model says so
    if name == "prompt" and not text.strip():
        return "prompt is required"
    if len(text) > max_characters:
        return f"{PREFIX}{name} must be at most {max_characters} characters"
    if SURROGATES.search(text):
        return f"{PREFIX}{name} must be valid Unicode text"
    return None


def _message(error: ErrorDetails) -> str:
    """The contract's message for one of pydantic's errors."""
    name = str(error["loc"][0])
    match error["type"]:
        case "missing":
            return f"{name} is required"
        case "greater_than_equal" | "less_than_equal":
            minimum, maximum = RANGES[name]
            return f"{name} must be between {minimum} and {maximum}"
        case "finite_number":
            return f"{PREFIX}{name} must be a finite number"
        case "int_type" | "int_from_float":
            return f"{PREFIX}{name} must be an integer"
        case "float_type":
            return f"{PREFIX}{name} must be a number"
        case "not_true":
            return f"{PREFIX}{name} must be true"
        case _:
            return f"{PREFIX}{name} must be a string"


def _within(value: float, limit: Range) -> bool:
    return limit.minimum <= value <= limit.maximum


def _between(name: str, limit: Range) -> str:
    return f"{name} must be between {limit.minimum} and {limit.maximum}"


def _rejected(problems: list[str]) -> Rejected:
    if len(problems) == 1:
        return Rejected(problems[0])
    return Rejected(PREFIX + "; ".join(problem.removeprefix(PREFIX) for problem in problems))

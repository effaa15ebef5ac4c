"""A job as the page shows it: values for JSON, read from documents that hold whatever clients write into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from daemon.core import request as requests
from daemon.core.errors import Rejected
from daemon.core.job import Collection, Document, Fields, JobId
from daemon.core.life import asked
from daemon.core.policy import Progress
from daemon.core.record import Record, holder, moment
from daemon.entrypoints.present import addresses, preview

LONGEST = 2000  # characters of a text; the whole prompt is in the document
MOST_MEDIA = 4  # of one job, by contract
DEFAULT_FRAMES = 16

IMAGE_PARAMETERS = ("width", "height", "num_inference_steps", "guidance_scale", "num_images_per_prompt")
VIDEO_PARAMETERS = ("video_width", "video_height", "num_frames", "fps", "num_inference_steps", "video_guidance_scale")

Address = Callable[[Document, list[str]], list[str]]
"""Where the page finds the media at these addresses of a document: those that it can show."""


def job(document: Document, media: Address) -> dict[str, Any]:
    """Everything that the page tells of a job."""
    fields = document.fields or {}
    record, lease = Record.of(fields), holder(fields)
    finished = moment(fields.get("completed_at")) or moment(fields.get("failed_at"))
    created = moment(fields.get("created_at"))
    return {
        "path": document.id.path,
        "name": f"{document.id.user_id}/{document.id.file_uid}",
        "kind": document.id.collection.folder,
        "status": _text(fields.get("status")),
        "prompt": _text(fields.get("prompt")),
        "created_at": created.isoformat() if created else None,
        "finished_at": finished.isoformat() if finished else None,
        "progress": progress(fields.get("progress")),
        "worker": _text(lease.worker) if lease else None,
        "attempt": lease.attempt if lease else None,
        "parameters": parameters(document.id, fields),
        "timings": {_text(name): value for name, value in _map(record.raw.get("timings")).items() if _is_number(value)},
        "media": media(document, addresses(fields)[:MOST_MEDIA]),
        "preview_address": next(iter(media(document, [address])), None) if (address := preview(fields)) else None,
        "error_type": _text(fields.get("error_type")),
        "error_message": _text(fields.get("error_message")),
    }


def progress(value: object) -> dict[str, Any] | None:
    """How far a job is; ``None`` where that is not known."""
    given = _map(value)
    if not given:
        return None
    numbers = {name: given[name] if _is_number(given.get(name)) else 0 for name in ("step", "steps", "percent")}
    eta = given.get("eta_seconds")
    return {"phase": _text(given.get("phase")), **numbers, "eta_seconds": eta if _is_number(eta) else None}


def live(shown: Mapping[str, Any], now: Progress, *, preview: int | None) -> dict[str, Any]:
    """A job that this worker holds, with the progress that is in its memory and perhaps not yet in the store."""
    return {**shown, "progress": progress(now.fields()), "preview": preview, "here": True}


def parameters(job: JobId, fields: Fields) -> dict[str, Any]:
    """What was asked for, with the defaults filled in, and the seed and model that came of it."""
    is_image = job.collection is Collection.IMAGES
    wanted = Record.of(fields).request or asked(fields)
    try:
        values = requests.validate(dict(wanted), max_prompt_characters=10**9).model_dump()
    except Rejected:
        values = dict(wanted)
    shown = {name: values.get(name) for name in (IMAGE_PARAMETERS if is_image else VIDEO_PARAMETERS)}
    shown["negative_prompt"] = values.get("negative_prompt")
    shown["model"] = Record.of(fields).raw.get("model") or values.get("model")
    seeds = Record.of(fields).seeds
    shown["seed"] = fields.get("seed") if fields.get("seed") is not None else (seeds[0] if seeds else None)
    return {name: value if _is_number(value) else _text(value) for name, value in shown.items() if value is not None}


def again(document: Document) -> dict[str, Any]:
    """A call's fields that ask for the same once more, with the seed that it had."""
    fields = document.fields or {}
    values = dict(requests.canonical(Record.of(fields).request or asked(fields)))
    if isinstance(fields.get("seed"), int):
        values["seed"] = fields["seed"]
    if document.id.collection is Collection.VIDEOS:
        values["num_frames"] = values.get("num_frames") or DEFAULT_FRAMES
    else:
        values["num_frames"] = None
    return values


def embedded_media(document: Document, named: list[str]) -> list[str]:
    """The page's own addresses of the files in the folder; they change with each result, so none is shown stale."""
    collection = document.id.collection
    suffix = "png" if collection is Collection.IMAGES else "mp4"
    made = []
    for address in named:
        name = address.rpartition("/")[2]
        if name.endswith(f".{suffix}"):
            user = quote(document.id.user_id, safe="")
            made.append(f"page/media/{user}/{collection.folder}/{name}?v={document.version}")
    return made


def bucket_media(origins: tuple[str, ...]) -> Address:
    """The addresses of these origins alone: a document may hold any."""

    def media(_: Document, named: list[str]) -> list[str]:
        return [address for address in named if address.startswith(origins)]

    return media


def _text(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18  # nor nan


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

"""What the shim answers: the contract's JSON forms, whatever the status."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.core.errors import DocumentTooLarge, Rejected, StoreUnavailable
from daemon.core.job import JobId
from daemon.entrypoints.submitting import QuotaReached

log = structlog.get_logger(__name__)

AWAY = 5  # seconds after which a client may ask again while the store is away
FULL = 10  # seconds after which a user may have room for another job
PLACES = 5  # how many frames of an unforeseen error are logged


class Accepted(BaseModel):
    """A call that was accepted; the document tells the rest."""

    model_config = ConfigDict(title="Accepted")

    status: str = "accepted"
    message: str = "Generation task accepted and processing"
    user_id: str
    file_uid: str
    task_type: str


class Failure(BaseModel):
    """Every answer that is not 200. Clients copy ``error`` into their document."""

    error: str
    status: str = "failed"


class Refused(Exception):
    """The call is refused before its request is looked at; ``status`` is HTTP's."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


def accepted(job: JobId) -> Response:
    """The answer to a call whose document is in the queue, or beyond."""
    task = job.collection.task.value
    return answer(Accepted(user_id=job.user_id, file_uid=job.file_uid, task_type=task))


def answer(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Any answer, as JSON."""
    body = to_json(content, bytes_mode="base64", inf_nan_mode="null", fallback=str)  # documents hold anything
    return Response(body, status, headers, media_type="application/json")


def failure(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that is not 200."""
    return answer(Failure(error=message), status=status, headers=headers)


async def refused(_request: Request, exc: Exception) -> Response:
    """Answer what was raised on purpose; the framework calls it for the exceptions in ``HANDLED``."""
    match exc:
        case Refused():
            return failure(exc.status, str(exc), exc.headers)
        case Rejected():
            return failure(400, str(exc))
        case QuotaReached():
            return failure(429, str(exc), {"Retry-After": str(FULL)})
        case DocumentTooLarge():
            log.info("call.too_large", error=str(exc))
            return failure(400, "Validation failed: the document would be too large")
        case StoreUnavailable():
            log.warning("store.away", error=str(exc))
            return failure(503, "The job store is unavailable, try again", {"Retry-After": str(AWAY)})
        case HTTPException():  # the framework's own: no such path, another method
            return failure(exc.status_code, str(exc.detail), exc.headers)
    raise exc


HANDLED = (Refused, Rejected, QuotaReached, DocumentTooLarge, StoreUnavailable, HTTPException)


class LastResort:
    """Answers what nobody foresaw in the contract's form too, and tells the operator, not the client, what it was."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as exc:
            log.error("call.broken", error=type(exc).__name__, at=_places(exc))  # noqa: TRY400 - a message may hold a key
            if begun:
                raise
            await failure(500, "Internal error")(scope, receive, send)


def _places(exc: Exception) -> list[str]:
    """Where it was raised, innermost first."""
    frames = traceback.extract_tb(exc.__traceback__)[-PLACES:]
    return [f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames)]

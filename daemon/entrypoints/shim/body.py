"""The body of a call: bounded, JSON, an object with the object ``input``."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json
from starlette.requests import Request

from daemon.core.errors import Rejected
from daemon.core.request import PREFIX
from daemon.entrypoints.shim.answers import Refused

MAX_BODY = 1024 * 1024  # bytes: Firestore takes no larger document


async def read_input(request: Request) -> dict[str, Any]:
    """The call's ``input``.

    Raises:
        Refused: 415 for what is not called JSON, 413 for more than ``MAX_BODY``.
        Rejected: it is not JSON, or has no object ``input``.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "Content-Type must be application/json")
    try:
        body = from_json(await _read(request), allow_inf_nan=False)
    except ValueError:
        raise Rejected(f"{PREFIX}the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise Rejected(f"{PREFIX}the body must be an object")
    fields = body.get("input")
    if fields is None:
        raise Rejected("input is required")
    if not isinstance(fields, dict):
        raise Rejected(f"{PREFIX}input must be an object")
    return fields


async def _read(request: Request) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY:
        raise Refused(413, f"The body is larger than {MAX_BODY} bytes", {"Connection": "close"})
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:  # sent in chunks, its length untold
            raise Refused(413, f"The body is larger than {MAX_BODY} bytes", {"Connection": "close"})
        chunks.append(chunk)
    return b"".join(chunks)

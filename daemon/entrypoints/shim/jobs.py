"""The rest of RunPod's interface that its SDK calls: ``run``, ``status``, ``cancel`` and ``health``.

A job's id is its document's address, so nothing has to be remembered.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from daemon.core.job import TERMINAL, Collection, Fields, JobId, Refusal, Status, Why
from daemon.core.pace import Turn
from daemon.core.ports import Intake
from daemon.core.record import Record
from daemon.core.submission import ask_to_cancel
from daemon.entrypoints.shim.access import Access
from daemon.entrypoints.shim.answers import Refused, answer
from daemon.entrypoints.shim.calls import Calls
from daemon.outlook import Outlook

STATUSES = {
    Status.QUEUED: "IN_QUEUE",
    Status.PROCESSING: "IN_PROGRESS",
    Status.COMPLETED: "COMPLETED",
    Status.FAILED: "FAILED",
    Status.CANCELLED: "CANCELLED",
}
MOST_RUNNING = 500  # processing documents that ``health`` reads, at most

Submit = Callable[[Request], Awaitable[JobId]]


def routes(store: Intake, calls: Calls, access: Access, submit: Submit) -> list[Route]:
    """The endpoints, on an open store; ``submit`` is what a call of ``runsync`` does."""
    outlook = Outlook(store)

    def look(job: JobId) -> tuple[Fields | None, Turn | None]:
        document = store.read(job)
        return document.fields, outlook.turn(document)

    def checked(request: Request) -> None:
        access.check(request, request.path_params["endpoint_id"])

    async def run(request: Request) -> Response:
        """Queue a generation, and answer with an id to ask for it."""
        checked(request)
        return answer({"id": encode(await submit(request)), "status": STATUSES[Status.QUEUED]})

    async def status(request: Request) -> Response:
        """Where a job stands: its place in the queue; with what it made, or why not, once it has ended."""
        checked(request)
        fields, turn = await calls.run(partial(look, _job(request)))
        return answer({"id": request.path_params["job_id"], **_state(fields), **_place(turn)})

    async def cancel(request: Request) -> Response:
        """Ask for the end of a queued or running job."""
        checked(request)
        result = await calls.run(partial(store.update, _job(request), ask_to_cancel))
        if isinstance(result, Refusal) and result.why is Why.ABSENT:
            raise Refused(404, "There is no such job")
        return answer({"id": request.path_params["job_id"], "status": STATUSES[Status.CANCELLED]})

    async def health(request: Request) -> Response:
        """How many jobs wait and run, and by how many workers."""
        checked(request)
        return answer(await calls.run(partial(_health, store)))

    endpoint = "/v2/{endpoint_id}"
    return [
        Route(f"{endpoint}/run", run, methods=["POST"], include_in_schema=False),
        Route(f"{endpoint}/status/{{job_id}}", status, methods=["GET", "POST"], include_in_schema=False),
        Route(f"{endpoint}/cancel/{{job_id}}", cancel, methods=["POST"], include_in_schema=False),
        Route(f"{endpoint}/health", health, methods=["GET"], include_in_schema=False),
    ]


def encode(job: JobId) -> str:
    """A job's address as an id that fits into an address."""
    path = f"{job.collection}/{job.user_id}/{job.file_uid}"
    return base64.urlsafe_b64encode(path.encode()).decode().rstrip("=")


def decode(text: str) -> JobId | None:
    """The inverse; ``None`` for what is no id of ours."""
    try:
        path = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
        collection, user_id, file_uid = path.split("/")
        job = JobId(user_id=user_id, collection=Collection(collection), file_uid=file_uid)
    except (binascii.Error, ValueError):
        return None
    return job if JobId.parse(job.path) == job else None


def _job(request: Request) -> JobId:
    job = decode(request.path_params["job_id"])
    if job is None:
        raise Refused(404, "There is no such job")
    return job


def _state(fields: Fields | None) -> dict[str, Any]:
    status = (fields or {}).get("status")
    if fields is None or status not in tuple(STATUSES):
        raise Refused(404, "There is no such job")
    state: dict[str, Any] = {"status": STATUSES[Status(status)]}
    if status in TERMINAL:
        state["output"] = {name: value for name, value in fields.items() if name != "easeld"}
    if status == Status.FAILED:
        state["error"] = fields.get("error_message", "")
    return state


def _place(turn: Turn | None) -> dict[str, Any]:
    """Fields of ours, for a job that waits: RunPod's SDK does not mind them."""
    if turn is None:
        return {}
    wait = {} if turn.seconds is None else {"expected_wait_seconds": round(turn.seconds, 1)}
    return {"position": turn.before + 1, **wait}


def _health(store: Intake) -> dict[str, Any]:
    everything = list(Collection)
    running = store.by_name(everything, status=Status.PROCESSING, limit=MOST_RUNNING)
    leases = [Record.of(document.fields or {}).lease for document in running]
    workers = {lease.worker for lease in leases if lease is not None}
    return {
        "jobs": {"inQueue": store.queued(everything), "inProgress": len(running)},
        "workers": {"running": len(workers)},
    }

"""The endpoint that existing clients call: RunPod's ``runsync``, which writes the queued document and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from daemon.core.ports import Store
from daemon.core.request import Submission
from daemon.entrypoints import shim_answers as answers
from daemon.entrypoints.shim_access import Access
from daemon.entrypoints.shim_body import read_input
from daemon.entrypoints.shim_calls import Calls
from daemon.entrypoints.shim_health import Readiness
from daemon.entrypoints.shim_openapi import RUNSYNC, describe
from daemon.entrypoints.submitting import submit
from daemon.settings import Settings


def create_app(settings: Settings, store: Store) -> FastAPI:
    """The shim as an ASGI application on an open store, which stays its caller's."""
    calls = Calls()
    access = Access.of(settings)
    readiness = Readiness(store)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        calls.close()

    app = FastAPI(
        title="easeld",
        lifespan=lifespan,
        redirect_slashes=False,  # an answer is never HTML, and never elsewhere
        redoc_url=None,
        middleware=[Middleware(answers.LastResort)],
        exception_handlers=dict.fromkeys(answers.HANDLED, answers.refused),
    )

    @app.post("/v2/{endpoint_id}/runsync", **RUNSYNC)
    async def runsync(endpoint_id: str, request: Request) -> Response:
        """Queue a generation. The same call again is never a second generation."""
        access.check(request, endpoint_id)
        submission = _parse(await read_input(request), settings)
        return answers.accepted(await calls.run(partial(submit, store, submission, quota=settings.quota)))

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"])
    async def readyz() -> Response:
        """Whether the store can be reached, so that calls will be accepted."""
        await calls.run(readiness.check)
        return answers.answer({"status": "ready"})

    describe(app)
    return app


def _parse(fields: dict[str, Any], settings: Settings) -> Submission:
    return Submission.parse(fields, max_prompt_characters=settings.max_prompt)

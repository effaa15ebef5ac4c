"""The endpoint that existing clients call: RunPod's ``runsync``, which writes the queued document and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from daemon.core.job import JobId
from daemon.core.ports import Intake
from daemon.core.request import Submission
from daemon.entrypoints.shim import answers, jobs
from daemon.entrypoints.shim.access import Access
from daemon.entrypoints.shim.batches import Batches
from daemon.entrypoints.shim.body import read_input
from daemon.entrypoints.shim.calls import Calls
from daemon.entrypoints.shim.direct import DirectApp
from daemon.entrypoints.shim.health import health
from daemon.entrypoints.shim.openapi import describe
from daemon.entrypoints.submitting import submit_each
from daemon.settings import Settings

PATH = "/v2/{endpoint_id}/runsync"

if TYPE_CHECKING:
    from daemon.service import Service  # with all that a worker needs and a shim does not have


def create_app(settings: Settings, store: Intake, worker: Service | None = None) -> FastAPI:
    """The shim as an ASGI application on an open store, which stays its caller's.

    With a worker in the same process, health is the worker's, and its metrics are there too, behind the shim's key.
    """
    calls = Calls()
    batches = Batches[Submission, JobId](partial(submit_each, store, quota=settings.quota))
    access = Access.of(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        batches.close()
        calls.close()

    app = DirectApp(
        title="easeld",
        lifespan=lifespan,
        redirect_slashes=False,  # an answer is never HTML, and never elsewhere
        redoc_url=None,
        middleware=[Middleware(answers.LastResort)],
        exception_handlers=dict.fromkeys(answers.HANDLED, answers.refused),
    )

    async def submit(request: Request) -> JobId:
        return await batches.run(_parse(await read_input(request), settings))

    async def runsync(request: Request) -> Response:
        """Queue a generation. The same call again is never a second generation."""
        access.check(request, request.path_params["endpoint_id"])
        return answers.accepted(await submit(request))

    app.answer_runsync(runsync)
    # Not by fastapi's own decorator, whose way with parameters costs as much as all that is done here.
    runpod = [
        Route(PATH, runsync, methods=["POST"], include_in_schema=False),
        *jobs.routes(store, calls, access, submit),
    ]
    app.router.routes[:0] = runpod
    if worker is None:
        app.include_router(health(store, calls))
    else:
        from daemon.entrypoints import worker_health
        from daemon.entrypoints.page import routes

        app.include_router(worker_health.health(worker))
        app.include_router(worker_health.metrics(worker), dependencies=[Depends(access.known)])
        page = routes.router(settings, worker, host=settings.shim_host)
        if page is not None:
            app.include_router(page)
    describe(app, runpod)
    return app


def _parse(fields: dict[str, Any], settings: Settings) -> Submission:
    return Submission.parse(fields, max_prompt_characters=settings.max_prompt)

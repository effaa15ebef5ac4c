"""A worker's health, metrics and operator page: on an address of its own, or on the shim's beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from fastapi import APIRouter, FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from daemon.entrypoints import server
from daemon.entrypoints.page import routes
from daemon.entrypoints.shim.answers import HANDLED, answer, failure, refused
from daemon.service import Service
from daemon.settings import Settings

log = structlog.get_logger(__name__)


def health(worker: Service) -> APIRouter:
    """Whether it lives, and whether it claims."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def healthz() -> Response:
        """Whether every thread of the worker moves."""
        silent = worker.vitals.silent()
        return failure(503, f"No sign of life of: {', '.join(silent)}") if silent else answer({"status": "ok"})

    @router.get("/readyz")
    async def readyz() -> Response:
        """Whether the worker claims jobs."""
        reason = worker.vitals.idle_reason()
        return answer({"status": "ready"}) if reason is None else failure(503, f"Not claiming: {reason}")

    return router


def metrics(worker: Service) -> APIRouter:
    """What the worker has counted."""
    router = APIRouter(tags=["health"])

    @router.get("/metrics")
    def scrape() -> Response:  # in a thread: it may wait for the store
        """Prometheus' text format."""
        return Response(generate_latest(worker.worker.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


@contextmanager
def serving(settings: Settings, worker: Service, *, port: int) -> Iterator[str]:
    """Answer on the worker's own address while the block runs; yields the address.

    Raises:
        WrongSettings: it cannot listen there.
    """
    app = FastAPI(title="easeld worker", openapi_url=None, exception_handlers=dict.fromkeys(HANDLED, refused))
    app.include_router(health(worker))
    app.include_router(metrics(worker))
    page = routes.router(settings, worker, host=settings.http_host)
    if page is not None:
        app.include_router(page)
    names = "EASELD_HTTP_HOST, EASELD_HTTP_PORT"
    with (
        server.listening(settings.http_host, port, settings=names) as listener,
        server.serving(app, listener, name="http"),
    ):
        log.info("worker.listening", address=server.address(listener))
        yield server.address(listener)

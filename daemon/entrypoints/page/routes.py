"""The page's addresses: the page itself, its stream of events, media from the folder, and what its buttons ask for."""

from __future__ import annotations

import asyncio
import secrets
import stat
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from daemon.core import lifecycle
from daemon.core.errors import Rejected
from daemon.core.job import Decide, Document, JobId
from daemon.core.request import Submission, id_problem
from daemon.entrypoints.page import view
from daemon.entrypoints.page.guard import COOKIE, Guard
from daemon.entrypoints.page.live import Live
from daemon.entrypoints.shim.access import is_loopback
from daemon.entrypoints.shim.answers import Refused, answer
from daemon.entrypoints.submitting import submit
from daemon.service import Service
from daemon.settings import BlobsKind, Settings, StoreKind

log = structlog.get_logger(__name__)

PARTS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {".png": "image/png", ".mp4": "video/mp4"}
OPERATOR = "operator"  # the user whose jobs the page submits
MAX_BODY = 64 * 1024  # bytes: a prompt and a few numbers
SEND_EVERY = 0.1  # seconds between two looks at what is new
BEAT_EVERY = 5.0  # seconds between two signs of life on a quiet stream; three of them missing are a loss to the page
EVERY_EMBEDDED, EVERY_REMOTE = 0.5, 10.0  # seconds between two looks into the store; in Firestore each costs reads


def router(settings: Settings, worker: Service, *, host: str) -> APIRouter | None:
    """The page for a server that listens at ``host``; ``None`` where others could reach it and there is no token."""
    token = settings.page_token.get_secret_value() if settings.page_token else None
    if not settings.page:
        return None
    if token is None and not is_loopback(host):
        log.info("page.off", reason=f"others can reach {host}: set EASELD_PAGE_TOKEN to have the page there")
        return None
    return _Page(settings, worker, Guard(token)).router()


class _Page:
    def __init__(self, settings: Settings, worker: Service, guard: Guard) -> None:
        embedded = settings.blobs_kind is BlobsKind.FOLDER
        origins = () if embedded else _origins(settings)
        every = EVERY_EMBEDDED if settings.store is StoreKind.SQLITE else EVERY_REMOTE
        media = view.embedded_media if embedded else view.bucket_media(tuple(f"{origin}/" for origin in origins))
        self._settings = settings
        self._store = worker.worker.publisher.store
        self._worker = worker
        self._guard = guard
        self._live = Live(worker, media, name=settings.worker, every=every, previews=settings.previews)
        self._folder = settings.data / "media" / settings.prefix
        self._headers = {
            "Content-Security-Policy": "; ".join(
                (
                    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'",
                    " ".join(("img-src 'self'", *origins)),
                    " ".join(("media-src 'self'", *origins)),
                    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                    "require-trusted-types-for 'script'; trusted-types 'none'",
                )
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-cache",
        }

    def router(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/", self.index, methods=["GET"])
        for name in PARTS:
            router.add_api_route(f"/page/{name}", self.part, methods=["GET"])
        router.add_api_route("/page/about", self.about, methods=["GET"])
        router.add_api_route("/page/session", self.session, methods=["POST"])
        router.add_api_route("/page/events", self.events, methods=["GET"])
        router.add_api_route("/page/media/{user}/{folder}/{name}", self.media, methods=["GET"])
        router.add_api_route("/page/preview", self.preview, methods=["GET"])
        router.add_api_route("/page/jobs", self.submit, methods=["POST"])
        router.add_api_route("/page/again", self.again, methods=["POST"])
        router.add_api_route("/page/cancel", self.cancel, methods=["POST"])
        router.add_api_route("/page/retry", self.retry, methods=["POST"])
        return router

    async def index(self, request: Request) -> Response:
        """The page itself, which shows nothing of any job yet."""
        self._guard.to_see(request)
        return Response((STATIC / "index.html").read_bytes(), media_type="text/html", headers=self._headers)

    async def part(self, request: Request) -> Response:
        """Its style, its module and its icon."""
        self._guard.to_see(request)
        name = request.url.path.rpartition("/")[2]
        return Response((STATIC / name).read_bytes(), media_type=PARTS[name], headers=self._headers)

    async def about(self, request: Request) -> Response:
        """What the page needs to know before it can show anything."""
        self._guard.to_read(request)
        models = self._worker.worker.policy.models.values()
        return self._answer(
            {
                "version": version("easeld"),
                "worker": self._settings.worker,
                "submits": self._settings.store is StoreKind.SQLITE,
                "models": [{"name": spec.name, "task": spec.task.value} for spec in models],
            }
        )

    async def session(self, request: Request) -> Response:
        """Take the token once, for a cookie."""
        self._guard.from_page(request)
        cookie = self._guard.session(str((await _body(request)).get("token", "")))
        response = self._answer({"status": "ok"})
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", max_age=30 * 86_400)
        return response

    async def events(self, request: Request) -> Response:
        """Every section whenever it changes, as server-sent events."""
        self._guard.to_read(request)
        self._live.enter()
        headers = self._headers | {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return _Stream(self._stream(request), self._live.leave, headers)

    async def _stream(self, request: Request) -> AsyncIterator[bytes]:
        sent: dict[str, bytes] = {}
        spoke_at = float("-inf")
        while not getattr(request.app.state, "closing", False):
            for name, text in self._live.sections().items():
                if sent.get(name) is not text:
                    sent[name], spoke_at = text, time.monotonic()
                    yield b"event: %s\ndata: %s\n\n" % (name.encode(), text)
            if time.monotonic() - spoke_at >= BEAT_EVERY:
                spoke_at = time.monotonic()
                yield b"event: beat\ndata: null\n\n"
            await asyncio.sleep(SEND_EVERY)

    async def media(self, request: Request, user: str, folder: str, name: str) -> Response:
        """A finished picture or video out of the folder, byte ranges too."""
        self._guard.to_read(request)
        path = self._folder / user / folder / name
        legal = not id_problem("user_id", user) and not id_problem("file_uid", name) and folder in ("image", "video")
        kind = MEDIA_TYPES.get(path.suffix)
        if not legal or kind is None or not await run_in_threadpool(_is_plain_file, path):
            raise Refused(404, "There is no such file")
        return FileResponse(path, media_type=kind, headers=self._headers)

    async def preview(self, request: Request, job: str = "") -> Response:
        """What a running job of this worker is making."""
        self._guard.to_read(request)
        picture = await run_in_threadpool(self._live.preview, _job({"job": job}))
        if picture is None:
            raise Refused(404, "There is no preview")
        return Response(picture, media_type="image/jpeg", headers=self._headers | {"Cache-Control": "no-store"})

    async def submit(self, request: Request) -> Response:
        """Queue what the form says, exactly as a call of the endpoint does."""
        self._guard.to_change(request)
        return await self._submit(await _body(request))

    async def again(self, request: Request) -> Response:
        """Queue a job's request once more, with the seed that it had."""
        self._guard.to_change(request)
        document = await run_in_threadpool(self._store.read, _job(await _body(request)))
        return await self._submit(view.again(document))

    async def cancel(self, request: Request) -> Response:
        """End a queued or running job."""
        return await self._decide(request, lifecycle.stop, otherwise="The job has ended already")

    async def retry(self, request: Request) -> Response:
        """Queue an ended job again."""
        return await self._decide(request, lifecycle.requeue, otherwise="The job has not ended")

    async def _submit(self, fields: dict[str, Any]) -> Response:
        ours = {"user_id": OPERATOR, "file_uid": secrets.token_hex(8), "use_cloud_storage": True}
        call = Submission.parse(fields | ours, max_prompt_characters=self._settings.max_prompt)
        job = await run_in_threadpool(submit, self._store, call)
        self._live.ask_soon()
        return self._answer({"job": job.path})

    async def _decide(self, request: Request, decide: Decide, *, otherwise: str) -> Response:
        self._guard.to_change(request)
        result = await run_in_threadpool(self._store.update, _job(await _body(request)), decide)
        if not isinstance(result, Document):
            raise Refused(409, otherwise)
        self._worker.heartbeat.look([result.id])  # where it runs here, the device learns of it at its next step
        self._live.ask_soon()
        return self._answer({"job": result.id.path})

    def _answer(self, content: dict[str, Any]) -> Response:
        return answer(content, headers=self._headers | {"Cache-Control": "no-store"})


class _Stream(StreamingResponse):
    """A stream that is counted out however it ends, begun or not."""

    def __init__(self, content: AsyncIterator[bytes], ended: Callable[[], None], headers: dict[str, str]) -> None:
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._ended = ended

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


async def _body(request: Request) -> dict[str, Any]:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise Refused(413, f"The body is larger than {MAX_BODY} bytes")
        chunks.append(chunk)
    try:
        body = from_json(b"".join(chunks), allow_inf_nan=False)
    except ValueError:
        raise Rejected("The body is not valid JSON") from None
    if not isinstance(body, dict):
        raise Rejected("The body must be an object")
    return body


def _job(body: dict[str, Any]) -> JobId:
    job = JobId.parse(str(body.get("job", "")))
    if job is None:
        raise Refused(404, "There is no such job")
    return job


def _origins(settings: Settings) -> tuple[str, ...]:
    """Where media of this bucket may come from, in each style of address."""
    base = urlsplit(settings.public_base)
    known = (
        f"{base.scheme}://{base.netloc}",
        "https://storage.googleapis.com",
        "https://firebasestorage.googleapis.com",
    )
    return tuple(dict.fromkeys(known))


def _is_plain_file(path: Path) -> bool:
    """Whether it is a file, and no link to one elsewhere."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False

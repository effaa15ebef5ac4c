"""What the page shows at this moment, kept fresh while somebody looks and not otherwise."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import structlog
from pydantic_core import to_json

from daemon.chronicle import Minute
from daemon.core.errors import StoreUnavailable
from daemon.core.job import Collection, Document, JobId, Status
from daemon.core.pace import Pace, pace_of
from daemon.core.record import holder
from daemon.encode import jpeg
from daemon.entrypoints.page import view
from daemon.entrypoints.shim.answers import Refused
from daemon.held import Held
from daemon.service import Service

log = structlog.get_logger(__name__)

MOST_STREAMS = 16  # people who look at once
LISTED = 24  # jobs of each kind
LOOK_EVERY = 0.25  # seconds between two looks into the worker's memory


class Live:
    """The page's sections, each as JSON, in a thread that runs while there are streams.

    What the worker holds in memory is looked at four times a second. The store is asked ``every`` so many seconds, in a
    thread beside, so that a store that is away stops nothing else. The last answer stays shown, with a word of trouble.
    """

    def __init__(self, worker: Service, media: view.Address, *, name: str, every: float, previews: bool) -> None:
        self._store = worker.worker.publisher.store
        self._worker = worker
        self._media = media
        self._name = name
        self._every = every
        self._previews = previews  # they may be there for the bucket alone
        self._sections: dict[str, bytes] = {}
        self._processing: list[Document] = []
        self._asked: Future[None] | None = None
        self._asked_at = float("-inf")
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="page-store")
        self._streams = 0
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Count a stream.

        Raises:
            Refused: 503, there are too many.
        """
        with self._lock:
            if self._streams >= MOST_STREAMS:
                raise Refused(503, "Too many people look at this page already", {"Retry-After": "10"})
            self._streams += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="page", daemon=True)
                self._thread.start()

    def leave(self) -> None:
        """Count a stream out again."""
        with self._lock:
            self._streams -= 1

    def sections(self) -> dict[str, bytes]:
        """The sections that are known by now. A section that has not changed is the same object."""
        return dict(self._sections)

    def ask_soon(self) -> None:
        """Ask the store at the next look: something was changed from the page."""
        self._asked_at = float("-inf")

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._streams == 0:
                    self._thread = None
                    return
            self._look()
            time.sleep(LOOK_EVERY)

    def _look(self) -> None:
        try:
            if (self._asked is None or self._asked.done()) and time.monotonic() - self._asked_at >= self._every:
                self._asked_at = time.monotonic()
                self._asked = self._asking.submit(self._ask)
            self._show("running", self._running())
            self._show("health", self._health())
            self._show("minutes", [self._minute(minute) for minute in self._worker.chronicle.minutes()])
        except Exception as exc:  # noqa: BLE001 - a page that stands still must not take the worker with it
            log.warning("page.broken", error=repr(exc))

    def _ask(self) -> None:
        try:
            self._processing = self._store.newest(status=Status.PROCESSING, limit=LISTED)
            queued = self._store.window(list(Collection), limit=LISTED)
            completed = self._store.newest(status=Status.COMPLETED, limit=LISTED)
            pace = pace_of(completed, self._processing, self._store.now())
            depth = self._store.queued(list(Collection))
            self._show("queue", {"depth": depth, "pace": _pace(pace), "jobs": self._jobs(queued)})
            self._show("results", self._jobs(completed))
            self._show("failures", self._jobs(self._store.newest(status=Status.FAILED, limit=LISTED)))
            self._show("trouble", None)
        except StoreUnavailable as exc:
            self._show("trouble", f"The job store is away: {exc}")
        except Exception as exc:  # noqa: BLE001 - as above
            log.warning("page.broken", error=repr(exc))
            self._show("trouble", "The page cannot show what the store holds; the log says why")

    def _show(self, name: str, content: Any) -> None:
        text = to_json(content, inf_nan_mode="null", serialize_unknown=True)
        if self._sections.get(name) != text:
            self._sections[name] = text

    def _jobs(self, documents: list[Document]) -> list[dict[str, Any]]:
        return [view.job(document, self._media) for document in documents]

    def _running(self) -> list[dict[str, Any]]:
        held = {one.id: one for one in self._worker.heartbeat.held() if one.gone is None}
        ours = [self._live(one) for one in sorted(held.values(), key=lambda one: one.claimed_at)]
        return ours + self._jobs([document for document in self._processing if self._is_elsewhere(document)])

    def _is_elsewhere(self, document: Document) -> bool:
        """Whether another worker has it; what is ours and no longer held has ended since the store was asked."""
        lease = holder(document.fields)
        return lease is None or lease.worker != self._name

    def _live(self, held: Held) -> dict[str, Any]:
        return view.live(
            view.job(held.document, self._media),
            held.progress,
            preview=held.progress.step if self._previews and held.preview is not None else None,
        )

    def preview(self, job: JobId) -> bytes | None:
        """What a job that runs here is making, as JPEG."""
        if not self._previews:
            return None
        picture = next((one.preview for one in self._worker.heartbeat.held() if one.id == job), None)
        return None if picture is None else jpeg(picture)

    @staticmethod
    def _minute(minute: Minute) -> dict[str, Any]:
        return {
            "at": minute.began_at,
            "completed": minute.completed,
            "failed": minute.failed,
            "waited": round(minute.waited / minute.claims, 2) if minute.claims else None,
            "busy": round(minute.busy / minute.looks, 2) if minute.looks else None,
        }

    def _health(self) -> dict[str, Any]:
        worker, vitals = self._worker.worker, self._worker.vitals
        held = self._worker.heartbeat.held()
        memory, disk = worker.keeper.memory(), shutil.disk_usage(tempfile.gettempdir())
        return {
            "doing": vitals.doing,
            "idle_reason": vitals.idle_reason(),
            "silent": vitals.silent(),
            "listeners": {listener.name: listener.well for listener in self._worker.listeners},
            "leases": len(held),
            "lease_left": round(min((lease_left(one) for one in held), default=0.0)),
            "memory": None if memory is None else {"free": _rounded(memory.free), "total": memory.total},
            "disk": {"free": _rounded(disk.free), "total": disk.total},
            "models": [
                {"name": name, "task": spec.task.value, "resident": worker.keeper.is_resident(name)}
                for name, spec in worker.policy.models.items()
            ],
        }


def lease_left(held: Held) -> float:
    """Seconds until a lease ends unless it is renewed."""
    return max(0.0, held.lease_seconds - (time.monotonic() - held.renewed_at))


def _pace(pace: Pace | None) -> dict[str, float] | None:
    """To two figures: a mean moves a little with every job."""
    return None if pace is None else {name: float(f"{seconds:.2g}") for name, seconds in asdict(pace).items()}


def _rounded(size: int) -> int:
    """To 64 MiB: what moves all the time is no news."""
    return size // 2**26 * 2**26

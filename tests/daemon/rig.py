"""A whole worker in this process, on the embedded store, with a device that a test drives step by step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon import compose, settings
from daemon.adapters.folder import FolderBlobs
from daemon.adapters.sqlite import SqliteStore
from daemon.core.job import SERVER_TIME, Changes, Collection, Document, JobId
from daemon.core.ports import BlobStore, Store, Supervisor
from daemon.core.request import Submission
from daemon.core.submission import submit
from daemon.service import Service
from daemon.shutdown import Shutdown
from models.spec import Call, Memory, ModelSpec, OnLoad, OnStep, Resident
from tests.contracts.sqlite_client import SqliteClient

if TYPE_CHECKING:
    from models.spec import Frames

WITHIN = 20.0  # seconds that anything here may take at most; all of it takes far less
LOOK_EVERY = 0.01  # seconds


def until(true: Callable[[], bool], what: str, *, within: float = WITHIN) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(LOOK_EVERY)


class Device:
    """A device and its keeper: every step waits for ``step``, unless ``free``; ``trouble`` may raise in a call."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.free = threading.Event()
        self.free.set()
        self._steps = threading.Semaphore(0)
        self.trouble: Callable[[Call], None] = lambda _: None
        self.load: Callable[[], None] = lambda: None  # what a load waits for
        self.spec: ModelSpec | None = None

    def resident(self, spec: ModelSpec, on_load: OnLoad) -> Resident:
        self.spec = spec
        on_load("weights")
        self.load()
        return _Model(self, spec)

    def is_resident(self, name: str) -> bool:
        return True

    def memory(self) -> Memory | None:
        return Memory(free=3, total=4)

    def close(self) -> None: ...

    def hold(self) -> None:
        """Let no step go by itself from now on."""
        self.free.clear()

    def step(self, count: int = 1) -> None:
        """Let so many steps go."""
        self._steps.release(count)

    def let_go(self) -> None:
        """Let all steps go from now on."""
        self.free.set()
        self._steps.release(1000)

    def run(self, call: Call, on_step: OnStep) -> Sequence[Frames]:
        self.calls.append(call)
        self.trouble(call)
        for step in range(call.steps):
            if not self.free.is_set():
                self._steps.acquire()
            if call.on_look is not None:
                call.on_look(lambda: [np.full((8, 8, 3), 10 * step, np.uint8) for _ in call.items])  # noqa: B023
            on_step(step + 1, call.steps)
        shape = (call.height, call.width, 3) if call.frames == 1 else (call.frames, call.height, call.width, 3)
        return [np.random.default_rng(abs(item.seed)).integers(0, 256, shape, dtype=np.uint8) for item in call.items]


@dataclass(frozen=True)
class _Model:
    device: Device
    spec: ModelSpec

    def generate(self, call: Call, on_step: OnStep) -> Sequence[Frames]:
        return self.device.run(call, on_step)


@dataclass(kw_only=True)
class Rig:
    """The outside of a worker: its store, its bucket, its clients and its device."""

    folder: Path
    store: Store
    blobs: BlobStore
    client: SqliteClient
    device: Device = field(default_factory=Device)
    running: Running | None = None

    def service_sees_end(self, job: JobId) -> bool:
        """Whether the worker knows that its claim of this job is over."""
        assert self.running is not None
        held = {held.id: held for held in self.running.service.heartbeat.held()}.get(job)
        return held is None or held.gone is not None

    def call(self, file_uid: str, *, collection: Collection = Collection.IMAGES, **parameters: object) -> JobId:
        """Call the endpoint, as the third kind of client does."""
        job = JobId(user_id="u", collection=collection, file_uid=file_uid)
        given = {"prompt": "x", "width": 256, "height": 256, "num_inference_steps": 10, **parameters}
        ids = {"user_id": "u", "file_uid": file_uid, "use_cloud_storage": True}
        values = Submission.parse(given | ids, max_prompt_characters=1000).values
        self.store.update(job, partial(submit, values=values))
        return job

    def merge(self, job: JobId, **fields: object) -> None:
        """Update fields, as a client does."""
        result = self.store.update(job, lambda *_: Changes(reason="client", fields=fields))
        assert isinstance(result, Document)

    def set_anew(self, job: JobId, **fields: object) -> None:
        """Write the whole document anew, as a client does."""
        self.client.set(job.path, {"prompt": "x", "status": "queued", "created_at": SERVER_TIME, **fields})

    def fields(self, job: JobId) -> Mapping[str, Any]:
        return self.store.read(job).fields or {}

    def status(self, job: JobId) -> object:
        return self.fields(job).get("status")

    def until_status(self, job: JobId, status: str, *, within: float = WITHIN) -> Mapping[str, Any]:
        until(lambda: self.status(job) == status, f"{job} is {status} ({self.fields(job)})", within=within)
        return self.fields(job)

    def files(self) -> set[str]:
        """The names of all objects in the bucket."""
        return {found.name for found in self.blobs.objects("")}

    @contextmanager
    def worker(self, *, supervisor: Supervisor | None = None, **overrides: Any) -> Iterator[Running]:
        """Run a worker until the block ends."""
        shutdown = Shutdown()
        quick = {"settling": 0.0, "heartbeat": 0.2, "progress_interval": 0.1, "rescue_interval": 0.2, "grace": 1.0}
        chosen = {"models": ["shapes", "motion"], **quick, **overrides}
        configured = settings.load(data=self.folder, **chosen)
        service = compose.service(
            configured, self.store, self.blobs, shutdown=shutdown, keeper=self.device, supervisor=supervisor
        )
        running = self.running = Running(service, shutdown)
        try:
            yield running
        finally:
            self.device.let_go()
            shutdown.stop("the test is over")
            running.wait()


class Running:
    """A worker that runs in a thread."""

    def __init__(self, service: Service, shutdown: Shutdown) -> None:
        self.service = service
        self.shutdown = shutdown
        self.exit: int | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.exit = self.service.run()

    def wait(self, *, within: float = WITHIN) -> int | None:
        """Wait for its end; the exit status."""
        self.thread.join(within)
        assert not self.thread.is_alive(), f"the worker has not ended within {within} s"
        return self.exit


@contextmanager
def rig(folder: Path) -> Iterator[Rig]:
    """An empty store and bucket."""
    store = SqliteStore(folder / "jobs.db")
    blobs = FolderBlobs(folder / "media", "file:///media")
    try:
        yield Rig(folder=folder, store=store, blobs=blobs, client=SqliteClient(folder / "jobs.db", store))
    finally:
        blobs.close()
        store.close()

"""The worker as it is, its outside wrapped so that it writes down when it did what. Argument: the file to write to.

Each line is a ``Span`` as a JSON array. The clock is the machine's monotonic one, which all its processes share.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from daemon import compose, encode
from daemon import log as logs
from daemon import settings as all_settings
from daemon.core.errors import StoreUnavailable
from daemon.core.job import Document, JobId
from daemon.shutdown import Shutdown
from models import keeper
from models.spec import Call, ModelSpec, OnLoad, OnStep

WRITTEN_EVERY = 0.02  # seconds


class Span(NamedTuple):
    """Something that took from ``began`` to ``ended``, in seconds of the monotonic clock."""

    kind: str  # "device", "encode", "upload", "claimed", "completed", "claiming"
    label: str  # the path of a document, the name of an object, or the number of items
    began: float
    ended: float
    thread: str


class Recorder:
    """Writes spans to a file a little later, in a thread of its own: the device would wait for each write."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._spans: deque[Span] = deque()
        threading.Thread(target=self._write, name="recorder", daemon=True).start()

    def note(self, kind: str, label: str, began: float) -> None:
        """Something has just ended."""
        self._spans.append(Span(kind, label, began, time.monotonic(), threading.current_thread().name))

    def _write(self) -> None:
        while True:
            time.sleep(WRITTEN_EVERY)
            spans = [self._spans.popleft() for _ in range(len(self._spans))]
            if spans:
                os.write(self._descriptor, b"".join(json.dumps(span).encode() + b"\n" for span in spans))


class _Wrapped:
    """Everything that it does not say itself, it passes on."""

    def __init__(self, inner: Any, recorder: Recorder) -> None:
        self._inner = inner
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Store(_Wrapped):
    """Notes claims and completions, also one whose answer was lost: it is seen at the next read."""

    def __init__(self, inner: Any, recorder: Recorder) -> None:
        super().__init__(inner, recorder)
        self._unanswered: dict[JobId, float] = {}  # when the write began

    def read(self, job: JobId) -> Any:
        document = self._inner.read(job)
        self._completed(document, self._unanswered.pop(job, None))
        return document

    def claim(self, document: Document, decide: Any) -> Any:
        began = time.monotonic()
        result = self._inner.claim(document, decide)
        self._recorder.note("claimed", document.id.path, began)
        return result

    def claim_together(self, claims: Sequence[tuple[Document, Any]]) -> Any:
        began = time.monotonic()
        results = self._inner.claim_together(claims)
        for document, _ in claims if results is not None else ():
            self._recorder.note("claimed", document.id.path, began)
        return results

    def update(self, target: Document | JobId, decide: Any) -> Any:
        began = time.monotonic()
        job = target.id if isinstance(target, Document) else target
        try:
            result = self._inner.update(target, decide)
        except StoreUnavailable:
            self._unanswered[job] = began
            raise
        self._unanswered.pop(job, None)
        self._completed(result, began)
        return result

    def _completed(self, result: Any, began: float | None) -> None:
        if began is not None and isinstance(result, Document) and (result.fields or {}).get("status") == "completed":
            self._recorder.note("completed", result.id.path, began)


class Blobs(_Wrapped):
    """Notes uploads."""

    def put(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        began = time.monotonic()
        result = self._inner.put(name, *arguments, **keywords)
        self._recorder.note("upload", name, began)
        return result


class Keeper(_Wrapped):
    """Notes pipeline calls, the model's own time."""

    def resident(self, spec: ModelSpec, on_load: OnLoad) -> Any:
        return Model(self._inner.resident(spec, on_load), self._recorder)


class Model(_Wrapped):
    """A resident of the watched keeper."""

    def generate(self, call: Call, on_step: OnStep) -> Any:
        began = time.monotonic()
        frames = self._inner.generate(call, on_step)
        self._recorder.note("device", str(len(call.items)), began)
        return frames


def observe_encoding(recorder: Recorder) -> None:
    """Note the time that encoding takes."""
    png: Callable[..., bytes] = encode.png

    def noted(frames: Any, **about: Any) -> bytes:
        began = time.monotonic()
        content = png(frames, **about)
        recorder.note("encode", "png", began)
        return content

    encode.png = noted


def main() -> None:
    """Work until told to stop."""
    recorder = Recorder(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    settings = all_settings.load()
    logs.configure(level=settings.log_level, json=False)
    observe_encoding(recorder)
    shutdown = Shutdown()
    shutdown.listen()
    kept = keeper.Keeper(
        cache_dir=settings.cache, device=settings.device, threads=settings.threads, speed=settings.speed
    )
    service = compose.service(
        settings,
        Store(compose.open_store(settings), recorder),
        Blobs(compose.open_blobs(settings), recorder),
        keeper=Keeper(kept, recorder),
        shutdown=shutdown,
    )
    threading.Thread(target=_tell_when_claiming, args=(service, recorder), daemon=True).start()
    os._exit(service.run())


def _tell_when_claiming(service: Any, recorder: Recorder) -> None:
    while service.vitals.idle_reason() is not None:
        time.sleep(0.01)
    recorder.note("claiming", "", time.monotonic())


if __name__ == "__main__":
    main()

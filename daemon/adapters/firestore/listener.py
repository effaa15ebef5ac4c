"""Hints from ``on_snapshot`` streams that tell honestly whether they still live."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from google.api_core.bidi import BackgroundConsumer, ResumableBidiRpc
from google.api_core.exceptions import Cancelled
from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.query import Query
from google.cloud.firestore_v1.types import ListenRequest, ListenResponse, TargetChange
from google.cloud.firestore_v1.watch import WATCH_TARGET_ID, Watch, _should_recover, _should_terminate

from daemon.core.job import Document

PING_TARGET_ID = WATCH_TARGET_ID + 1
NOWHERE = "generations/easeld"  # no document; looking at it costs one read
NEWS = 10  # documents that a stream keeps until somebody asks
UNANSWERED = 10.0  # seconds that a stream may be open, or be opened again and again, before its first message

CHANGE = TargetChange.TargetChangeType


class Hints:
    """A subscription over several queries, one stream and one thread for each; it wakes when any of them changes."""

    def __init__(
        self,
        asked: Sequence[Query],
        wake: Callable[[], None],
        *,
        silence: float,
        heard: Callable[[Any], Document | None],
    ) -> None:
        """Open the streams.

        ``silence`` is the seconds without a message after which a stream counts as dead. ``heard`` makes a job of a raw
        document, or ``None`` of another app's.
        """
        self._silence = silence
        self._as_heard = heard
        self._closed = False
        # What Query.on_snapshot does, with our own Watch; the documents of a snapshot are not looked at here.
        self._watches = [HintWatch.over(query, wake) for query in asked]

    def alive(self) -> bool:
        """Whether every stream has its thread, has not ended, and was heard of late."""
        return not self._closed and all(watch.trusted(self._silence) for watch in self._watches)

    @property
    def reason(self) -> str:
        """Why the first dead stream is dead, for the log."""
        return next((watch.ended for watch in self._watches if watch.ended), "nothing was heard")

    def news(self) -> list[Document]:
        """The jobs of which it has heard since the last call, each as it was last, as far as there was room."""
        heard = [self._as_heard(raw) for watch in self._watches for raw in watch.news()]
        return list({document.id: document for document in heard if document is not None}.values())

    def close(self) -> None:
        """End the streams, from any thread, also from within ``wake``."""
        self._closed = True
        for watch in self._watches:
            if watch.runs_here():  # a thread cannot wait for its own end
                threading.Thread(target=watch.close, name="close-hints", daemon=True).start()
            else:
                watch.close()


class HintWatch(Watch):
    """An ``on_snapshot`` stream that never looks into a document, so that none can end it, and records its own end.

    The library's keeps and sorts them; it dies of a count that does not fit after a reconnect, and of what a callback
    or a comparison raises, and when it dies it says so only in a log. It also opens a broken stream again without a
    pause, a thousand times a second; this one is throttled.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self.ended: str | None = None
        self._changed = False
        self._versions: dict[str, Any] = {}  # update times by name of what the query matches, as far as it has a limit
        self._before: dict[str, Any] = {}  # the same before the server began to send everything anew
        self._news = deque[Any](maxlen=NEWS)
        self._heard = time.monotonic()
        self._wanted = True
        self._pinged = 0.0
        self._opened: float | None = None  # the first opening that no message has answered yet
        self._thread: threading.Thread | None = None
        super().__init__(*args, **keywords)  # type: ignore[no-untyped-call]  # the library leaves it so

    @classmethod
    def over(cls, query: Query, wake: Callable[[], None]) -> Self:
        """Open a stream over a query."""
        watch: Self = cls.for_query(query, wake, DocumentSnapshot)  # type: ignore[no-untyped-call]  # likewise
        return watch

    def trusted(self, silence: float) -> bool:
        """Whether a change would reach us, as far as can be told from here; never before the first state was heard."""
        now, opened, thread = time.monotonic(), self._opened, self._thread
        silent = now - self._heard
        if self.ended is not None or silent > silence or not self.has_pushed:
            return False
        if silent > silence / 2 and self._pinged < self._heard:
            self._ping()
        if opened is not None and now - opened > UNANSWERED:
            return False
        consumer = self._consumer
        return consumer is not None and consumer.is_active and (thread is None or thread.is_alive())

    def _ping(self) -> None:
        """Make the server say something on this very stream: to look once at a document that is not there.

        A quiet queue and a connection that leads nowhere look the same otherwise; the emulator never speaks unasked.
        """
        rpc = self._rpc
        if rpc is None or self._opened is not None:
            return
        self._pinged = time.monotonic()
        database = self._firestore._database_string  # noqa: SLF001 - as the methods that this class replaces
        target = {"documents": {"documents": [f"{database}/documents/{NOWHERE}"]}, "target_id": PING_TARGET_ID}
        # Not with `once`: the emulator ends the stream after it.
        for request in ({"add_target": target}, {"remove_target": PING_TARGET_ID}):
            # `send` may wait for a stream that is being opened again
            rpc._request_queue.put(ListenRequest(database=database, **request))  # noqa: SLF001

    def news(self) -> list[Any]:
        """Take the raw documents that came since the last call; none where there were more than it kept."""
        taken = []
        with suppress(IndexError):  # the stream's thread adds to them meanwhile
            while True:
                taken.append(self._news.popleft())
        return taken if len(taken) < NEWS else []  # what is new in a long queue comes last in it

    def runs_here(self) -> bool:
        return self._thread is threading.current_thread()

    def _init_stream(self) -> None:
        self._rpc = ResumableBidiRpc(
            start_rpc=self._open,
            should_recover=lambda error: self._wanted and _should_recover(error),
            should_terminate=_should_terminate,
            initial_request=self._get_rpc_request,
            metadata=self._firestore._rpc_metadata,  # noqa: SLF001 - as the method that this one replaces
            throttle_reopen=True,
        )
        self._rpc.add_done_callback(self._on_rpc_done)
        self._consumer = BackgroundConsumer(self._rpc, self.on_snapshot, self._on_rpc_done)
        self._consumer.start()

    def close(self, reason: Any = None) -> None:
        """End the stream. The library's would be opened again and again in its thread, while nobody answers."""
        self._wanted = False
        super().close(reason)  # type: ignore[no-untyped-call]  # the library leaves it so

    def _open(self, *args: Any, **keywords: Any) -> Any:
        if not self._wanted:
            raise Cancelled("nobody listens any more")
        if self._opened is None:
            self._opened = time.monotonic()
        return self._api.transport.listen(*args, **keywords)

    def _on_rpc_done(self, future: Any) -> None:
        """The stream has ended for good. The library would raise in a thread of its own; we leave word."""
        if self.ended is None:
            self.ended = " ".join(str(future).split()) or type(future).__name__

    def on_snapshot(self, proto: ListenResponse | None) -> None:
        """Take one message: any is a proof of life, and a consistent state with something new in it is a hint.

        The emulator sends the whole result again after every commit anywhere near. What was seen before is no news,
        and neither is what goes away: without this each of our own writes would make us look again.
        """
        self._thread = threading.current_thread()
        if proto is None:  # the stream was terminated
            self.ended = self.ended or "the server ended the stream"
            return
        self._heard, self._opened = time.monotonic(), None
        message = ListenResponse.pb(proto)
        match message.WhichOneof("response_type"):
            case "target_change":
                self._take(message.target_change)
            case "document_change":
                document = message.document_change.document
                name, version = document.name, document.update_time
                if version not in (self._versions.get(name), self._before.get(name)):
                    self._changed = True
                    self._news.append(document)
                self._versions[name] = version
            case "document_delete":
                self._versions.pop(message.document_delete.document, None)
            case "document_remove":
                self._versions.pop(message.document_remove.document, None)
            case _:  # a count after a reconnect, which may mean that something was missed
                self._changed = True

    def _take(self, change: Any) -> None:
        kind = change.target_change_type
        if PING_TARGET_ID in change.target_ids:
            return
        if kind == CHANGE.REMOVE:
            self.ended = f"refused: {change.cause.message or change.cause.code}"
        elif kind == CHANGE.RESET:
            self._before, self._versions = self._versions, {}
        elif kind == CHANGE.CURRENT:
            self.current = True
        elif kind == CHANGE.NO_CHANGE and not change.target_ids and self.current:
            self.resume_token = change.resume_token or self.resume_token
            self._before = {}
            wake = self._snapshot_callback
            if wake is not None and (self._changed or not self.has_pushed):
                self._changed, self.has_pushed = False, True
                wake()

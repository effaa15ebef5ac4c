"""A gRPC relay before the Firestore emulator that fails chosen calls: before they arrive, or by losing the answer."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.cloud.firestore_v1.types import ListenResponse

NOT_FORWARDED = ("grpc-", "user-agent", ":")
THREADS = 32  # each open stream holds one


@dataclass(slots=True, kw_only=True)
class _Failure:
    code: grpc.StatusCode
    details: str
    times: int
    after: bool


class FirestoreRelay(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """Passes every call on as bytes. ``opened`` counts the calls by method, failed ones too."""

    def __init__(self, upstream: str) -> None:
        self.opened: Counter[str] = Counter()
        self._failures: dict[str, _Failure] = {}
        self._streams: set[queue.Queue[bytes | grpc.RpcError | None]] = set()
        self._lock = threading.Lock()
        self._channel = grpc.insecure_channel(upstream)
        self._server = grpc.server(ThreadPoolExecutor(THREADS), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def fail(
        self, method: str, code: grpc.StatusCode, details: str = "", *, times: int = 1, after: bool = False
    ) -> None:
        """Fail the next ``times`` calls of a method; with ``after`` they are carried out, and the answer is lost."""
        with self._lock:
            self._failures[method] = _Failure(code=code, details=details, times=times, after=after)

    def tell(self, response: ListenResponse) -> None:
        """Say something on every open Listen stream, as if the server did."""
        for stream in list(self._streams):
            stream.put(ListenResponse.serialize(response))

    def end(self, code: grpc.StatusCode) -> None:
        """End every open Listen stream."""
        for stream in list(self._streams):
            stream.put(_Ended(code))

    def close(self) -> None:
        """End everything."""
        self._server.stop(None).wait()
        self._channel.close()

    def service(self, handler_call_details: Any) -> Any:
        """Take any method for a stream of bytes both ways, which on the wire all of them are."""
        method = handler_call_details.method

        def handle(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            return self._handle(method, requests, context)

        return grpc.stream_stream_rpc_method_handler(handle)

    def _handle(self, method: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        name = method.rsplit("/", 1)[1]
        failure = self._next_failure(name)
        if failure is not None and not failure.after:
            context.abort(failure.code, failure.details)
        metadata = [item for item in context.invocation_metadata() if not item[0].startswith(NOT_FORWARDED)]
        call = self._channel.stream_stream(method)(requests, metadata=metadata)
        try:
            yield from self._listen(call, context) if name == "Listen" else self._answers(call, failure)
        except grpc.RpcError as exc:
            context.abort(exc.code(), exc.details())

    def _answers(self, call: Any, failure: _Failure | None) -> list[bytes]:
        answers = list(call)
        if failure is not None:
            raise _Ended(failure.code, failure.details)
        return answers

    def _listen(self, call: Any, context: Any) -> Iterator[bytes]:
        stream: queue.Queue[bytes | grpc.RpcError | None] = queue.Queue()

        def pump() -> None:
            try:
                for message in call:
                    stream.put(message)
                stream.put(None)
            except grpc.RpcError as exc:
                stream.put(exc)

        self._streams.add(stream)
        context.add_callback(lambda: stream.put(None))
        thread = threading.Thread(target=pump, name="relay-listen", daemon=True)
        thread.start()
        try:
            while (message := stream.get()) is not None:
                if isinstance(message, grpc.RpcError):
                    raise message
                yield message
        finally:
            self._streams.discard(stream)
            call.cancel()
            thread.join()

    def _next_failure(self, method: str) -> _Failure | None:
        with self._lock:
            self.opened[method] += 1
            failure = self._failures.get(method)
            if failure is None or failure.times == 0:
                return None
            failure.times -= 1
            return failure


class _Ended(grpc.RpcError):  # type: ignore[misc]  # grpc ships no types
    def __init__(self, code: grpc.StatusCode, details: str = "ended by the relay") -> None:
        super().__init__(code)
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


@contextmanager
def firestore_relay(upstream: str) -> Iterator[FirestoreRelay]:
    """Run a relay before ``upstream`` (host:port) until the block ends."""
    relay = FirestoreRelay(upstream)
    try:
        yield relay
    finally:
        relay.close()

"""Threads for the store's blocking calls: so many at once, and not without end in the queue before them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from daemon.entrypoints.shim.answers import Refused

Answer = TypeVar("Answer")

THREADS = 8  # calls of the store at once: each waits for a disk or a network most of its time
WAITING = 1000  # calls that may wait for a thread: while the store is away, each of them waits for its time-out


class Calls:
    """Runs blocking calls beside the event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="call")
        self._running = 0

    async def run(self, call: Callable[[], Answer]) -> Answer:
        """Run one in a thread, to its end even where its client hangs up.

        Raises:
            Refused: 503, there are too many already.
        """
        if self._running >= THREADS + WAITING:
            raise Refused(503, "Too many requests at once, try again", {"Retry-After": "1"})
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        finally:
            self._running -= 1

    def close(self) -> None:
        """Wait for those that run; the others are forgotten."""
        self._threads.shutdown(cancel_futures=True)

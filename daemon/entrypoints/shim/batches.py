"""Calls that arrive while the store is busy with others go to it together: the more there are, the cheaper is each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from daemon.entrypoints.shim.answers import Refused

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")

THREADS = 2  # batches at once: one waits for the disk or the network while the other is made
LARGEST = 64  # calls in a batch
WAITING = 1000  # calls that may wait: while the store is away, each of them waits for its time-out


class Batches(Generic[Ask, Answer]):
    """Hands what is asked to ``work`` in threads, each time all that has come meanwhile, up to ``LARGEST``.

    Used from one event loop. ``work`` returns an answer for each, in order; an exception among them is raised in the
    call that it belongs to.
    """

    def __init__(self, work: Callable[[Sequence[Ask]], Sequence[Answer | Exception]]) -> None:
        self._work = work
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="intake")
        self._waiting: deque[tuple[Ask, asyncio.Future[Answer]]] = deque()
        self._running = 0

    async def run(self, ask: Ask) -> Answer:
        """Ask, and wait for the answer.

        Raises:
            Refused: 503, there are too many already.
        """
        if len(self._waiting) >= WAITING:
            raise Refused(503, "Too many requests at once, try again", {"Retry-After": "1"})
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((ask, answer))
        if self._running < THREADS:
            loop.call_soon(self._start, loop)  # after what else has arrived in this turn of the loop
        return await answer

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting and self._running < THREADS:
            batch = [self._waiting.popleft() for _ in range(min(LARGEST, len(self._waiting)))]
            self._running += 1
            running = self._threads.submit(self._work, [ask for ask, _ in batch])
            running.add_done_callback(
                lambda done, batch=batch: loop.call_soon_threadsafe(self._finish, loop, batch, done)  # type: ignore[misc]
            )

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[Ask, asyncio.Future[Answer]]],
        done: Future[Sequence[Answer | Exception]],
    ) -> None:
        self._running -= 1
        broken = done.exception()
        results = [broken] * len(batch) if broken is not None else done.result()
        for (_, answer), result in zip(batch, results, strict=True):
            if answer.done():  # its client hung up; what it asked for was done all the same
                continue
            if isinstance(result, BaseException):
                answer.set_exception(result)
            else:
                answer.set_result(result)
        self._start(loop)

    def close(self) -> None:
        """Wait for those that run."""
        self._threads.shutdown()

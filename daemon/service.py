"""One worker process: its threads, in which order they end, and when the process gives up on them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Event, Thread

import structlog

from daemon import deadman, fitness, preemption
from daemon.core.errors import StoreUnavailable
from daemon.heartbeat import Heartbeat
from daemon.listener import Listener
from daemon.own_claims import OwnClaims
from daemon.rescue import Cancellations, Rescue
from daemon.shutdown import EXIT_BROKEN, Shutdown
from daemon.worker import Worker

log = structlog.get_logger(__name__)

INTERRUPT = 1.0  # seconds from the interruption of what runs to the end of the process
LOOK_EVERY = 0.05  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A worker with everything that runs beside it. ``grace`` is in seconds."""

    worker: Worker
    heartbeat: Heartbeat
    rescue: Rescue
    cancellations: Cancellations
    listeners: tuple[Listener, ...]
    finishers: ThreadPoolExecutor
    shutdown: Shutdown
    grace: float
    own_claims: OwnClaims | None
    step_limit: float
    check: Callable[[], None]  # in the device's thread, before anything is claimed: raises Unfit, else loads the models
    status: Callable[[str], None]  # what the worker does, in words for a person

    def run(self) -> int:
        """Work until told to stop; the exit status. Ends within the grace and 2 seconds from being told.

        The device and the finishers end first. Heartbeats outlive both, because a lease that ends early would hand a
        job to somebody else while its result is being uploaded. Threads that are stuck are left behind: whoever called
        this ends the process.
        """
        ended = Event()
        beside = [
            self._thread("heartbeat", partial(self.heartbeat.run, ended)),
            self._thread("rescue", partial(self.rescue.run, self.shutdown.draining)),
            self._thread("cancellations", partial(self.cancellations.run, ended)),
            *(self._thread(f"listen-{listener.name}", partial(listener.run, ended)) for listener in self.listeners),
        ]
        if preemption.on_google_cloud():
            beside.append(self._thread("preemption", partial(preemption.watch, self.shutdown, ended)))
        claiming = Event()
        device = self._thread("device", partial(self._device, claiming))
        while not self.shutdown.draining.is_set():
            self.shutdown.draining.wait(3600.0)  # signals are handled between two waits
        self.worker.claimer.wake.set()
        self.status("draining")
        deadline = time.monotonic() + (self.grace if claiming.is_set() else 0.0)
        while self._busy(device) and time.monotonic() < deadline and not self.shutdown.now.is_set():
            time.sleep(LOOK_EVERY)
        if self._busy(device):
            self.shutdown.stop("the grace is over" if not self.shutdown.now.is_set() else "told to stop now")
            deadline = time.monotonic() + INTERRUPT
            while self._busy(device) and time.monotonic() < deadline:
                time.sleep(LOOK_EVERY)
        self._give_back()
        ended.set()
        self.cancellations.wake.set()
        for thread in beside:
            thread.join(timeout=INTERRUPT / len(beside))
        self.finishers.shutdown(wait=False, cancel_futures=True)
        return self.shutdown.status

    def _device(self, claiming: Event) -> None:
        draining = self.shutdown.draining
        if not fitness.until_fit(self.check, draining, unfit=lambda why: self.status(f"unfit: {why}")):
            return
        self._take_back()
        claiming.set()
        claim = self._thread("claim", self.worker.claim)
        self._thread("deadman", partial(deadman.watch, self.worker, draining, scale=self.step_limit))
        log.info("worker.claiming")
        self.status("claiming")
        self.worker.device()
        claim.join()

    def _take_back(self) -> None:
        try:
            self.rescue.give_back(self.own_claims.left_behind if self.own_claims else ())
        except StoreUnavailable as exc:
            log.warning("job.left_to_rescue", error=str(exc))

    def _busy(self, device: Thread) -> bool:
        return device.is_alive() or bool(self.heartbeat.held())

    def _give_back(self) -> None:
        """Release what is still held, one try each; what fails is rescued when its lease ends."""
        threads = [Thread(target=self.worker.release, args=(held,), daemon=True) for held in self.heartbeat.held()]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + INTERRUPT / 2
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _thread(self, name: str, run: Callable[[], None]) -> Thread:
        """Start a thread whose death stops the worker loudly."""

        def guarded() -> None:
            try:
                run()
            except Exception as exc:
                log.exception("worker.broken", thread=name)
                self.shutdown.stop(f"the thread {name} died: {exc}", status=EXIT_BROKEN)

        thread = Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

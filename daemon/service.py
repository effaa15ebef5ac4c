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
from daemon.chronicle import Chronicle
from daemon.core.errors import StoreUnavailable
from daemon.core.ports import Supervisor
from daemon.heartbeat import Heartbeat
from daemon.listener import Listener
from daemon.own_claims import OwnClaims
from daemon.previews import Previews
from daemon.rescue import Cancellations, Rescue
from daemon.shutdown import EXIT_BROKEN, EXIT_DEVICE, Shutdown
from daemon.vitals import CLAIMING, Vitals
from daemon.worker import Worker
from models.errors import DeviceLost

log = structlog.get_logger(__name__)

INTERRUPT = 1.0  # seconds from the interruption of what runs to giving back what is left
LAST = 0.25  # seconds for the threads beside to end
LOOK_EVERY = 0.05  # seconds
FEED_EVERY = 1.0  # seconds between two signs of life to the supervisor, and between two looks at whether we idle
CALL = 60.0  # seconds between two signs of life of a thread that calls the store, besides its own pauses


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A worker with everything that runs beside it. ``grace`` is in seconds."""

    worker: Worker
    heartbeat: Heartbeat
    rescue: Rescue
    cancellations: Cancellations
    listeners: tuple[Listener, ...]
    pools: tuple[ThreadPoolExecutor, ...]
    shutdown: Shutdown
    grace: float
    own_claims: OwnClaims | None
    check: Callable[[], None]  # in the device's thread, before anything is claimed: raises Unfit, else loads the models
    supervisor: Supervisor
    vitals: Vitals
    previews: Previews | None  # into the bucket
    chronicle: Chronicle
    exit_when_idle: float | None  # seconds without work after which the worker ends; it goes on for ever without

    def run(self) -> int:
        """Work until told to stop; the exit status. Ends within the grace and 2 seconds from being told.

        The device and the finishers end first. Heartbeats outlive both, because a lease that ends early would hand a
        job to somebody else while its result is being uploaded. Threads that are stuck are left behind: whoever called
        this ends the process.
        """
        ended = Event()
        asked, draining = self.vitals.asked(ended), self.vitals.asked(self.shutdown.draining)
        beside = [
            self._thread("heartbeat", partial(self.heartbeat.run, asked), within=30.0),
            self._thread("rescue", partial(self.rescue.run, draining), within=2 * self.rescue.interval + CALL),
            self._thread("cancellations", partial(self.cancellations.run, asked), within=5.0 + CALL),
            *(
                self._thread(f"listen-{listener.name}", partial(listener.run, asked), within=30.0 + CALL)
                for listener in self.listeners
            ),
            self._thread("chronicle", partial(self.chronicle.run, asked), within=CALL),
            self._thread("supervision", partial(self._supervise, ended)),
        ]
        if self.previews is not None:  # no signs of life are expected: no worker is restarted for a preview
            beside.append(self._thread("previews", partial(self.previews.run, ended)))
        if preemption.on_google_cloud():
            watch = partial(preemption.watch, self.shutdown, asked)
            beside.append(self._thread("preemption", watch, within=75.0 + CALL))
        claiming = Event()
        device = self._thread("device", partial(self._device, claiming))
        self.supervisor.ready()
        self.shutdown.draining.wait()
        deadline = time.monotonic() + (self.grace if claiming.is_set() else 0.0)
        self.worker.close()
        self.worker.claimer.wake.set()
        self.supervisor.stopping()
        self._do("draining")
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
            thread.join(timeout=LAST / len(beside))
        for pool in self.pools:
            pool.shutdown(wait=False, cancel_futures=True)
        return self.shutdown.status

    def _device(self, claiming: Event) -> None:
        draining = self.vitals.asked(self.shutdown.draining)
        self._do("loading the models")
        try:
            if not fitness.until_fit(self.check, draining, unfit=lambda why: self._do(f"unfit: {why}")):
                return
        except DeviceLost as exc:
            self.shutdown.stop(str(exc), status=EXIT_DEVICE)
            return
        self._take_back()
        claiming.set()
        claim = self._thread("claim", partial(self.worker.claim, draining), within=30.0 + CALL)
        self._thread("deadman", partial(deadman.watch, self.worker, draining), within=CALL)
        if self.exit_when_idle is not None:
            self._thread("idleness", partial(self._end_when_idle, self.exit_when_idle), within=CALL)
        log.info("worker.claiming")
        self._do(CLAIMING)
        self.worker.device()
        claim.join()

    def _take_back(self) -> None:
        try:
            self.rescue.give_back(self.own_claims.left_behind if self.own_claims else ())
        except StoreUnavailable as exc:
            log.warning("job.left_to_rescue", error=str(exc))

    def _do(self, what: str) -> None:
        """Say what the worker does, unless it ends: then that is the last word."""
        if what == CLAIMING and self.shutdown.draining.is_set():
            return
        self.vitals.doing = what
        self.supervisor.status(what)

    def _supervise(self, ended: Event) -> None:
        """Tell the supervisor that we live, as long as every thread does; whoever is silent is named in the log."""
        known: list[str] = []
        while not ended.wait(FEED_EVERY):
            silent = self.vitals.silent()
            if silent != known:
                log.error("worker.silent", threads=silent) if silent else log.info("worker.moving")
                known = silent
            if not silent:
                self.supervisor.alive()

    def _end_when_idle(self, seconds: float) -> None:
        began, draining = time.monotonic(), self.vitals.asked(self.shutdown.draining)
        while not draining.wait(FEED_EVERY):
            if time.monotonic() - max(began, self.heartbeat.busy_at) >= seconds:
                self.shutdown.drain(f"no work for {seconds:g} s")
                return

    def _busy(self, device: Thread) -> bool:
        uploading = self.previews is not None and self.previews.busy
        return device.is_alive() or bool(self.heartbeat.held()) or self.worker.busy or uploading

    def _give_back(self) -> None:
        """Release what is still held, one try each; what fails is rescued when its lease ends."""
        threads = [Thread(target=self.worker.release, args=(held,), daemon=True) for held in self.heartbeat.held()]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + INTERRUPT / 2
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _thread(self, name: str, run: Callable[[], None], *, within: float | None = None) -> Thread:
        """Start a thread whose death stops the worker loudly, and which gives signs of life ``within`` seconds."""

        def guarded() -> None:
            try:
                run()
            except Exception as exc:
                log.exception("worker.broken", thread=name)
                self.shutdown.stop(f"the thread {name} died: {exc}", status=EXIT_BROKEN)
            else:
                self.vitals.forget(name)

        if within is not None:
            self.vitals.expect(name, within=within)
        thread = Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

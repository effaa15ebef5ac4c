"""The two-level stop: first no new claims, then interrupt at the next step. Any thread may ask, every thread looks."""

from __future__ import annotations

import os
import signal
from threading import Event, Lock, Thread

import structlog

log = structlog.get_logger(__name__)

EXIT_OK = 0
EXIT_SETTINGS = 2  # nothing can work with these settings: not to be restarted
EXIT_BROKEN = 70  # a thread of ours died: a defect (EX_SOFTWARE in sysexits.h)
EXIT_DEVICE = 75  # the device is lost or hung: restart (EX_TEMPFAIL in sysexits.h)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """What the process has been told, and the exit status that it will end with."""

    def __init__(self) -> None:
        self.draining = Event()  # claim nothing more; end what runs
        self.now = Event()  # stop at the next step and give back
        self.status = EXIT_OK
        self._lock = Lock()

    def drain(self, reason: str) -> None:
        """Ask for an orderly end."""
        if not self.draining.is_set():
            log.info("worker.draining", reason=reason)
        self.draining.set()

    def stop(self, reason: str, *, status: int = EXIT_OK) -> None:
        """Ask for an end at the next step. The first status that is not 0 stays."""
        with self._lock:
            self.status = self.status or status
        if not self.now.is_set():
            log.info("worker.stopping", reason=reason, status=self.status)
        self.draining.set()
        self.now.set()

    def listen(self) -> None:
        """Obey SIGTERM and SIGINT: the first drains, the second stops. For the main thread.

        The interpreter writes their numbers into a pipe, and a thread reads them. A handler that did more would run in
        the middle of the main thread's own logging or locking, and wait for what only the main thread can let go of.
        """
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        Thread(target=self._obey, args=(reader,), name="signals", daemon=True).start()

    def _obey(self, reader: int) -> None:
        while True:
            for number in os.read(reader, 16):
                name = signal.Signals(number).name
                if self.draining.is_set():
                    self.stop(f"a second signal: {name}")
                else:
                    self.drain(name)

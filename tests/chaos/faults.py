"""What befalls a run from outside: one fault at a time is begun, and the long ones mend by themselves."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus

from tests.chaos.fleet import Fleet
from tests.chaos.plan import LEASE, Plan
from tests.chaos.sites import Site, locked
from tests.parts.proxy import Mode, Proxy

LONGEST_HOLE = 2.5 * LEASE  # seconds


class Faults:
    """Begins faults of every kind that its site can have, as the plan's seed decides."""

    def __init__(self, plan: Plan, site: Site, fleet: Fleet) -> None:
        self._plan = plan
        self._site = site
        self._fleet = fleet
        self._random = random.Random(plan.seed + 2)
        self._running: list[threading.Thread] = []
        self._kinds: list[str] = []
        self.begun: Counter[str] = Counter()

    def one(self) -> None:
        """Begin one fault; each kind comes as often as the others."""
        if not self._kinds:
            self._kinds = list(self._plan.faults_here)
            self._random.shuffle(self._kinds)
        kind = self._kinds.pop()
        if kind in ("kill", "stop", "drain"):
            self._fleet.befall(kind)
            return
        self.begun[kind] += 1
        match kind.split():
            case ["cut", what]:
                self._side(what).cut()
            case ["hole", what]:
                self._for_a_while(self._side(what), Mode.BLACK_HOLE)
            case ["slow", what]:
                self._for_a_while(self._side(what), Mode.PASS, delay=0.3)
            case ["storage", _, *after]:
                self._refuse(after=bool(after))
            case ["lock"]:
                self._later(self._lock)

    def mend(self) -> None:
        """Wait until everything is whole again."""
        for thread in self._running:
            thread.join()

    def _side(self, what: str) -> Proxy:
        return self._random.choice(self._site.store_proxies if what == "store" else self._site.blob_proxies)

    def _for_a_while(self, proxy: Proxy, mode: Mode, *, delay: float = 0.0) -> None:
        seconds = self._random.uniform(0.5, LONGEST_HOLE)

        def while_it_lasts() -> None:
            proxy.set(mode, delay=delay)
            time.sleep(seconds)
            proxy.set(Mode.PASS)

        self._later(while_it_lasts)

    def _refuse(self, *, after: bool) -> None:
        assert self._site.fence is not None
        method = self._random.choice(("POST", "POST", "GET", "DELETE"))
        times = self._random.randint(1, 5)
        self._site.fence.fail(method, HTTPStatus.SERVICE_UNAVAILABLE, times=times, after=after)

    def _lock(self) -> None:
        assert self._site.database is not None
        with locked(self._site.database):
            time.sleep(self._random.uniform(0.1, LEASE / 2))

    def _later(self, run: Callable[[], None]) -> None:
        self._running = [thread for thread in self._running if thread.is_alive()]
        thread = threading.Thread(target=run, name="fault", daemon=True)
        self._running.append(thread)
        thread.start()

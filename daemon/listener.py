"""Keeps a hint alive: opens the store's subscription, notices when it has died or gone mute, and opens it again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from threading import Event

import structlog

from daemon.core.errors import StoreUnavailable
from daemon.core.job import Document
from daemon.core.ports import Subscription

log = structlog.get_logger(__name__)

OPENING = 10.0  # seconds that a subscription may take to come alive
LOOK_EVERY = 1.0  # seconds between two looks at the subscription
FIRST_PAUSE = 1.0  # seconds before the first reopening
LONGEST_PAUSE = 30.0  # seconds


class Listener:
    """A supervised subscription. While it is not ``alive`` the poll alone keeps the queue moving, only slower.

    While it is not ``needed`` it is closed: each change that it would hear of costs a read and work on both sides.
    """

    def __init__(
        self,
        name: str,
        subscribe: Callable[[], Subscription],
        *,
        mended: Callable[[], None],
        needed: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = name
        self._subscribe = subscribe
        self._needed = needed
        self._mended = mended
        self.alive = False
        self._subscription: Subscription | None = None

    @property
    def well(self) -> bool:
        """Whether it hears what it should: also where it is not needed."""
        return self.alive or not self._needed()

    def news(self) -> list[Document]:
        """What the subscription has heard of since the last call."""
        subscription = self._subscription
        return [] if subscription is None else subscription.news()

    def run(self, stopped: Event) -> None:
        """Keep the subscription until ``stopped``. A loss is logged once, not at every try."""
        pause, lost = FIRST_PAUSE, False
        while not stopped.is_set():
            if not self._needed():
                stopped.wait(LOOK_EVERY)
                continue
            reason: str | None
            try:
                subscription = self._subscribe()
            except StoreUnavailable as exc:
                reason = str(exc)
            else:
                opened = time.monotonic()
                lost, reason = self._follow(subscription, stopped, lost=lost)
                if time.monotonic() - opened > LONGEST_PAUSE:
                    pause = FIRST_PAUSE
            if reason is None or stopped.is_set():
                continue
            if not lost:
                log.warning("listener.lost", listener=self.name, reason=reason)
                lost = True
            stopped.wait(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _follow(self, subscription: Subscription, stopped: Event, *, lost: bool) -> tuple[bool, str | None]:
        """Look at the subscription until it is dead or not wanted any more.

        Returns whether the loss before it is not mended yet, and why it died; ``None`` where it did not.
        """
        opened = time.monotonic()
        self._subscription = subscription
        try:
            while not stopped.wait(LOOK_EVERY) and self._needed():
                if not subscription.alive():
                    if self.alive or time.monotonic() - opened > OPENING:
                        return lost, subscription.reason
                    continue
                if lost:
                    log.info("listener.mended", listener=self.name)
                    self._mended()
                    lost = False
                self.alive = True
        finally:
            self.alive, self._subscription = False, None
            subscription.close()
        return lost, None

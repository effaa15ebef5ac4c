"""How long training has worked, for budgets that a pause of the process or the machine does not use up."""

from __future__ import annotations

import time

LONGEST_STEP = 10.0  # seconds that a step may count for: one that took longer was stopped on its way


class Clock:
    """Counts the seconds of steps, each up to ``LONGEST_STEP``."""

    def __init__(self) -> None:
        self.spent = 0.0
        self._ticked = time.monotonic()

    def tick(self) -> float:
        """End a step; return what all of them have taken."""
        now = time.monotonic()
        self.spent += min(now - self._ticked, LONGEST_STEP)
        self._ticked = now
        return self.spent

"""What happens to a test whose real part is not on this machine: skipped and said so, or failed where ``CI`` is set."""

from __future__ import annotations

import os
from collections import Counter
from typing import NoReturn

import pytest

PREFIX = "NOT TESTED: "


class PartMissing(Exception):
    """A real part is not on this machine. ``part`` names it, ``how`` says how to get it."""

    def __init__(self, part: str, how: str) -> None:
        super().__init__(f"{part}: {how}")
        self.part = part
        self.how = how


def skip_or_fail(part: str, how: str) -> NoReturn:
    """Skip the running test so that the last line of the run tells of it, or fail it in continuous integration."""
    if os.environ.get("CI"):
        pytest.fail(f"{part} is missing, and CI must test it. {how}", pytrace=False)
    pytest.skip(f"{PREFIX}{part}: {how}")


class NotTested:
    """Counts the tests that a missing part kept from running."""

    def __init__(self) -> None:
        self._tests: Counter[tuple[str, str]] = Counter()

    def note(self, report: pytest.TestReport) -> None:
        """Count a report of a skipped test, if a missing part was the reason."""
        if not (report.skipped and isinstance(report.longrepr, tuple)):
            return
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason.startswith(PREFIX):
            part, _, how = reason.removeprefix(PREFIX).partition(": ")
            self._tests[part, how] += 1

    def lines(self) -> list[str]:
        """One line for each missing part: how many tests it would have taken part in, and how to get it."""
        return [
            f"{PREFIX}{part} ({count} test{'s' if count > 1 else ''}): {how}"
            for (part, how), count in sorted(self._tests.items())
        ]

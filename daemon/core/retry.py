"""When a job that failed in passing is tried again."""

from __future__ import annotations

from datetime import timedelta

FIRST = 5.0  # seconds before the second attempt
LONGEST = 300.0  # seconds


def backoff(attempt: int, *, chance: float) -> timedelta:
    """How long to wait after ``attempt`` (1-based) failed: exponential, half of it jitter.

    ``chance`` lies in [0, 1). "Equal jitter": aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter.
    """
    whole = min(LONGEST, FIRST * 2 ** min(attempt - 1, 16))
    return timedelta(seconds=whole / 2 + whole / 2 * chance)

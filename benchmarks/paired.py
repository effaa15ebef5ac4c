"""Comparing sides that were measured in the same rounds, and what a row of the table says of its target.

Ratios are taken within a round, so that what else the machine does in that minute weighs on both sides. The interval is
Student's t on the logarithms: a bootstrap of so few rounds comes out too narrow.
"""

from __future__ import annotations

import math
import os
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Figure = TypeVar("Figure")

QUICK = os.environ.get("BENCH") == "quick"
ROUNDS = 3 if QUICK else 7
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # two-sided, by degrees of freedom from 1


def rounds(sides: Mapping[str, Callable[[], Figure]], *, count: int = ROUNDS) -> dict[str, list[Figure]]:
    """Measure every side once in each round, each round in an order of its own."""
    found: dict[str, list[Figure]] = {name: [] for name in sides}
    for _ in range(count):
        for name in random.sample(sorted(sides), len(sides)):
            found[name].append(sides[name]())
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio with the ends of its 95 % interval."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
        """The geometric mean of paired ratios."""
        logs = [math.log(one / other) for one, other in zip(ours, theirs, strict=True)]
        middle = statistics.fmean(logs)
        half = T_95[len(logs) - 2] * statistics.stdev(logs) / math.sqrt(len(logs))
        return cls(middle=math.exp(middle), low=math.exp(middle - half), high=math.exp(middle + half))

    def judged(self, target: float, *, at_most: bool = False, wide: float = 1.1) -> str:
        """``ok`` where the interval lies on the right side of the target, ``SHORT`` where on the wrong one.

        An interval that has the target inside is judged by its middle, and is ``NOISE`` where its ends differ by more
        than the factor ``wide``.
        """
        if at_most:
            return Ratio(middle=1 / self.middle, low=1 / self.high, high=1 / self.low).judged(1 / target, wide=wide)
        if self.low >= target:
            return "ok"
        if self.high < target:
            return "SHORT"
        if self.high / self.low > wide:
            return "NOISE"
        return "ok" if self.middle >= target else "SHORT"

    def __str__(self) -> str:
        return f"{self.middle:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    letter: str
    figures: str
    target: str
    word: str

    def __str__(self) -> str:
        return f"bench {self.letter}: {self.figures} target {self.target} {self.word}"


def compared(
    letter: str,
    what: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    target: float,
    *,
    unit: str,
    at_most: bool = False,
    wide: float = 1.1,
) -> Row:
    """A row that compares our figure with another's of the same rounds."""
    ratio = Ratio.of(ours, theirs)
    figures = f"{what} {statistics.median(ours):.4g} of {statistics.median(theirs):.4g} {unit}, ratio {ratio}"
    sign = "<=" if at_most else ">="
    return Row(
        letter=letter,
        figures=figures,
        target=f"{sign}{target:g}",
        word=ratio.judged(target, at_most=at_most, wide=wide),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(percent / 100 * len(ordered)) - 1)]

"""What to do, and in which order, when a device's memory does not suffice for a call; what worked is remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.spec import Call

Size = tuple[int, int, int]
"""Width, height and frames: what a call's need of memory grows with, besides its items."""


class Rung(Enum):
    """Ways to run a pipeline; each needs less memory than the one before, and more time."""

    PLAIN = "as it is loaded"
    TILED = "decoding tile by tile"
    OFFLOADED = "decoding tile by tile, and each network on the device only while it computes"


class Ladder:
    """The rungs of one model. A size begins on the rung that worked for it last, so other sizes are untouched.

    A call of several items does not climb: it is refused, whoever made it halves it, and how many of this size were too
    many is remembered. Smaller calls cost less time than either of the upper rungs.
    """

    def __init__(self, rungs: Sequence[Rung]) -> None:
        self._rungs = tuple(rungs)
        self._worked: dict[Size, Rung] = {}
        self._too_many: dict[Size, int] = {}

    def tries(self, call: Call) -> Iterator[Rung]:
        """How to run a call: the next way each time that memory did not suffice for the one before.

        The first comes twice: what torch had cached is given back before the second, and often was all that lacked.
        Nothing comes where so many items are known to be too many.
        """
        size, items = _size(call), len(call.items)
        if items > 1 and items >= self._too_many.get(size, items + 1):
            return
        first = self._worked.get(size, self._rungs[0])
        yield first
        yield first
        if items > 1:
            self._too_many[size] = items
            return
        yield from self._rungs[self._rungs.index(first) + 1 :]

    def worked(self, call: Call, rung: Rung) -> None:
        """Remember what sufficed for a call of this size."""
        self._worked[_size(call)] = rung


def _size(call: Call) -> Size:
    return call.width, call.height, call.frames

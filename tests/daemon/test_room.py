"""Who waits for room is woken when there is some, and not found out by the next look at the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from daemon.held import Held
from daemon.room import Room
from tests.daemon.rig import until

LONG = 60.0  # seconds that a waiter would wait; a test that is not woken ends by its own limit


def held() -> Held:
    """As much of a job as a room looks at."""
    return cast("Held", SimpleNamespace(work=SimpleNamespace(alone=False)))


def waits(room: Room, call: Callable[[], Any]) -> Callable[[], Any]:
    """Call in a thread; what gives its result, and fails where it has none soon. Returns once the thread waits."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    until(lambda: bool(room._claimable._waiters or room._takeable._waiters), "it waits")  # type: ignore[attr-defined]

    def result() -> Any:
        thread.join(LONG / 6)
        assert found, "it was not woken"
        return found[0]

    return result


def running(room: Room) -> None:
    """Let the device be at a batch, whose end nobody knows yet."""
    assert room.put([held()])
    assert room.take()


@pytest.mark.parametrize("how", ["the device is free", "the device soon will be", "a finisher is done"])
def test_who_claims_is_woken_when_there_is_room(how: str) -> None:
    """Each change that makes room does it."""
    room = Room(prefetch=3.0, finishing=1)
    running(room)
    if how == "a finisher is done":
        room.finishing(+2)
        room.moved(time.monotonic())
    woken = waits(room, lambda: room.wait_for_claim(LONG))
    if how == "the device is free":
        threading.Thread(target=room.take, daemon=True).start()
    elif how == "the device soon will be":
        room.moved(time.monotonic() + 60.0)  # not yet
        room.moved(time.monotonic() + 1.0)
    else:
        room.finishing(-1)
    assert woken() is True
    room.close()


@pytest.mark.parametrize("how", ["a batch is ready", "a finisher is done", "the room is closed"])
def test_the_device_is_woken_when_it_can_go_on(how: str) -> None:
    """By a batch, by room behind it, and by the end."""
    room = Room(prefetch=3.0, finishing=1)
    batch = [held()]
    if how == "a finisher is done":
        room.finishing(+2)
        assert room.put(batch)
    taken = waits(room, room.take)
    if how == "a batch is ready":
        assert room.put(batch)
    elif how == "a finisher is done":
        room.finishing(-1)
    else:
        room.close()
    assert taken() == (None if how == "the room is closed" else batch)

"""The supervision of listeners: a loss is logged once, mended with capped pauses and counted; the poll goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon import listener as listeners
from daemon import rescue
from daemon.adapters.firestore import FirestoreStore
from daemon.core.errors import StoreUnavailable
from daemon.core.job import Collection, Document
from daemon.listener import Listener
from tests.daemon.rig import Rig, until
from tests.parts.firestore_emulator import FirestoreEmulator
from tests.parts.proxy import Mode, proxy


class Subscription:
    """A hint that a test kills."""

    def __init__(self) -> None:
        self.living = True
        self.closed = False
        self.reason = "killed by a test"

    def alive(self) -> bool:
        return self.living

    def news(self) -> list[Document]:
        return []

    def close(self) -> None:
        self.closed = True


class Server:
    """Opens subscriptions, or refuses to."""

    def __init__(self) -> None:
        self.refusing = False
        self.opened: list[Subscription] = []
        self.asked: list[float] = []  # monotonic
        self.mended = 0

    def subscribe(self) -> Subscription:
        self.asked.append(time.monotonic())
        if self.refusing:
            raise StoreUnavailable("refused")
        self.opened.append(Subscription())
        return self.opened[-1]

    def mend(self) -> None:
        self.mended += 1


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """With a hundredth of the usual times."""
    for name in ("OPENING", "LOOK_EVERY", "FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(listeners, name, getattr(listeners, name) / 100)
    return Server()


@contextmanager
def running(
    subscribe: Callable[[], Any], mended: Callable[[], None], needed: Callable[[], bool] = lambda: True
) -> Iterator[Listener]:
    """A listener in its thread until the block ends."""
    stopped = threading.Event()
    listener = Listener("queue", subscribe, mended=mended, needed=needed)
    thread = threading.Thread(target=listener.run, args=(stopped,))
    thread.start()
    try:
        yield listener
    finally:
        stopped.set()
        thread.join(20.0)
        assert not thread.is_alive()


def test_a_dead_subscription_is_closed_opened_again_and_counted(server: Server) -> None:
    """One line when it is lost and one when it is mended."""
    with capture_logs() as logs, running(server.subscribe, server.mend) as listener:
        until(lambda: listener.alive, "it lives")
        server.opened[0].living = False
        until(lambda: server.mended == 1, "it is mended")
        assert server.opened[0].closed
        assert listener.alive
    assert [entry["event"] for entry in logs] == ["listener.lost", "listener.mended"]
    assert server.opened[1].closed, "and closed in the end"
    assert not listener.alive


def test_a_subscription_that_is_never_heard_of_is_no_mend(server: Server) -> None:
    """It has its time to open; then it is closed, and nothing was mended by it."""

    def mute() -> Subscription:
        subscription = server.subscribe()
        subscription.living = False
        return subscription

    with capture_logs() as logs, running(mute, server.mend) as listener:
        until(lambda: len(server.asked) == 3, "it is opened again")
        assert not listener.alive
    assert server.mended == 0
    assert [entry["event"] for entry in logs] == ["listener.lost"]
    assert server.asked[1] - server.asked[0] >= listeners.OPENING


def test_a_server_that_refuses_is_asked_with_growing_pauses_and_logged_once(server: Server) -> None:
    """The pause doubles up to its cap, at which it stays: no storm however long it lasts."""
    server.refusing = True
    with capture_logs() as logs, running(server.subscribe, server.mend) as listener:
        until(lambda: len(server.asked) == 9, "nine tries")
        assert not listener.alive
        server.refusing = False
        until(lambda: server.mended == 1, "it is mended")
    pauses = [later - before for before, later in zip(server.asked, server.asked[1:], strict=False)]
    assert min(pauses[5:8]) >= listeners.LONGEST_PAUSE / 2
    assert [entry["event"] for entry in logs] == ["listener.lost", "listener.mended"]
    assert logs[0]["reason"] == "refused"


def test_a_subscription_that_dies_again_and_again_is_not_opened_in_a_storm(server: Server) -> None:
    """Each opening that lives only for a moment makes the next pause longer, too."""

    def dying() -> Subscription:
        subscription = server.subscribe()
        subscription.living = False
        return subscription

    with running(dying, server.mend) as listener:
        until(lambda: len(server.asked) == 8, "eight tries")
        assert not listener.alive
    assert server.asked[7] - server.asked[6] >= listeners.LONGEST_PAUSE / 2
    assert server.mended == 0
    assert all(subscription.closed for subscription in server.opened)


def test_a_listener_that_nobody_needs_is_closed_and_is_not_lost(server: Server) -> None:
    """It is opened when it is needed, and closed and opened again without a word."""
    needed, looked = threading.Event(), threading.Event()

    def asked() -> bool:
        looked.set()
        return needed.is_set()

    with capture_logs() as logs, running(server.subscribe, server.mend, asked) as listener:
        assert looked.wait(20.0)
        assert not server.asked
        needed.set()
        until(lambda: listener.alive, "it lives")
        needed.clear()
        until(lambda: server.opened[0].closed and not listener.alive, "it is closed")
        needed.set()
        until(lambda: listener.alive, "it lives again")
    assert len(server.opened) == 2
    assert (logs, server.mended) == ([], 0)


def test_a_subscription_that_is_slow_to_open_is_not_lost_when_it_is_closed(server: Server) -> None:
    """Neither where nobody needs it any more nor at the end; and once it is needed again it is opened at once."""
    needed = True

    class Slow(Subscription):
        """It is not alive at the first look."""

        looks = 0

        def alive(self) -> bool:
            self.looks += 1
            return self.looks > 1

    def slow() -> Subscription:
        server.asked.append(time.monotonic())
        server.opened.append(Slow())
        return server.opened[-1]

    with capture_logs() as logs, running(slow, server.mend, lambda: needed) as listener:
        until(lambda: listener.alive, "it lives")
        needed = False
        until(lambda: server.opened[0].closed, "it is closed")
        assert listener.well
        needed = True
        until(lambda: listener.alive, "it lives again")
    assert (logs, server.mended, len(server.asked)) == ([], 0, 2)


def test_an_end_while_it_is_lost_is_no_other_loss(server: Server) -> None:
    """Whoever stops the worker is told nothing of listeners."""
    asked, stopped, answered = threading.Event(), threading.Event(), threading.Event()

    def refused_once_stopped() -> Subscription:
        asked.set()
        assert answered.wait(20.0)
        raise StoreUnavailable("refused")

    listener = Listener("queue", refused_once_stopped, mended=server.mend)
    with capture_logs() as logs:
        thread = threading.Thread(target=listener.run, args=(stopped,))
        thread.start()
        assert asked.wait(20.0)
        stopped.set()
        answered.set()
        thread.join(20.0)
    assert logs == []


def test_what_is_lost_while_it_is_not_needed_is_mended_once_it_is(server: Server) -> None:
    """A loss that was logged is followed by its end, however long nobody needs the listener in between."""
    needed, unneeded = True, 0

    def asked() -> bool:
        nonlocal unneeded
        unneeded += not needed
        return needed

    with capture_logs() as logs, running(server.subscribe, server.mend, asked) as listener:
        until(lambda: listener.alive, "it lives")
        server.refusing = True
        server.opened[0].living = False
        until(lambda: bool(logs), "it is lost")
        needed = False
        until(lambda: unneeded > 1, "nobody needs it")
        server.refusing, needed = False, True
        until(lambda: server.mended == 1, "it is mended")
    assert [entry["event"] for entry in logs] == ["listener.lost", "listener.mended"]


def test_cancellations_are_listened_for_once_a_job_lasts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shorter one is over before anybody could want it cancelled, and an idle worker has none."""
    monkeypatch.setattr(rescue, "CANCEL_POLL", 3600.0)
    rig.device.hold()
    with rig.worker() as running_worker:
        queue, cancellations = running_worker.service.listeners
        until(lambda: queue.alive, "it listens to the queue")
        assert not cancellations.alive
        assert cancellations.well
        job = rig.call("a")
        until(lambda: cancellations.alive, "it listens for cancellations")
        rig.merge(job, cancel_requested=True)
        until(lambda: rig.service_sees_end(job), "the worker hears of it")
        rig.device.step()
        rig.until_status(job, "cancelled")


def test_the_poll_keeps_the_queue_moving_without_any_listener(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that lets nobody listen is slower by a poll, not dead."""

    def refuse(*_: object) -> Subscription:
        raise StoreUnavailable("no listening today")

    monkeypatch.setattr(type(rig.store), "listen", refuse)
    monkeypatch.setattr(type(rig.store), "listen_cancellations", refuse)
    with rig.worker() as running_worker:
        assert [rig.until_status(rig.call(name), "completed")["status"] for name in "ab"] == ["completed"] * 2
        assert not any(listener.alive for listener in running_worker.service.listeners)


@pytest.mark.slow
def test_a_black_hole_before_firestore_is_noticed_and_mended(
    firestore_emulator: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection looks open and says nothing: the listener counts as lost until the network is back."""
    server = Server()
    woken = threading.Event()
    with proxy(firestore_emulator.address) as network:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", network.address)
        store = FirestoreStore.connect(project=firestore_emulator.new_project(), deadline=5.0, silence=8.0)
        with running(lambda: store.listen(list(Collection), woken.set), server.mend) as listener:
            until(lambda: listener.alive and woken.is_set(), "it lives", within=60.0)
            network.set(Mode.BLACK_HOLE)
            until(lambda: not listener.alive, "the silence is noticed", within=40.0)
            network.set(Mode.PASS)
            until(lambda: server.mended > 0, "it is mended", within=60.0)
        store.close()

"""The ways in which ``on_snapshot`` fails, each brought about, and what is noticed of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.cloud import firestore
from google.cloud.firestore_v1.types import ListenResponse
from google.cloud.firestore_v1.watch import WATCH_TARGET_ID

from daemon.adapters.firestore import FirestoreStore
from daemon.adapters.firestore.listener import NEWS
from daemon.core.job import SERVER_TIME, Changes, Collection, Document, JobId
from daemon.core.ports import Subscription
from tests.parts.firestore_emulator import FirestoreEmulator
from tests.parts.firestore_relay import FirestoreRelay
from tests.parts.proxy import Mode, Proxy, proxy

IMAGES = Collection.IMAGES
SOON = 20.0  # seconds; far more than anything here takes


def queue_a_job(store: FirestoreStore, file_uid: str, created_at: object = SERVER_TIME) -> None:
    """Write a queued document."""
    job = JobId(user_id="user", collection=IMAGES, file_uid=file_uid)
    fields = {"status": "queued", "created_at": created_at}
    store.update(job, lambda document, now: Changes(reason="test", fields=fields, create=document.fields is None))


def wait_until(condition: Callable[[], bool], within: float = SOON) -> None:
    """Look again and again, as the daemon's supervisor does."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def woken() -> threading.Event:
    """Set by each hint."""
    return threading.Event()


@pytest.fixture
def listening(relayed: FirestoreStore, woken: threading.Event) -> Iterator[Subscription]:
    """A listener that has heard the state at its start."""
    subscription = relayed.listen([IMAGES], woken.set)
    assert woken.wait(SOON)
    woken.clear()
    yield subscription
    subscription.close()


def still_wakes(direct: FirestoreStore, woken: threading.Event, file_uid: str) -> bool:
    """Whether a new job is noticed."""
    woken.clear()
    queue_a_job(direct, file_uid)
    return woken.wait(SOON)


def test_only_news_wakes(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """What the server sends again, as the emulator does after each commit, is no hint; nor is what goes away."""
    hints: list[None] = []
    subscription = relayed.listen([IMAGES], lambda: hints.append(None))
    wait_until(lambda: len(hints) == 1)  # the state at the start
    name = "projects/p/databases/d/documents/generations/u/images/a"
    document: dict[str, Any] = {"name": name, "update_time": {"seconds": 5}}
    state = {"target_change_type": "CURRENT", "target_ids": [WATCH_TARGET_ID]}

    def tell(*messages: dict[str, Any]) -> None:
        for message in (*messages, {"target_change": state}, {"target_change": {"resume_token": b"x"}}):
            relay.tell(ListenResponse(message))

    news = {"document_change": {"document": document, "target_ids": [WATCH_TARGET_ID]}}
    anew = {"target_change": {"target_change_type": "RESET", "target_ids": [WATCH_TARGET_ID]}}
    gone = {"document_remove": {"document": document["name"], "removed_target_ids": [WATCH_TARGET_ID]}}
    tell(news)
    wait_until(lambda: len(hints) == 2)
    tell(anew, news)
    tell(news)
    tell(gone)
    tell(anew)
    tell(news)  # it came back, which is the only news of these five
    wait_until(lambda: len(hints) == 3)
    subscription.close()
    assert len(hints) == 3


@pytest.mark.slow
def test_a_quiet_queue_is_not_taken_for_a_dead_stream(listening: Subscription, relay: FirestoreRelay) -> None:
    """Three silences long nothing happens; the server is asked to speak, and the stream stays the same."""
    end = time.monotonic() + 9.0
    while time.monotonic() < end:
        assert listening.alive()
        time.sleep(0.1)
    assert relay.opened["Listen"] == 1


def test_a_callback_that_raises_is_noticed(relayed: FirestoreStore) -> None:
    """The library's thread ends with it (1): no hint will come again."""
    called = threading.Event()

    def fail() -> None:
        called.set()
        raise RuntimeError("the waker is broken")

    subscription = relayed.listen([IMAGES], fail)
    assert called.wait(SOON)
    wait_until(lambda: not subscription.alive())
    subscription.close()


def test_a_refusal_is_noticed(relayed: FirestoreStore, relay: FirestoreRelay, woken: threading.Event) -> None:
    """Without permission the stream ends at once (2)."""
    relay.fail("Listen", grpc.StatusCode.PERMISSION_DENIED, "not for you", times=99)
    subscription = relayed.listen([IMAGES], woken.set)
    wait_until(lambda: "not for you" in subscription.reason)
    assert not subscription.alive()
    subscription.close()


def test_a_target_that_the_server_removes_is_noticed(listening: Subscription, relay: FirestoreRelay) -> None:
    """A missing index is told on the stream itself (2), which then says nothing more."""
    cause = {"code": 9, "message": "The query requires an index"}
    change = {"target_change_type": "REMOVE", "target_ids": [WATCH_TARGET_ID], "cause": cause}
    relay.tell(ListenResponse(target_change=change))
    wait_until(lambda: not listening.alive())
    assert "requires an index" in listening.reason


def test_a_count_that_does_not_fit_ends_nothing(
    listening: Subscription, relay: FirestoreRelay, direct: FirestoreStore, woken: threading.Event
) -> None:
    """The library dies of an existence filter mismatch (3); we keep no documents that could mismatch."""
    relay.tell(ListenResponse(filter={"target_id": WATCH_TARGET_ID, "count": 99}))
    assert still_wakes(direct, woken, "after")
    assert listening.alive()


def test_a_stream_that_cannot_be_opened_again_is_noticed(listening: Subscription, relay: FirestoreRelay) -> None:
    """One failed reopening is the end of it (4)."""
    relay.fail("Listen", grpc.StatusCode.PERMISSION_DENIED, "credentials ran out", times=99)
    relay.end(grpc.StatusCode.UNAVAILABLE)
    wait_until(lambda: not listening.alive())


def test_a_cancelled_stream_is_noticed(listening: Subscription, relay: FirestoreRelay) -> None:
    """The library takes CANCELLED for our own wish (4)."""
    relay.end(grpc.StatusCode.CANCELLED)
    wait_until(lambda: not listening.alive())


def test_an_interrupted_stream_goes_on_by_itself(
    listening: Subscription, relay: FirestoreRelay, direct: FirestoreStore, woken: threading.Event
) -> None:
    """Servers end long streams in passing; what was queued meanwhile is told afterwards."""
    relay.end(grpc.StatusCode.UNAVAILABLE)
    assert still_wakes(direct, woken, "meanwhile")
    assert listening.alive()


def test_an_unreachable_server_is_noticed_and_not_stormed(listening: Subscription, relay: FirestoreRelay) -> None:
    """The library opens a thousand streams a second (5); ours are throttled, and unanswered they count as dead."""
    relay.fail("Listen", grpc.StatusCode.UNAVAILABLE, "down", times=1_000_000)
    relay.end(grpc.StatusCode.UNAVAILABLE)
    wait_until(lambda: not listening.alive())
    assert relay.opened["Listen"] <= 7  # five in ten seconds, and the first


@pytest.fixture
def behind_proxy(
    firestore_emulator: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch, firestore_project: str
) -> Iterator[tuple[Proxy, FirestoreStore]]:
    """A store behind a network that can fail."""
    with proxy(firestore_emulator.address) as network:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", network.address)
        store = FirestoreStore.connect(project=firestore_project, silence=3.0)
        yield network, store
        store.close()


def test_a_stream_that_was_never_heard_of_is_not_alive(
    behind_proxy: tuple[Proxy, FirestoreStore], woken: threading.Event
) -> None:
    """Nobody is there: it does not count as alive for a single moment."""
    network, store = behind_proxy
    network.set(Mode.REFUSE)
    subscription = store.listen([IMAGES], woken.set)
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        assert not subscription.alive()
        time.sleep(0.05)
    network.set(Mode.PASS)
    subscription.close()


@pytest.mark.slow
def test_streams_that_are_closed_while_nobody_answers_leave_no_thread(
    behind_proxy: tuple[Proxy, FirestoreStore], woken: threading.Event
) -> None:
    """A supervisor opens and closes them for as long as an outage lasts."""
    network, store = behind_proxy
    network.set(Mode.REFUSE)
    before = threading.active_count()
    for _ in range(4):
        subscription = store.listen([IMAGES], woken.set)
        woken.wait(1.5)  # as long as the supervisor looks at it
        subscription.close()
    wait_until(lambda: threading.active_count() <= before + 1, within=40.0)
    network.set(Mode.PASS)


def test_a_mute_connection_is_noticed(behind_proxy: tuple[Proxy, FirestoreStore], woken: threading.Event) -> None:
    """Nothing comes and nothing is refused (6): only the missing answer to our question tells."""
    network, store = behind_proxy
    subscription = store.listen([IMAGES], woken.set)
    assert woken.wait(SOON)
    network.set(Mode.BLACK_HOLE)
    wait_until(lambda: not subscription.alive())
    network.set(Mode.PASS)
    subscription.close()


def test_a_cut_connection_goes_on_by_itself(
    behind_proxy: tuple[Proxy, FirestoreStore], direct: FirestoreStore, woken: threading.Event
) -> None:
    """A reset connection is opened again, and what was queued meanwhile is told."""
    network, store = behind_proxy
    subscription = store.listen([IMAGES], woken.set)
    assert woken.wait(SOON)
    network.cut()
    assert still_wakes(direct, woken, "meanwhile")
    subscription.close()


def test_a_listener_may_be_closed_from_within_its_callback(relayed: FirestoreStore, direct: FirestoreStore) -> None:
    """The library raises when a thread waits for its own end (7); ours ends in another."""
    opened, closed = threading.Event(), threading.Event()
    subscriptions: list[Subscription] = []

    def close() -> None:
        if opened.wait(SOON):
            subscriptions[0].close()
            closed.set()

    subscriptions.append(relayed.listen([IMAGES], close))
    opened.set()
    assert closed.wait(SOON)
    assert not subscriptions[0].alive()
    wait_until(lambda: all(thread.name != "close-hints" for thread in threading.enumerate()))


def test_closing_twice_or_from_several_threads_is_closing_once(listening: Subscription) -> None:
    """Supervisor and shutdown may both close."""
    threads = [threading.Thread(target=listening.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not listening.alive()


@pytest.mark.parametrize("value", [None, 0, float("nan"), "yesterday", b"bytes", [], {"a": [1]}, {}, True])
def test_no_document_ends_a_listener(
    listening: Subscription, direct: FirestoreStore, woken: threading.Event, value: object
) -> None:
    """Whatever clients write into ``created_at``, it wakes, and so does the next document."""
    queue_a_job(direct, "odd", value)
    assert woken.wait(SOON)
    assert still_wakes(direct, woken, "next")
    assert listening.alive()


def test_documents_of_other_collections_end_nothing_and_are_no_jobs(
    listening: Subscription, direct: FirestoreStore, firestore_client: firestore.Client, woken: threading.Event
) -> None:
    """A collection-group query matches every collection called ``images`` (8): their documents are not ours."""
    for path in ("albums/user/images/a", "generations/user/images/a/images/b", "images/c"):
        firestore_client.document(path).set({"status": "queued", "created_at": firestore.SERVER_TIMESTAMP})
    assert still_wakes(direct, woken, "ours")
    assert listening.alive()
    assert [document.id.file_uid for document in direct.window([IMAGES], limit=10)] == ["ours"]


def test_a_job_without_created_at_gives_no_hint_and_is_found_by_name(
    listening: Subscription, direct: FirestoreStore, firestore_client: firestore.Client, woken: threading.Event
) -> None:
    """The order of the query hides it (8); the poll by name is for such."""
    firestore_client.document("generations/user/images/hidden").set({"status": "queued"})
    assert not woken.wait(1.0)
    assert [job.id.file_uid for job in direct.by_name([IMAGES], status="queued", limit=10)] == ["hidden"]
    assert listening.alive()


def test_a_hint_brings_the_jobs_that_it_is_about(
    listening: Subscription, direct: FirestoreStore, firestore_client: firestore.Client, woken: threading.Event
) -> None:
    """As a reading shows them, whatever is in them; other apps' documents are left out, and nothing is told twice."""
    elsewhere = firestore.Client(project="elsewhere").document("a/b")
    odd = {"mine": firestore_client.document("a/b"), "theirs": [elsewhere], "time": datetime(2026, 1, 1, tzinfo=UTC)}
    for path in ("albums/user/images/a", "generations/user/images/odd"):
        firestore_client.document(path).set({"status": "queued", "created_at": firestore.SERVER_TIMESTAMP, **odd})
    heard: list[Document] = []

    def has_heard() -> bool:
        heard.extend(listening.news())
        return bool(heard)

    wait_until(has_heard)
    [document] = heard
    [read] = direct.window([IMAGES], limit=10)
    told, found = ({**(one.fields or {})} for one in (document, read))
    assert told.pop("mine").path == found.pop("mine").path  # references of two clients are not equal
    assert told == found
    assert (document.id, document.version, document.updated_at) == (read.id, read.version, read.updated_at)
    assert still_wakes(direct, woken, "next")
    assert [document.id.file_uid for document in listening.news()] == ["next"]


def test_a_job_that_was_written_twice_is_one_piece_of_news(
    listening: Subscription, direct: FirestoreStore, firestore_client: firestore.Client, woken: threading.Event
) -> None:
    """As it was last: claiming the version before would be a claim against ourselves."""
    assert still_wakes(direct, woken, "a")
    woken.clear()
    firestore_client.document("generations/user/images/a").update({"prompt": "again"})
    assert woken.wait(SOON)
    [document] = listening.news()
    assert (document.fields or {})["prompt"] == "again"


def test_more_news_than_was_kept_is_none(
    listening: Subscription, direct: FirestoreStore, woken: threading.Event
) -> None:
    """Part of it would be the end of a queue: whoever asks has to look at its head."""
    for number in range(3 * NEWS):
        queue_a_job(direct, f"waiting-{number}")
    while woken.wait(0.5):
        woken.clear()
    assert listening.news() == []


def test_a_long_queue_hides_no_new_job(listening: Subscription, direct: FirestoreStore, woken: threading.Event) -> None:
    """The listener watches the newest: more queued documents than it watches do not keep a hint back."""
    for number in range(60):
        queue_a_job(direct, f"waiting-{number}")
    wait_until(lambda: len(direct.window([IMAGES], limit=100)) == 60)
    while woken.wait(0.5):
        woken.clear()
    assert still_wakes(direct, woken, "new")
    assert listening.alive()

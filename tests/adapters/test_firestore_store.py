"""What only Firestore can do to a store: lost answers, locks, refusals, silence, values of any type."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from daemon.adapters.firestore import FirestoreStore
from daemon.adapters.firestore.times import StoreClock, as_version, from_version, uptime
from daemon.core.errors import DocumentTooLarge, StoreUnavailable, WrongSettings
from daemon.core.job import SERVER_TIME, Changes, Collection, Document, JobId, Refusal, Why
from tests.parts.firestore_emulator import FirestoreEmulator
from tests.parts.firestore_relay import FirestoreRelay
from tests.parts.process import free_port
from tests.parts.proxy import Mode, proxy
from tests.parts.service_account import service_account_key

IMAGES = Collection.IMAGES
JOB = JobId(user_id="user", collection=IMAGES, file_uid="file")
OTHER = JobId(user_id="user", collection=IMAGES, file_uid="other")
BOTH = list(Collection)


def create(store: FirestoreStore, job: JobId = JOB, **fields: object) -> Document:
    """Make a document."""
    made = store.update(job, lambda document, now: Changes(reason="test", fields=fields, create=True))
    assert isinstance(made, Document)
    return made


def finish(document: Document, now: datetime) -> Changes | Refusal:
    """A terminal write as the lifecycle's: a token tells whether it was ours that succeeded."""
    fields = document.fields or {}
    if fields.get("token") == "mine":
        return Refusal(why=Why.DONE)
    return Changes(reason="test", fields={"token": "mine", "finishes": fields["finishes"] + 1})


def test_a_write_whose_answer_was_lost_is_not_done_twice(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """The library commits again and meets its own commit; the decision reads anew and finds it."""
    document = create(relayed, finishes=0)
    relay.fail("Commit", grpc.StatusCode.UNAVAILABLE, "the answer is lost", after=True)
    assert relayed.update(document, finish) == Refusal(why=Why.DONE)
    assert relayed.read(JOB).fields == {"token": "mine", "finishes": 1}


def test_a_creation_whose_answer_was_lost_is_not_done_twice(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """The second commit meets a document, which the decision then sees."""
    relay.fail("Commit", grpc.StatusCode.UNAVAILABLE, "the answer is lost", after=True)

    def make(document: Document, now: datetime) -> Changes | Refusal:
        if document.fields is not None:
            return Refusal(why=Why.DONE)
        return Changes(reason="test", fields={"status": "queued"}, create=True)

    assert relayed.update(JOB, make) == Refusal(why=Why.DONE)


def test_a_claim_whose_answer_was_lost_looks_lost(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """The claim is in the document all the same; the rescue of expired leases brings the job back."""
    document = create(relayed, status="queued")
    relay.fail("Commit", grpc.StatusCode.UNAVAILABLE, "the answer is lost", after=True)
    changes = Changes(reason="test", fields={"status": "processing"})
    assert relayed.claim(document, lambda document, now: changes) == Refusal(why=Why.LOST)
    assert relayed.read(JOB).fields == {"status": "processing"}


def test_a_write_that_meets_a_lock_is_tried_again(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """Another writer's transaction aborts ours in passing."""
    document = create(relayed, finishes=0)
    relay.fail("Commit", grpc.StatusCode.ABORTED, "contention", times=3)
    assert isinstance(relayed.update(document, finish), Document)


def test_a_claim_that_meets_a_lock_gives_up_at_once(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """A claim has no patience: somebody else is at work on the document."""
    document = create(relayed, finishes=0)
    relay.fail("Commit", grpc.StatusCode.ABORTED, "contention", times=3)
    commits = relay.opened["Commit"]
    assert relayed.claim(document, finish) == Refusal(why=Why.LOST)
    assert relay.opened["Commit"] == commits + 1


def test_a_write_that_never_wins_ends(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """Tries are counted; the caller hears of it instead of waiting for ever."""
    document = create(relayed, finishes=0)
    relay.fail("Commit", grpc.StatusCode.ABORTED, "contention", times=1_000)
    with pytest.raises(StoreUnavailable, match="quicker"):
        relayed.update(document, finish)


def test_a_claim_takes_no_lock(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """It is one commit with a condition, and reads nothing."""
    document = create(relayed, status="queued")
    before = relay.opened.copy()
    claimed = relayed.claim(document, lambda document, now: Changes(reason="test", fields={"status": "processing"}))
    assert isinstance(claimed, Document)
    assert relay.opened - before == {"Commit": 1}


def test_claims_together_are_one_call(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """And none at all where nothing is to be written."""
    documents = [create(relayed, job) for job in (JOB, OTHER)]
    before = relay.opened.copy()
    refusal = Refusal(why=Why.NOT_YET)
    assert (
        relayed.claim_together([(document, lambda document, now: refusal) for document in documents]) == [refusal] * 2
    )
    assert relay.opened - before == {}
    changes = Changes(reason="test", fields={"status": "processing"})
    results = relayed.claim_together([(document, lambda document, now: changes) for document in documents])
    assert results is not None
    assert all(isinstance(result, Document) for result in results)
    assert relay.opened - before == {"Commit": 1}


@pytest.mark.parametrize("after", [True, False], ids=["done", "not done"])
def test_claims_together_whose_answer_was_lost_are_each_looked_for(
    relayed: FirestoreStore, relay: FirestoreRelay, after: bool
) -> None:
    """The library commits again; where the first commit went through, the second is refused as a whole."""
    documents = [create(relayed, job) for job in (JOB, OTHER)]
    relay.fail("Commit", grpc.StatusCode.UNAVAILABLE, "the answer is lost", after=after)
    changes = Changes(reason="test", fields={"status": "processing"})
    results = relayed.claim_together([(document, lambda document, now: changes) for document in documents])
    assert (results is None) == after
    assert [(relayed.read(job).fields or {})["status"] for job in (JOB, OTHER)] == ["processing"] * 2


def test_claims_together_that_meet_a_lock_are_none(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """Whoever holds one of the documents does not keep us from claiming the others by themselves."""
    documents = [create(relayed, job) for job in (JOB, OTHER)]
    relay.fail("Commit", grpc.StatusCode.ABORTED, "contention")
    changes = Changes(reason="test", fields={"status": "processing"})
    assert relayed.claim_together([(document, lambda document, now: changes) for document in documents]) is None


def test_other_writes_are_one_call(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """From a document in hand nothing is read."""
    document = create(relayed, finishes=0)
    before = relay.opened.copy()
    assert isinstance(relayed.update(document, finish), Document)
    assert relay.opened - before == {"Commit": 1}


def test_a_refusal_says_which_role_is_missing(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """The message holds the command that grants access."""
    relay.fail("BatchGetDocuments", grpc.StatusCode.PERMISSION_DENIED, "Missing or insufficient permissions.")
    with pytest.raises(StoreUnavailable, match=r"add-iam-policy-binding test-.*roles/datastore\.user"):
        relayed.read(JOB)


def test_the_probe_names_each_missing_index(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """One line for each query: which, where to make the index, and the command for all."""
    refusal = "The query requires an index. You can create it here: https://console.firebase.google.com/v1/r/x?create=y"
    relay.fail("RunQuery", grpc.StatusCode.FAILED_PRECONDITION, refusal, times=2)
    lines = relayed.probe()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("The query ")
        assert "images" in line
        assert "https://console.firebase.google.com/v1/r/x?create=y" in line
        assert "firebase deploy --only firestore:indexes" in line


def test_a_probe_without_permission_is_no_missing_index(relayed: FirestoreStore, relay: FirestoreRelay) -> None:
    """Whatever else goes wrong is not dressed up as an index."""
    relay.fail("RunQuery", grpc.StatusCode.PERMISSION_DENIED, "no")
    with pytest.raises(StoreUnavailable, match=r"roles/datastore\.user"):
        relayed.probe()


def test_a_document_that_would_be_too_large_says_so(direct: FirestoreStore) -> None:
    """The refusal for size is told apart from every other trouble."""
    document = create(direct, prompt="x" * 1_000_000)
    with pytest.raises(DocumentTooLarge):
        direct.update(document, lambda document, now: Changes(reason="test", fields={"more": "x" * 100_000}))


def test_an_unreachable_store_is_told_within_the_deadline(
    firestore_project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a server that is not there."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    store = FirestoreStore.connect(project=firestore_project, deadline=0.5)
    begin = time.monotonic()
    for call in (lambda: store.read(JOB), store.now, lambda: store.window(BOTH, limit=1)):
        with pytest.raises(StoreUnavailable):
            call()
    assert time.monotonic() - begin < 15
    store.close()


def test_a_silent_store_is_told_within_the_deadline(
    firestore_emulator: FirestoreEmulator, firestore_project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A black hole ends reads, writes and claims by their deadlines."""
    with proxy(firestore_emulator.address) as network:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", network.address)
        store = FirestoreStore.connect(project=firestore_project, deadline=3.0)
        document = create(store, finishes=0)
        network.set(Mode.BLACK_HOLE)
        begin = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.read(JOB)
        for write in (store.update, store.claim):
            with pytest.raises(StoreUnavailable):
                write(document, finish)
        assert time.monotonic() - begin < 30
        network.set(Mode.PASS)
        store.close()


ODD = [
    None,
    False,
    True,
    float("nan"),
    float("-inf"),
    -1,
    0,
    0.5,
    2**53,
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(9999, 12, 31, tzinfo=UTC),
    "",
    "2026-01-01",
    "ü🎨",
    b"",
    b"\xff",
    firestore.GeoPoint(0, 0),
    [],
    [1, "a"],
    {},
    {"a": {"b": [1]}},
]


def test_the_window_pages_through_values_of_any_type(
    direct: FirestoreStore, firestore_client: firestore.Client
) -> None:
    """Clients write anything into ``created_at``: each document comes exactly once, in the server's own order."""
    for number, value in enumerate(ODD):
        fields = {"status": "queued", "created_at": value}
        firestore_client.document(f"generations/user/{BOTH[number % 2]}/{number:02}").set(fields)
        firestore_client.document(f"generations/user/{BOTH[(number + 1) % 2]}/{number:02}").set(fields)
    expected = [f"{number:02}" for number in range(len(ODD)) for _ in BOTH]
    whole = direct.window(BOTH, limit=100)
    assert [document.id.file_uid for document in whole] == expected
    for limit in (1, 3, 7):
        pages = list(paged(direct, limit))
        assert [document.id for document in pages] == [document.id for document in whole]


def paged(store: FirestoreStore, limit: int) -> Iterator[Document]:
    """The whole window page by page."""
    last: Document | None = None
    while page := store.window(BOTH, limit=limit, after=last):
        yield from page
        last = page[-1]


def test_a_reference_to_elsewhere_hides_nothing(direct: FirestoreStore, firestore_client: firestore.Client) -> None:
    """The library raises over a reference to another project, in a query for all documents of it; here it is a path."""
    elsewhere = firestore.Client(project="elsewhere")
    reference = elsewhere.document("users/u")
    fields = {"status": "queued", "created_at": 1, "who": reference, "deep": {"list": [{"who": reference}]}}
    firestore_client.document(JOB.path).set(fields)
    firestore_client.document(JOB.path + "2").set(fields | {"created_at": reference})
    path = "projects/elsewhere/databases/(default)/documents/users/u"
    found = direct.read(JOB).fields
    assert found is not None
    assert (found["who"], found["deep"]) == (path, {"list": [{"who": path}]})
    assert [document.id.file_uid for document in direct.window(BOTH, limit=9)] == ["file", "file2"]
    direct.update(JOB, lambda document, now: Changes(reason="test", fields={"modified": SERVER_TIME}))
    untouched = firestore_client.collection("generations/user/images").where(filter=FieldFilter("who", "==", reference))
    assert [snapshot.id for snapshot in untouched.select(["status"]).stream()] == ["file", "file2"]
    elsewhere.close()


def test_our_writes_leave_values_of_any_type_alone(direct: FirestoreStore, firestore_client: firestore.Client) -> None:
    """References, places and bytes of a client are the same after ours beside them."""
    fields = {
        "where": firestore.GeoPoint(1, 2),
        "who": firestore_client.document("users/u"),
        "raw": b"\0",
        "odd.name": 1,
    }
    firestore_client.document(JOB.path).set(fields)
    direct.update(JOB, lambda document, now: Changes(reason="test", fields={"modified": SERVER_TIME}))
    after = firestore_client.document(JOB.path).get().to_dict()
    assert after is not None
    assert {name: after[name] for name in fields} == fields


def test_versions_are_exact() -> None:
    """A version is the update time to the nanosecond, both ways."""
    for version in (1_795_520_622_630_444_001, 999_999_999, 1):
        assert as_version(from_version(version)) == version


def test_the_clock_takes_the_truest_of_its_responses() -> None:
    """A response that took long says only that it is at least so late; it does not set the clock back."""
    clock = StoreClock()
    assert clock.now() is None
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    clock.saw(moment)
    clock.saw(moment - timedelta(seconds=30))
    now = clock.now()
    assert now is not None
    assert moment <= now < moment + timedelta(seconds=5)
    clock.saw(moment + timedelta(minutes=1))
    later = clock.now()
    assert later is not None
    assert later >= moment + timedelta(minutes=1)


def test_the_clock_follows_the_store_in_the_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute a new response counts whatever it says: two clocks that run apart stay together."""
    clock = StoreClock()
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    clock.saw(moment)
    start = uptime()
    monkeypatch.setattr("daemon.adapters.firestore.times.uptime", lambda: start + 100.0)
    clock.saw(moment + timedelta(seconds=90))
    assert clock.now() == moment + timedelta(seconds=90)


def test_a_key_given_as_text_names_its_project(firestore_project: str) -> None:
    """A pod's secret is one string: the key, from which the project follows."""
    store = FirestoreStore.connect(credentials=service_account_key(project=firestore_project))
    assert store.read(JOB).fields is None
    assert store._client.project == firestore_project
    store.close()


@pytest.mark.parametrize("credentials", ["no json", "[]", "{}", '{"type": "service_account"}'])
def test_wrong_credentials_are_one_clear_line(credentials: str) -> None:
    """What is no service account's key is told before anything is sent, and never shown."""
    with pytest.raises(WrongSettings) as caught:
        FirestoreStore.connect(project="test", credentials=credentials)
    assert "\n" not in str(caught.value)

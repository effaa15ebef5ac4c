"""What the flow may rely on, whatever store stands behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.core.job import DELETE, SERVER_TIME, Changes, Collection, Decide, Document, JobId, Refusal, Why, apply
from daemon.core.ports import Intake, Settled, Store, Subscription, Update
from tests.contracts.conftest import Database

IMAGES, VIDEOS = Collection.IMAGES, Collection.VIDEOS
BOTH = [IMAGES, VIDEOS]
WAKES_WITHIN = 10.0  # seconds; what is promised is far less, and measured in the benchmarks
OLD = datetime(2020, 1, 1, tzinfo=UTC)


def image(file_uid: str) -> JobId:
    """An image job of the one user."""
    return JobId(user_id="user", collection=IMAGES, file_uid=file_uid)


def video(file_uid: str) -> JobId:
    """A video job of the same."""
    return JobId(user_id="user", collection=VIDEOS, file_uid=file_uid)


def writing(**fields: Any) -> Decide:
    """A decision that always writes the same; ``__`` in a name is a dot."""
    return writing_paths({name.replace("__", "."): value for name, value in fields.items()})


def writing_paths(fields: Mapping[str, Any]) -> Decide:
    """A decision that always writes these paths, creating the document where it is absent."""

    def decide(document: Document, now: datetime) -> Changes:
        return Changes(reason="test", fields=fields, create=document.fields is None)

    return decide


def write(store: Store, target: Document | JobId, **fields: Any) -> Document:
    """Write, whatever is there."""
    return written(store.update(target, writing(**fields)))


def written(result: Document | Refusal) -> Document:
    """The result, which is no refusal."""
    assert isinstance(result, Document), result
    return result


def names(documents: Sequence[Document]) -> list[str]:
    """What the documents are called, in their order."""
    return [document.id.file_uid for document in documents]


def test_an_absent_document_reads_as_one_without_fields(store: Store) -> None:
    """Reading what is not there is no error, and the version says that nothing was ever there."""
    document = store.read(image("none"))
    assert document.fields is None
    assert document.id == image("none")


def test_what_update_returns_is_what_a_fresh_read_finds(database: Database) -> None:
    """The document after a write needs no further read: fields, version and time are those committed."""
    store, other = database.open(), database.open()
    mine = write(store, image("a"), status="queued", created_at=SERVER_TIME, easeld__attempts=1)
    seen = other.read(image("a"))
    assert (seen.fields, seen.version, seen.updated_at) == (mine.fields, mine.version, mine.updated_at)


def test_every_commit_grows_the_version(store: Store) -> None:
    """The version orders the commits to one document."""
    versions = [write(store, image("a"), number=number).version for number in range(5)]
    assert versions == sorted(set(versions))


def test_versions_grow_over_deletion_and_a_document_set_anew(database: Database, store: Store) -> None:
    """A claim of a document made anew is later than every claim of the one before it."""
    before = write(store, image("a"), status="queued")
    database.client.delete(image("a").path)
    assert store.read(image("a")).fields is None
    again = write(store, image("a"), status="queued")
    assert again.version > before.version
    database.client.set(image("a").path, {"status": "failed"})
    assert store.read(image("a")).version > again.version


def test_update_decides_again_when_another_writer_was_quicker(database: Database) -> None:
    """A decision made from an old version is never written: it is made again from the new one."""
    store, other = database.open(), database.open()
    old = write(store, image("a"), number=1)
    write(other, image("a"), number=5)
    seen: list[int] = []

    def add_one(document: Document, now: datetime) -> Changes:
        assert document.fields is not None
        seen.append(document.fields["number"])
        return Changes(reason="test", fields={"number": document.fields["number"] + 1})

    assert written(store.update(old, add_one)).fields == {"number": 6}
    assert seen == [1, 5]


def test_updates_of_many_threads_lose_nothing(database: Database) -> None:
    """Twenty increments from four threads and two instances make twenty."""
    stores = [database.open(), database.open()]
    write(stores[0], image("a"), number=0)

    def add_one(document: Document, now: datetime) -> Changes:
        return Changes(reason="test", fields={"number": (document.fields or {})["number"] + 1})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda index: written(stores[index % 2].update(image("a"), add_one)), range(20)))
    assert stores[0].read(image("a")).fields == {"number": 20}


def test_update_from_an_id_reads_first(database: Database) -> None:
    """Without a document in hand the decision sees the present one."""
    write(database.open(), image("a"), number=1)
    store, seen = database.open(), list[Any]()

    def decide(document: Document, now: datetime) -> Refusal:
        seen.append(document.fields)
        return Refusal(why=Why.DONE)

    assert store.update(image("a"), decide) == Refusal(why=Why.DONE)
    assert seen == [{"number": 1}]


def test_a_refusal_writes_nothing_and_comes_back(store: Store) -> None:
    """What the decision refuses is told to the caller as it is, and the document stays."""
    document = write(store, image("a"), number=1)
    refusal = Refusal(why=Why.NOT_YET, until=OLD)
    assert store.update(document, lambda document, now: refusal) == refusal
    assert store.claim(document, lambda document, now: refusal) == refusal
    assert store.read(image("a")).version == document.version


def test_a_claim_writes_when_the_document_is_what_it_saw(store: Store) -> None:
    """A claim from a document of the window needs no read of its own."""
    write(store, image("a"), status="queued", created_at=SERVER_TIME)
    [found] = store.window(BOTH, limit=10)
    claimed = written(store.claim(found, writing(status="processing", easeld__lease__token="t")))
    assert claimed.version > found.version
    assert store.read(image("a")).fields == claimed.fields


def test_a_claim_gives_up_when_another_writer_was_quicker(database: Database) -> None:
    """Losing a race means that somebody else has the job: look elsewhere, at once."""
    store, other = database.open(), database.open()
    old = write(store, image("a"), status="queued")
    newer = write(other, image("a"), status="processing", easeld__lease__token="theirs")
    assert store.claim(old, writing(easeld__lease__token="mine")) == Refusal(why=Why.LOST)
    assert store.read(image("a")).version == newer.version


def test_a_claim_of_a_deleted_document_gives_up(database: Database, store: Store) -> None:
    """A document that its client deleted is not made again by a claim."""
    old = write(store, image("a"), status="queued")
    database.client.delete(image("a").path)
    decision = Changes(reason="test", fields={"status": "processing"})
    assert store.claim(old, lambda document, now: decision) == Refusal(why=Why.LOST)
    assert store.read(image("a")).fields is None


def test_claims_made_together_are_each_as_one_alone(database: Database, store: Store) -> None:
    """Those that the decision refuses are told so, and each of the others is a version of its own."""
    for name in "abc":
        write(store, image(name), status="queued", created_at=SERVER_TIME)
    window = store.window(BOTH, limit=10)
    refusal = Refusal(why=Why.NOT_YET, until=OLD)
    claims: list[tuple[Document, Decide]] = [
        (window[0], writing(status="processing", easeld__lease__token="a")),
        (window[1], lambda document, now: refusal),
        (window[2], writing(status="processing", easeld__lease__token="c")),
    ]
    results = store.claim_together(claims)
    assert results is not None
    first, second, third = results
    assert second == refusal
    for name, found in (("a", written(first)), ("c", written(third))):
        fresh = database.open().read(image(name))
        assert (fresh.fields, fresh.version, fresh.updated_at) == (found.fields, found.version, found.updated_at)
        assert found.fields is not None
        assert found.fields["easeld"]["lease"]["token"] == name
    assert store.read(image("b")).version == window[1].version
    assert store.claim_together([(window[1], lambda document, now: refusal)] * 2) == [refusal] * 2


def test_claims_made_together_never_write_over_another_writer(database: Database, store: Store) -> None:
    """Either the one that has changed is lost and the others are won, or nothing is written at all."""
    for name in "abc":
        write(store, image(name), status="queued", created_at=SERVER_TIME)
    window = store.window(BOTH, limit=10)
    newer = write(database.open(), image("b"), prompt="another")
    decide = writing(status="processing", easeld__lease__token="mine")
    results = store.claim_together([(document, decide) for document in window])
    assert store.read(image("b")).version == newer.version
    for place, name in enumerate("ac"):
        won = (store.read(image(name)).fields or {})["status"] == "processing"
        assert won == (results is not None)
        assert results is None or isinstance(results[2 * place], Document)
    assert results is None or results[1] == Refusal(why=Why.LOST)


def test_exactly_one_of_many_claims_wins(database: Database) -> None:
    """Eight threads on two instances claim fifty documents from the same snapshots: each is won once."""
    stores = [database.open(), database.open()]
    for number in range(50):
        write(stores[0], image(f"{number:02}"), status="queued", created_at=SERVER_TIME)
    start = threading.Barrier(8)

    def claim_all(worker: int) -> list[str]:
        store = stores[worker % 2]
        window = store.window(BOTH, limit=50)
        start.wait()
        mine = window[worker * 6 :] + window[: worker * 6]
        decide = writing(status="processing", easeld__lease__token=str(worker))
        return names([won for won in (store.claim(found, decide) for found in mine) if isinstance(won, Document)])

    with ThreadPoolExecutor(8) as pool:
        wins = list(pool.map(claim_all, range(8)))
    assert sorted(name for won in wins for name in won) == [f"{number:02}" for number in range(50)]
    for worker, won in enumerate(wins):
        for name in won:
            fields = stores[0].read(image(name)).fields
            assert fields is not None
            assert fields["easeld"]["lease"]["token"] == str(worker)


def test_creating_is_only_for_the_absent(store: Store) -> None:
    """A creation never writes over a document that came in between; the decision sees it instead."""
    absent = store.read(image("a"))
    write(store, image("a"), by="other")
    seen: list[bool] = []

    def create(document: Document, now: datetime) -> Changes | Refusal:
        seen.append(document.fields is None)
        if document.fields is not None:
            return Refusal(why=Why.DONE)
        return Changes(reason="test", fields={"by": "us"}, create=True)

    assert store.update(absent, create) == Refusal(why=Why.DONE)
    assert seen == [True, False]
    assert store.read(image("a")).fields == {"by": "other"}


def test_many_creations_make_one_document(database: Database) -> None:
    """Of eight threads that create the same document, one does."""
    stores = [database.open(), database.open()]
    start = threading.Barrier(8)

    def create(worker: int) -> bool:
        def decide(document: Document, now: datetime) -> Changes | Refusal:
            if document.fields is not None:
                return Refusal(why=Why.DONE)
            return Changes(reason="test", fields={"worker": worker}, create=True)

        start.wait()
        return isinstance(stores[worker % 2].update(image("a"), decide), Document)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1


def test_a_deleted_document_is_not_written_again(database: Database, store: Store) -> None:
    """A heartbeat or a result for a document that is gone brings nothing back."""
    document = write(store, image("a"), status="processing")
    database.client.delete(image("a").path)

    def renew(document: Document, now: datetime) -> Changes | Refusal:
        if document.fields is None:
            return Refusal(why=Why.ABSENT)
        return Changes(reason="test", fields={"modified": SERVER_TIME})

    assert store.update(document, renew) == Refusal(why=Why.ABSENT)
    assert store.read(image("a")).fields is None


def test_server_time_is_the_time_of_the_commit(store: Store) -> None:
    """``SERVER_TIME`` at any depth becomes one moment: that of the commit, which moves on with each."""
    first = write(store, image("a"), modified=SERVER_TIME, easeld__lease={"renewed_at": SERVER_TIME, "token": "t"})
    second = write(store, image("a"), modified=SERVER_TIME)
    assert first.fields is not None
    assert second.fields is not None
    assert first.fields["easeld"]["lease"]["renewed_at"] == first.fields["modified"]
    assert first.fields["modified"].tzinfo is not None
    assert first.fields["modified"] < second.fields["modified"]
    assert abs(first.fields["modified"] - first.updated_at) < timedelta(seconds=1)


def test_the_time_of_the_store_stands_beside_its_commits(database: Database) -> None:
    """``now``, commit times and what a decision is told belong to one clock that looks like the calendar's."""
    store, other = database.open(), database.open()
    told: list[datetime] = []

    def decide(document: Document, now: datetime) -> Changes:
        told.append(now)
        return Changes(reason="test", fields={"at": SERVER_TIME}, create=True)

    before = other.read(image("a")).read_at
    commit = written(store.update(image("a"), decide)).updated_at
    after = other.read(image("a")).read_at
    moment = timedelta(seconds=1)  # two machines' rounding, and a round trip
    assert before - moment <= told[-1] <= commit + moment
    assert before - moment <= commit <= after + moment
    assert abs(store.now() - after) < 10 * moment
    assert abs(store.now() - datetime.now(UTC)) < timedelta(minutes=5)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "processing", "new": {"map": {"deep": [1, "two", None]}}},
        {"prompt": DELETE, "absent": DELETE},
        {"easeld.lease.token": "t", "easeld.attempts": 2},
        {"easeld.lease": DELETE, "easeld.result": {"token": "t"}},
        {"easeld.lease.token": DELETE, "absent.map.name": DELETE},
        {"easeld": {"only": True}},
        {"progress.percent": 10.5, "error.message": "error was no map"},
        {"tuple": (1, 2), "empty": {}, "none": None},
    ],
    ids=",".join,
)
def test_writes_do_what_the_core_says(database: Database, store: Store, changes: Mapping[str, Any]) -> None:
    """Dotted paths, ``DELETE`` and whole values end as ``apply`` of the core would have them."""
    before = {
        "status": "queued",
        "prompt": "a cat",
        "error": False,
        "easeld": {"attempts": 1, "lease": {"token": "old", "worker": "w"}},
    }
    database.client.set(image("a").path, before)
    result = written(store.update(image("a"), writing_paths(changes)))
    expected = apply(before, Changes(reason="test", fields=changes), result.updated_at)
    assert result.fields == expected
    assert store.read(image("a")).fields == expected


def test_values_come_back_as_they_went(database: Database, store: Store) -> None:
    """Times to the microsecond, bytes, numbers, text and odd field names survive a round trip exactly."""
    fields: dict[str, Any] = {
        "moment": datetime(2026, 2, 28, 23, 59, 59, 123457, tzinfo=UTC),
        "before_1970": datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        "far": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        "preview": bytes(range(256)),
        "numbers": [0, -1, 2**63 - 1, 0.1, 1e300, True, False, None],
        "text": "naïve 🎨 \n\x00 \u2028 'quoted' \"twice\"",
        "map": {"$time": 5, "$": {"$bytes": "no"}, "with.dot": 1, "nested": {"moment": OLD}},
        "list": [{"moment": OLD}, {"bytes": b""}],
    }
    database.client.set(image("a").path, fields)
    found = store.read(image("a")).fields
    assert found == fields
    assert found is not None
    assert found["numbers"][5] is True
    assert isinstance(found["numbers"][3], float)
    assert found["moment"].utcoffset() == timedelta(0)


def test_the_window_is_the_queue_oldest_first(store: Store) -> None:
    """Queued documents of both collections, by ``created_at``."""
    for minute in (3, 1, 2):
        write(store, image(f"i{minute}"), status="queued", created_at=OLD + timedelta(minutes=minute))
        write(store, video(f"v{minute}"), status="queued", created_at=OLD + timedelta(minutes=minute, seconds=1))
    write(store, image("done"), status="completed", created_at=OLD)
    write(store, image("held"), status="processing", created_at=OLD)
    write(store, image("none"), created_at=OLD)
    assert names(store.window(BOTH, limit=10)) == ["i1", "v1", "i2", "v2", "i3", "v3"]
    assert names(store.window([VIDEOS], limit=10)) == ["v1", "v2", "v3"]
    assert names(store.window(BOTH, limit=2)) == ["i1", "v1"]


def test_the_window_holds_whole_documents(store: Store) -> None:
    """What the window returns can be claimed as it is."""
    mine = write(store, image("a"), status="queued", created_at=SERVER_TIME, prompt="a cat", easeld__seeds=[1])
    [found] = store.window(BOTH, limit=1)
    assert (found.id, found.fields, found.version, found.updated_at) == (
        mine.id,
        mine.fields,
        mine.version,
        mine.updated_at,
    )


def test_null_numbers_and_old_times_come_first(database: Database, store: Store) -> None:
    """A mistyped ``created_at`` sorts as in Firestore: null, then numbers, then times."""
    values: dict[str, Any] = {"time": OLD, "null": None, "zero": 0, "float": 0.5, "text": "2020", "false": False}
    for name, value in values.items():
        database.client.set(image(name).path, {"status": "queued", "created_at": value})
    assert names(store.window(BOTH, limit=10)) == ["null", "false", "zero", "float", "time", "text"]


def test_a_document_without_created_at_is_hidden_from_the_window(database: Database, store: Store) -> None:
    """The window does not see it, the sweep by name does."""
    database.client.set(image("hidden").path, {"status": "queued"})
    database.client.set(image("seen").path, {"status": "queued", "created_at": OLD})
    assert names(store.window(BOTH, limit=10)) == ["seen"]
    assert names(store.by_name(BOTH, status="queued", limit=10)) == ["hidden", "seen"]


def test_the_window_pages_through_everything_once(database: Database, store: Store) -> None:
    """Paging by the last document loses and repeats nothing, also among equal times, nulls and numbers."""
    for number in range(7):
        created_at = (None, 0, OLD)[number % 3]
        database.client.set(image(f"i{number}").path, {"status": "queued", "created_at": created_at})
        database.client.set(video(f"v{number}").path, {"status": "queued", "created_at": created_at})
    pages: list[Document] = []
    while page := store.window(BOTH, limit=3, after=pages[-1] if pages else None):
        pages += page
    assert names(pages) == names(store.window(BOTH, limit=50))
    assert len(pages) == len(set(names(pages))) == 14


def test_a_page_begins_after_a_document_that_is_gone(database: Database, store: Store) -> None:
    """The last document of a page may be claimed or deleted before the next page is read."""
    for number in range(4):
        write(store, image(f"{number}"), status="queued", created_at=OLD + timedelta(minutes=number))
    last = store.window(BOTH, limit=2)[-1]
    by_name = store.by_name(BOTH, status="queued", limit=2)[-1]
    database.client.delete(last.id.path)
    assert names(store.window(BOTH, limit=10, after=last)) == ["2", "3"]
    assert names(store.by_name(BOTH, status="queued", limit=10, after=by_name)) == ["2", "3"]


def test_by_name_pages_one_status_by_path(store: Store) -> None:
    """Documents of one status, whatever their other fields, in pages by path."""
    for number in range(5):
        write(store, image(f"i{number}"), status="processing", created_at=OLD)
        write(store, video(f"v{number}"), status="processing")
    write(store, image("queued"), status="queued", created_at=OLD)
    pages: list[Document] = []
    while page := store.by_name(BOTH, status="processing", limit=3, after=pages[-1] if pages else None):
        pages += page
    assert names(pages) == [*(f"i{number}" for number in range(5)), *(f"v{number}" for number in range(5))]
    assert names(store.by_name([VIDEOS], status="processing", limit=2)) == ["v0", "v1"]
    assert names(store.by_name(BOTH, status="queued", limit=9)) == ["queued"]


def test_what_is_queued_is_counted_by_collection(database: Database, store: Store) -> None:
    """Any age and any type of ``created_at``, of all users; other statuses and deleted documents are not counted."""
    assert store.queued(BOTH) == 0
    for number in range(3):
        write(store, image(f"i{number}"), status="queued", created_at=number)
    write(store, video("v"), status="queued")
    write(store, JobId(user_id="another", collection=VIDEOS, file_uid="v"), status="queued", created_at=OLD)
    write(store, image("p"), status="processing")
    write(store, image("gone"), status="queued")
    database.client.delete(image("gone").path)
    assert [store.queued([IMAGES]), store.queued([VIDEOS]), store.queued(BOTH)] == [3, 2, 5]


def test_what_was_queued_before_a_time_is_counted(store: Store) -> None:
    """The jobs before one in the queue: those of its very moment are not, nor what says no time at all."""
    for minute in range(3):
        write(store, image(f"i{minute}"), status="queued", created_at=OLD + timedelta(minutes=minute))
    write(store, video("v"), status="queued", created_at=OLD)
    write(store, image("number"), status="queued", created_at=1)
    write(store, image("none"), status="queued")
    write(store, image("p"), status="processing", created_at=OLD)
    moments = [OLD, OLD + timedelta(microseconds=1), OLD + timedelta(minutes=2)]
    assert [store.queued(BOTH, before=moment) for moment in moments] == [0, 2, 3]
    assert store.queued([IMAGES], before=OLD + timedelta(days=1)) == 3


def test_newest_is_one_status_newest_first(database: Database, store: Store) -> None:
    """Of both collections, up to a limit, all users' or one's; what has no ``created_at`` is not seen."""
    for minute in (3, 1, 2):
        write(store, image(f"i{minute}"), status="failed", created_at=OLD + timedelta(minutes=minute))
    write(store, video("v"), status="failed", created_at=OLD + timedelta(minutes=2, seconds=1))
    write(store, image("hidden"), status="failed")
    write(store, image("queued"), status="queued", created_at=OLD)
    neighbour = JobId(user_id="user2", collection=IMAGES, file_uid="other")
    write(store, neighbour, status="failed", created_at=OLD + timedelta(minutes=9))
    database.client.set("elsewhere/user/images/foreign", {"status": "failed", "created_at": OLD + timedelta(minutes=8)})
    assert names(store.newest(status="failed", limit=10)) == ["other", "i3", "v", "i2", "i1"]
    assert names(store.newest(status="failed", limit=2)) == ["other", "i3"]
    assert names(store.newest(status="failed", limit=3, user_id="user")) == ["i3", "v", "i2"]
    assert names(store.newest(status="completed", limit=3)) == []


def test_newest_before_a_time_is_what_was_created_earlier(database: Database, store: Store) -> None:
    """Neither what was created at that very time nor what has a ``created_at`` that is no time."""
    for minute in range(4):
        write(store, image(f"i{minute}"), status="queued", created_at=OLD + timedelta(minutes=minute))
    write(store, video("v"), status="queued", created_at=OLD + timedelta(seconds=30))
    for name, moment in (("null", None), ("number", 0), ("text", "2000")):
        database.client.set(image(name).path, {"status": "queued", "created_at": moment})
    before = OLD + timedelta(minutes=2)
    for user in ("user", None):
        assert names(store.newest(status="queued", limit=9, user_id=user, before=before)) == ["i1", "v", "i0"]
        assert names(store.newest(status="queued", limit=2, user_id=user, before=before)) == ["i1", "v"]
    assert names(store.newest(status="queued", limit=9, user_id="another", before=before)) == []


def test_many_updates_are_each_what_one_would_be(database: Database, store: Intake) -> None:
    """The first document that exists decides, else the first named; several of one document see one another."""
    write(store, video("both"), status="there")
    write(store, image("refused"), status="there")

    def once(document: Document, now: datetime) -> Changes | Refusal:
        if document.fields is not None and "mine" in document.fields:
            return Refusal(why=Why.DONE)
        fields = {"mine": 1, "at": SERVER_TIME}
        return Changes(reason="test", fields=fields, create=document.fields is None)

    def refuse(document: Document, now: datetime) -> Refusal:
        return Refusal(why=Why.NOT_YET)

    def asked(name: str, decide: Decide = once) -> Update:
        return Update(candidates=(image(name), video(name)), decide=decide)

    updates = [asked("new"), asked("both"), asked("refused", refuse), asked("new"), asked("other"), asked("new")]
    settled = store.update_each(updates)
    assert settled == [
        Settled(job=image("new")),
        Settled(job=video("both")),
        Settled(job=image("refused"), why=Why.NOT_YET),
        Settled(job=image("new"), why=Why.DONE),
        Settled(job=image("other")),
        Settled(job=image("new"), why=Why.DONE),
    ]
    new = database.open().read(image("new")).fields
    assert new is not None
    assert (new["mine"], type(new["at"]) is not str) == (1, True)
    assert dict(store.read(video("both")).fields or {}).keys() == {"status", "mine", "at"}
    assert store.read(image("both")).fields is None
    assert store.update_each([]) == []


def test_many_updates_by_many_at_once_are_all_written(database: Database) -> None:
    """Two instances that write the same documents at once lose nothing of what either wrote."""
    stores = [database.open(), database.open()]

    def adding(name: str) -> Decide:
        def decide(document: Document, now: datetime) -> Changes:
            return Changes(reason="test", fields={name: True}, create=document.fields is None)

        return decide

    def work(number: int) -> None:
        for turn in range(5):
            updates = [
                Update(candidates=(image(f"{place}"),), decide=adding(f"w{number}t{turn}")) for place in range(8)
            ]
            assert all(isinstance(one, Settled) and one.why is None for one in stores[number % 2].update_each(updates))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    for place in range(8):
        assert len(stores[0].read(image(f"{place}")).fields or {}) == 20


def test_paths_that_are_no_jobs_are_left_out(database: Database, store: Store) -> None:
    """Other apps have collections called ``images`` too; they neither show up nor use up the limit."""
    fields = {"status": "queued", "created_at": OLD, "cancel_requested": True, "modified": OLD}
    for path in ("apps/user/images/a", "generations/user/images/a/images/b", "users/user/videos/c"):
        database.client.set(path, fields)
        database.client.set(path + "2", fields | {"status": "processing"})
    database.client.set(image("job").path, fields | {"created_at": OLD + timedelta(days=1)})
    database.client.set(image("zheld").path, fields | {"status": "processing", "modified": OLD + timedelta(days=1)})
    assert names(store.window(BOTH, limit=1)) == ["job"]
    assert names(store.by_name(BOTH, status="queued", limit=1)) == ["job"]
    assert names(store.stale(before=OLD + timedelta(days=2), limit=1)) == ["zheld"]
    assert sorted(names(store.cancelling(limit=2))) == ["job", "zheld"]


def test_stale_finds_processing_documents_by_modified(database: Database, store: Store) -> None:
    """Those before the moment, oldest first; a missing or mistyped ``modified`` is not seen here."""
    for minute in (2, 1, 3):
        write(store, image(f"{minute}"), status="processing", modified=OLD + timedelta(minutes=minute))
    write(store, video("0"), status="processing", modified=OLD)
    write(store, image("queued"), status="queued", modified=OLD)
    database.client.set(image("missing").path, {"status": "processing"})
    database.client.set(image("null").path, {"status": "processing", "modified": None})
    database.client.set(image("text").path, {"status": "processing", "modified": "2020"})
    assert names(store.stale(before=OLD + timedelta(minutes=3), limit=9)) == ["0", "1", "2"]
    assert names(store.stale(before=OLD + timedelta(minutes=3), limit=2)) == ["0", "1"]


def test_cancelling_finds_active_documents_whose_client_wants_to_stop(database: Database, store: Store) -> None:
    """Only ``true`` counts, and only while the job is queued or processing."""
    for status in ("queued", "processing", "completed", "failed", "cancelled"):
        write(store, image(status), status=status, cancel_requested=True)
    write(store, video("v"), status="processing", cancel_requested=True)
    database.client.set(image("text").path, {"status": "queued", "cancel_requested": "true"})
    database.client.set(image("one").path, {"status": "queued", "cancel_requested": 1})
    write(store, image("false"), status="queued", cancel_requested=False)
    assert sorted(names(store.cancelling(limit=9))) == ["processing", "queued", "v"]
    assert len(store.cancelling(limit=2)) == 2


@pytest.fixture
def woken() -> threading.Event:
    """Set by a hint."""
    return threading.Event()


def test_listening_wakes_when_another_process_queues_a_job(database: Database, woken: threading.Event) -> None:
    """A document that becomes queued, new or again, wakes a waiting daemon."""
    listening, writer = database.open(), database.open()
    subscription = listening.listen(BOTH, woken.set)
    until_alive(subscription)
    for collection in (image("a"), video("b"), image("a")):
        settle(woken)
        write(writer, collection, status="queued", created_at=SERVER_TIME)
        assert woken.wait(WAKES_WITHIN)
        write(writer, collection, status="completed")
    subscription.close()
    assert not subscription.alive()


def test_listening_wakes_for_the_own_writes_too(store: Store, woken: threading.Event) -> None:
    """A job given back by this very daemon is news as any other."""
    subscription = store.listen([IMAGES], woken.set)
    settle(woken)
    write(store, image("a"), status="queued", created_at=SERVER_TIME)
    assert woken.wait(WAKES_WITHIN)
    subscription.close()


def test_listening_wakes_for_a_cancellation(database: Database, woken: threading.Event) -> None:
    """``cancel_requested`` on an active document wakes the daemon that may hold it."""
    listening, writer = database.open(), database.open()
    write(writer, image("a"), status="processing")
    subscription = listening.listen_cancellations(BOTH, woken.set)
    until_alive(subscription)
    settle(woken)
    write(writer, image("a"), cancel_requested=True)
    assert woken.wait(WAKES_WITHIN)
    subscription.close()
    assert not subscription.alive()


def test_listening_wakes_for_what_was_there_before(store: Store, woken: threading.Event) -> None:
    """Whoever begins to listen has missed what happened until then."""
    write(store, image("a"), status="queued", created_at=SERVER_TIME, cancel_requested=True)
    for listen in (store.listen, store.listen_cancellations):
        subscription = listen([IMAGES], woken.set)
        assert woken.wait(WAKES_WITHIN)
        subscription.close()
        settle(woken)


def until_alive(subscription: Subscription) -> None:
    """Wait until a subscription has been opened."""
    end = time.monotonic() + WAKES_WITHIN
    while not subscription.alive():
        assert time.monotonic() < end
        time.sleep(0.01)


def settle(woken: threading.Event) -> None:
    """Let hints of what was there before pass by: one may come at the start, and more than one for one change."""
    while woken.wait(0.3):
        woken.clear()


def test_every_subscription_of_a_store_wakes(database: Database) -> None:
    """Several listeners of one store do not hide each other; a closed one is not called any more."""
    listening, writer = database.open(), database.open()
    images, videos, closed = threading.Event(), threading.Event(), threading.Event()
    subscriptions = [
        listening.listen([IMAGES], images.set),
        listening.listen([VIDEOS], videos.set),
        listening.listen(BOTH, closed.set),
    ]
    for event in (images, videos, closed):
        settle(event)
    subscriptions.pop().close()
    write(writer, image("a"), status="queued", created_at=SERVER_TIME)
    assert images.wait(WAKES_WITHIN)
    write(writer, video("b"), status="queued", created_at=SERVER_TIME)
    assert videos.wait(WAKES_WITHIN)
    assert not closed.is_set()
    for subscription in subscriptions:
        subscription.close()


def test_a_healthy_store_has_no_trouble_to_tell(store: Store) -> None:
    """The probe runs every query and finds nothing to complain of."""
    assert store.probe() == []


def test_closing_twice_is_closing_once(database: Database) -> None:
    """A store may be closed by whoever comes last, and takes its listeners along."""
    store = database.open()
    subscription = store.listen(BOTH, threading.Event().set)
    store.close()
    store.close()
    assert not subscription.alive()

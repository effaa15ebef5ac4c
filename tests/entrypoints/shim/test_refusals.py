"""Every answer that is not 200 has the contract's form, and tells nobody a key."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
import structlog
from pydantic import SecretStr
from starlette.requests import Request

from daemon import log as logs
from daemon.adapters.firestore import FirestoreStore
from daemon.adapters.sqlite import SqliteStore
from daemon.core.errors import DocumentTooLarge, StoreUnavailable, WrongSettings
from daemon.core.ports import Intake, Settled, Update
from daemon.entrypoints.shim.access import Access, Rate, check_address
from daemon.entrypoints.shim.answers import Refused
from daemon.entrypoints.shim.batches import LARGEST, Batches
from daemon.entrypoints.shim.batches import THREADS as BATCHES
from daemon.entrypoints.shim.body import MAX_BODY
from daemon.entrypoints.shim.calls import THREADS, Calls
from daemon.entrypoints.shim.health import FRESH, Readiness
from daemon.settings import load
from tests.entrypoints.shim.running import ENDPOINT, KEY, Shim, job_of, request, running, settings
from tests.parts.firestore_emulator import FirestoreEmulator
from tests.parts.proxy import Mode, proxy

PATH = f"/v2/{ENDPOINT}/runsync"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def shim(sqlite_store: SqliteStore) -> Iterator[Shim]:
    """A shim on the embedded store."""
    with running(sqlite_store) as shim:
        yield shim


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """All that the shim, or a library of it, says anywhere."""
    ours = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", ours)
        logs.configure(level="debug", json=True)
    yield lambda: ours.getvalue() + "".join(capfd.readouterr())
    structlog.reset_defaults()


@pytest.fixture(name="emulator")
def _emulator(request: pytest.FixtureRequest) -> Callable[[], FirestoreEmulator]:
    """The emulator, for those who ask."""
    return lambda: request.getfixturevalue("firestore_emulator")


def check(answer: httpx2.Response, status: int, message: str | None = None) -> None:
    """The answer has this status and the contract's form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error", "status"}
    assert body["status"] == "failed"
    assert isinstance(body["error"], str)
    assert body["error"]
    if message is not None:
        assert body["error"] == message


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer wrong", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY, "Bearer ü"],
)
def test_without_the_right_key_nobody_gets_in(shim: Shim, value: str) -> None:
    """Missing, wrong, cut short, or not a bearer's: 401, and what to send is said."""
    fields = request()
    answer = shim.call(fields, headers=[("Authorization", value.encode())])
    check(answer, 401, "The API key is missing or wrong")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert shim.fields(job_of(fields)) is None


def test_several_keys_are_good_at_once(sqlite_store: SqliteStore) -> None:
    """While keys are rotated, the old one and the new one both work, whatever characters they have."""
    keys = ["old", "new", "schlüssel"]
    with running(sqlite_store, shim_keys=keys) as shim:
        for key in keys:
            headers = [("Authorization", f"bearer {key}".encode())]
            assert shim.call(request(), headers=headers).status_code == 200
        check(shim.call(request()), 401)


def test_an_endpoint_of_somebody_else_is_not_found(shim: Shim) -> None:
    """The id in the path is checked, after the key: it tells nothing to whoever has none."""
    check(shim.post({"input": request()}, endpoint="other"), 404, "There is no such endpoint")
    check(shim.post({"input": request()}, endpoint="other", headers={"Authorization": "Bearer wrong"}), 401)


@pytest.mark.parametrize("path", ["/", "/v2", PATH + "/", f"/v2/{ENDPOINT}", f"/v2/{ENDPOINT}/run%20sync", "/v3/x"])
def test_a_path_that_is_none_is_not_found(shim: Shim, path: str) -> None:
    """No page, no redirection: the same form as everything else."""
    check(shim.http.post(path, json={}), 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_another_method_is_refused(shim: Shim, method: str) -> None:
    """405 says which method there is."""
    answer = shim.http.request(method, PATH)
    check(answer, 405)
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_is_not_called_json_is_refused(shim: Shim, kind: str | None) -> None:
    """A page of another site cannot send JSON without being asked first; a form it could."""
    headers = {} if kind is None else {"Content-Type": kind}
    body = json.dumps({"input": request()}).encode()
    check(shim.http.post(PATH, content=body, headers=headers), 415, "Content-Type must be application/json")


def test_json_may_be_called_json_with_a_charset(shim: Shim) -> None:
    """Many clients add one."""
    body = json.dumps({"input": request()}).encode()
    answer = shim.http.post(PATH, content=body, headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"nonsense", b"\xff\xfe", b'{"input": NaN}', b'{"input": {}} more', b"[" * 100_000),
        *(b'{"input": {"prompt": "\\ud800"}}', b'{"input": {"width": Infinity}}'),
    ],
    ids=range(9),
)
def test_what_is_not_json_is_refused(shim: Shim, body: bytes) -> None:
    """However broken or deep it is, it is a sender's mistake and not ours."""
    check(shim.http.post(PATH, content=body, headers=JSON), 400, "Validation failed: the body is not valid JSON")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        *((body, "Validation failed: the body must be an object") for body in ("null", "1", '"text"', "[]", "[{}]")),
        *((body, "input is required") for body in ("{}", '{"input": null}', '{"prompt": "a"}')),
        *((f'{{"input": {value}}}', "Validation failed: input must be an object") for value in ("1", '"a"', "[]")),
    ],
    ids=repr,
)
def test_a_body_without_an_input_is_refused(shim: Shim, body: str, message: str) -> None:
    """The message says what is missing."""
    check(shim.http.post(PATH, content=body, headers=JSON), 400, message)


def test_a_number_without_end_is_refused(shim: Shim) -> None:
    """Thousands of digits are no attack."""
    body = json.dumps({"input": request()})[:-2] + ', "seed": ' + "9" * 100_000 + "}}"
    check(shim.http.post(PATH, content=body, headers=JSON), 400)


@pytest.mark.parametrize("told", [True, False])
def test_a_body_above_the_limit_is_refused(shim: Shim, told: bool) -> None:
    """Whether its length is told beforehand or not: no more than the limit is ever read."""
    fields = request(prompt="x" * MAX_BODY)
    body = json.dumps({"input": fields}).encode()

    def chunks() -> Iterator[bytes]:
        yield from (body[start : start + 65536] for start in range(0, len(body), 65536))

    answer = shim.http.post(PATH, content=body if told else chunks(), headers=JSON)
    check(answer, 413, f"The body is larger than {MAX_BODY} bytes")
    assert shim.call(request()).status_code == 200


def test_a_body_at_the_limit_is_read(shim: Shim) -> None:
    """The limit itself is allowed."""
    body = json.dumps({"input": request()}).encode()
    body += b" " * (MAX_BODY - len(body))
    assert shim.http.post(PATH, content=body, headers=JSON).status_code == 200


def test_too_many_calls_with_one_key_wait_and_another_key_does_not(sqlite_store: SqliteStore) -> None:
    """429 says when to come again; each key has its own rate."""
    with running(sqlite_store, shim_keys=["one", "two"], shim_rate=3.0) as shim:
        one, two = ({"Authorization": f"Bearer {key}"} for key in ("one", "two"))
        for _ in range(3):
            assert shim.call(request(), headers=one).status_code == 200
        answer = shim.call(request(), headers=one)
        check(answer, 429, "Too many requests, try again later")
        assert 1 <= int(answer.headers["retry-after"]) <= 20
        assert shim.call(request(), headers=two).status_code == 200
        assert shim.http.get("/healthz").status_code == 200


def test_a_rate_is_saved_up_for_a_minute_at_most() -> None:
    """A key that was quiet may call as often as a minute allows, and then at its rate."""
    now = [0.0]
    rate = Rate(6, lambda: now[0])
    now[0] = 3600.0
    assert [rate.wait() for _ in range(6)] == [0.0] * 6
    assert rate.wait() == pytest.approx(10.0)
    now[0] += 9.0
    assert rate.wait() == pytest.approx(1.0)
    now[0] += 1.0
    assert rate.wait() == 0.0


def test_a_slow_rate_lets_one_call_through() -> None:
    """Less than one call a minute is a rate, too."""
    now = [0.0]
    rate = Rate(0.5, lambda: now[0])
    assert rate.wait() == 0.0
    assert rate.wait() == pytest.approx(120.0)


def away_sqlite(folder: Path, _emulator: Callable[[], FirestoreEmulator]) -> Iterator[Intake]:
    """An embedded store whose file can no longer be used."""
    store = SqliteStore(folder / "jobs.db")
    store.close()
    yield store


def away_firestore(_folder: Path, emulator: Callable[[], FirestoreEmulator]) -> Iterator[Intake]:
    """A Firestore that refuses connections."""
    running_emulator = emulator()
    with pytest.MonkeyPatch.context() as patch, proxy(running_emulator.address) as network:
        patch.setenv("FIRESTORE_EMULATOR_HOST", network.address)
        store = FirestoreStore.connect(project=running_emulator.new_project(), deadline=0.5)
        network.set(Mode.REFUSE)
        yield store
        store.close()


@pytest.mark.parametrize("away", [away_sqlite, away_firestore])
def test_while_the_store_is_away_a_call_is_told_to_come_again(
    tmp_path: Path, emulator: Callable[[], FirestoreEmulator], away: Callable[..., Iterator[Intake]]
) -> None:
    """503 with Retry-After, on the endpoint and on ``/readyz``; the process itself is alive."""
    for store in away(tmp_path, emulator):
        with running(store) as shim:
            for answer in (shim.call(request()), shim.http.get("/readyz")):
                check(answer, 503, "The job store is unavailable, try again")
                assert int(answer.headers["retry-after"]) >= 1
            assert shim.http.get("/healthz").json() == {"status": "ok"}


def test_a_store_that_comes_back_is_used_again(firestore_emulator: FirestoreEmulator) -> None:
    """Nothing has to be started anew, and what was refused was not half written."""
    with pytest.MonkeyPatch.context() as patch, proxy(firestore_emulator.address) as network:
        patch.setenv("FIRESTORE_EMULATOR_HOST", network.address)
        store = FirestoreStore.connect(project=firestore_emulator.new_project(), deadline=3.0)
        with running(store) as shim:
            assert shim.http.get("/readyz").json() == {"status": "ready"}
            network.set(Mode.REFUSE)
            fields = request()
            check(shim.call(fields), 503)
            network.set(Mode.PASS)
            assert any(shim.call(fields).status_code == 200 for _ in range(20))
            document = shim.fields(job_of(fields))
            assert document is not None
            assert document["status"] == "queued"
        store.close()


class TooSmall(SqliteStore):
    """A store that takes no document of this size."""

    def update_each(self, updates: Sequence[Update]) -> list[Settled | DocumentTooLarge | StoreUnavailable]:
        return [DocumentTooLarge("index entries") for _ in updates]


class Broken(SqliteStore):
    """A store with a bug."""

    def update_each(self, updates: Sequence[Update]) -> list[Settled | DocumentTooLarge | StoreUnavailable]:
        raise ZeroDivisionError(f"{updates} and {KEY}")


def test_a_document_that_would_be_too_large_is_its_clients_trouble(tmp_path: Path) -> None:
    """What can never be stored is not asked for again."""
    with closing(TooSmall(tmp_path / "jobs.db")) as store, running(store) as shim:
        check(shim.call(request()), 400, "Validation failed: the document would be too large")


def test_what_nobody_foresaw_is_answered_in_the_same_form(tmp_path: Path, log: Callable[[], str]) -> None:
    """The client learns nothing of our insides; the operator's log does, on one line."""
    with closing(Broken(tmp_path / "jobs.db")) as store, running(store) as shim:
        check(shim.call(request()), 500, "Internal error")
    output = log()
    assert "call.broken" in output
    assert "ZeroDivisionError" in output
    assert KEY not in output


@pytest.mark.parametrize("garbage", [b"nonsense\r\n\r\n", b"GET\x00 / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"])
def test_what_is_not_even_http_is_answered_in_the_same_form(shim: Shim, garbage: bytes) -> None:
    """A port scanner gets JSON, too."""
    host, port = shim.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(garbage)
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert set(json.loads(body)) == {"error", "status"}


def test_no_key_and_no_prompt_comes_into_a_log(sqlite_store: SqliteStore, log: Callable[[], str]) -> None:
    """Not the right key, not a wrong one, wherever a client puts it, whatever comes of its call."""
    key, wrong, prompt = "sesame-of-mine", "sesame-of-nobody", "a secret wish"
    with running(sqlite_store, shim_keys=[key], shim_rate=600.0) as shim:
        for given in (key, wrong):
            headers = {"Authorization": f"Bearer {given}"}
            statuses = {
                shim.call(request(prompt=prompt), headers=headers).status_code,
                shim.call(request(prompt=prompt, width=1), headers=headers).status_code,
                shim.post({"input": request(prompt=given)}, endpoint=given, headers=headers).status_code,
                shim.http.get(f"{PATH}?key={given}", headers=headers).status_code,
                shim.http.post(f"/{given}", json={"key": given}, headers=headers).status_code,
                shim.http.post(PATH, content=given.encode(), headers=headers | JSON).status_code,
            }
            assert len(statuses) > 2
    output = log()
    assert "call.accepted" in output
    for secret in (key, wrong, prompt, "sesame"):
        assert secret not in output
    assert key not in repr(settings(shim_keys=[key]))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])  # noqa: S104 - what is refused
def test_without_a_key_it_listens_to_this_machine_alone(host: str, sqlite_store: SqliteStore) -> None:
    """An open endpoint would let anybody generate."""
    with pytest.raises(WrongSettings, match="EASELD_SHIM_KEYS"):
        check_address(load(shim_host=host))
    with pytest.raises(WrongSettings, match="EASELD_SHIM_KEYS"), running(sqlite_store, shim_host=host, shim_keys=[]):
        pass
    check_address(load(shim_host=host, shim_keys=["k"]))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3", "::1"])
def test_without_a_key_programs_of_this_machine_may_call(host: str) -> None:
    """A laptop needs no key."""
    check_address(load(shim_host=host))


def test_without_a_key_any_call_of_this_machine_is_let_in(sqlite_store: SqliteStore) -> None:
    """A client that sends a key all the same is let in as well."""
    with running(sqlite_store, shim_keys=[]) as shim:
        assert shim.call(request()).status_code == 200
        assert shim.call(request(), headers={"Authorization": ""}).status_code == 200


@pytest.mark.parametrize(("name", "value"), [("SHIM_KEYS", " , ,"), ("SHIM_KEYS", "")], ids=["only commas", "nothing"])
def test_keys_of_nothing_are_no_keys(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A variable that is set to nothing does not open the endpoint to an empty key."""
    monkeypatch.setenv(f"EASELD_{name}", value)
    assert load().shim_keys == []
    with pytest.raises(WrongSettings):
        load(shim_keys=[""])


def test_an_address_in_use_is_a_wrong_setting(shim: Shim, sqlite_store: SqliteStore) -> None:
    """One line says which address, instead of a traceback."""
    port = int(shim.address.rpartition(":")[2])
    with pytest.raises(WrongSettings, match=f"port {port}"), running(sqlite_store, shim_port=port):
        pass


def test_a_key_is_compared_with_every_key_of_ours() -> None:
    """The first and the last are found alike, and their digests are what is compared."""
    access = Access(keys=[SecretStr(str(number)) for number in range(5)], endpoints=["e"])
    for number in range(5):
        access.check(_request(f"Bearer {number}"), "e")
    with pytest.raises(Refused):
        access.check(_request("Bearer 5"), "e")


def _request(authorization: str) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", authorization.encode())]})


def test_calls_do_not_pile_up_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store hangs, those who come too late are told at once."""
    monkeypatch.setattr("daemon.entrypoints.shim.calls.WAITING", 0)
    held = threading.Event()

    async def story() -> None:
        calls = Calls()
        hanging = [asyncio.create_task(calls.run(held.wait)) for _ in range(THREADS)]
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="Too many requests at once"):
            await calls.run(held.wait)
        held.set()
        assert all(await asyncio.gather(*hanging))
        assert await calls.run(lambda: 7) == 7
        calls.close()

    asyncio.run(story())


def test_calls_that_come_while_the_store_is_busy_go_to_it_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets its own answer, or its own error; what comes too late is told at once."""
    monkeypatch.setattr("daemon.entrypoints.shim.batches.WAITING", 2 * LARGEST)
    free = threading.Event()
    sizes: list[int] = []

    def work(asked: Sequence[int]) -> list[int | Exception]:
        free.wait(30)
        sizes.append(len(asked))
        return [StoreUnavailable(str(number)) if number % 10 == 0 else 2 * number for number in asked]

    async def story() -> None:
        batches = Batches[int, int](work)
        busy = []
        for _ in range(BATCHES):
            busy += [asyncio.create_task(batches.run(1)) for _ in range(LARGEST)]
            await asyncio.sleep(0)  # they ask
            await asyncio.sleep(0)  # and are on their way
        late = [asyncio.create_task(batches.run(number)) for number in range(2 * LARGEST)]
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="Too many requests at once"):
            await batches.run(1)
        late[3].cancel()
        free.set()
        assert set(await asyncio.gather(*busy)) == {2}
        results = await asyncio.gather(*late, return_exceptions=True)
        for number, result in enumerate(results):
            if number == 3:
                assert isinstance(result, asyncio.CancelledError)
            elif number % 10 == 0:
                assert isinstance(result, StoreUnavailable)
                assert str(result) == str(number)
            else:
                assert result == 2 * number
        batches.close()

    asyncio.run(story())
    assert sizes == [LARGEST] * (BATCHES + 2)


def test_readiness_asks_the_store_no_more_often_than_needed(sqlite_store: SqliteStore) -> None:
    """Asking ``/readyz`` often costs nothing; a store that went away is noticed soon."""
    now = [0.0]
    readiness = Readiness(sqlite_store, clock=lambda: now[0])
    readiness.check()
    sqlite_store.close()
    readiness.check()
    now[0] = FRESH + 0.1
    with pytest.raises(StoreUnavailable):
        readiness.check()

"""What only Cloud Storage can do to a blob store: passing errors, lost answers, refusals, wrong bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from google.cloud.storage import Bucket

from daemon.adapters.gcs import AddressStyle, GcsBlobs
from daemon.core.crc32c import crc32c
from daemon.core.errors import BlobsUnavailable, Retryable, WrongSettings
from daemon.core.objects import ContentType, Mark, Placement
from tests.parts.fake_gcs import GcsServer
from tests.parts.gcs_fence import Accepted, GcsFence, gcs_fence
from tests.parts.process import free_port
from tests.parts.service_account import service_account_key

NAME = "generating/user/image/file.png"
MARK = Mark(document="generations/user/images/file", token="mine", attempt=1, claimed=7)


@pytest.fixture
def fence(gcs_server: GcsServer) -> Iterator[GcsFence]:
    """The proxy that fails what a test tells it to."""
    with gcs_fence(gcs_server.url) as fence:
        yield fence


@pytest.fixture
def blobs(fence: GcsFence, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsBlobs]:
    """Media in this test's own bucket behind the proxy."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", fence.url)
    blobs = GcsBlobs.connect(bucket=bucket.name, base=fence.url, deadline=10.0)
    yield blobs
    blobs.close()


PICTURE = b"picture"


def placement(content: bytes = PICTURE, generation: int = 0) -> Placement:
    """Write it as a PNG of our claim."""
    return Placement(generation=generation, content_type=ContentType.PNG, crc32c=crc32c(content), mark=MARK)


def test_an_object_has_its_type_and_may_be_kept_only_while_it_holds(blobs: GcsBlobs, bucket: Bucket) -> None:
    """Browsers show it, and ask again before they show it a second time: a new life may have replaced it."""
    blobs.put(NAME, PICTURE, placement())
    stored = bucket.get_blob(NAME)
    assert stored.content_type == "image/png"
    assert stored.cache_control == "public, no-cache"
    assert stored.metadata == MARK.metadata()


@pytest.mark.parametrize(
    "status",
    [HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR],
)
def test_a_passing_trouble_is_tried_again(blobs: GcsBlobs, fence: GcsFence, status: HTTPStatus) -> None:
    """Looking, uploading and deleting survive a few refusals."""
    fence.fail("POST", status, times=2)
    generation = blobs.put(NAME, PICTURE, placement())
    assert generation
    fence.fail("GET", status, times=2)
    assert blobs.look(NAME)
    fence.fail("GET", status, times=2)
    assert len(list(blobs.objects("generating/"))) == 1
    fence.fail("DELETE", status, times=2)
    assert blobs.delete(NAME, generation)


def test_an_upload_whose_answer_was_lost_is_found_by_looking(blobs: GcsBlobs, fence: GcsFence) -> None:
    """The second try meets our own object; it is there once, whole, and bears our mark."""
    fence.fail("POST", HTTPStatus.SERVICE_UNAVAILABLE, after=True)
    assert blobs.put(NAME, PICTURE, placement()) is None
    found = blobs.look(NAME)
    assert found is not None
    assert Mark.read(found.metadata) == MARK
    assert found.crc32c == placement().crc32c
    assert [accepted.kind for accepted in fence.accepted] == ["upload"]


def test_a_large_file_keeps_the_condition(blobs: GcsBlobs) -> None:
    """Above 8 MiB the library uploads in pieces; creating still never replaces."""
    content = bytes(9 * 1024 * 1024)
    assert blobs.put(NAME, content, placement(content))
    assert blobs.put(NAME, content, placement(content)) is None
    found = blobs.look(NAME)
    assert found is not None
    assert found.size == 9 * 1024 * 1024


def test_a_refusal_says_which_role_is_missing(blobs: GcsBlobs, fence: GcsFence, bucket: Bucket) -> None:
    """The message holds the command that grants access to this bucket."""
    command = f"gcloud storage buckets add-iam-policy-binding gs://{bucket.name} --member=serviceAccount:"
    fence.fail("POST", HTTPStatus.FORBIDDEN, times=2)
    with pytest.raises(BlobsUnavailable) as caught:
        blobs.put(NAME, PICTURE, placement())
    assert command in str(caught.value)
    [line] = blobs.probe()
    assert command in line
    assert "--role=roles/storage.objectUser" in line


def test_a_bucket_that_clients_may_not_read_is_told(blobs: GcsBlobs, fence: GcsFence, bucket: Bucket) -> None:
    """The probe fetches as a client would, without credentials, and cleans up all the same."""
    fence.fail("GET", HTTPStatus.FORBIDDEN, part="easeld-probe", times=1)
    [line] = blobs.probe()
    assert (
        f"gcloud storage buckets add-iam-policy-binding gs://{bucket.name} "
        "--member=allUsers --role=roles/storage.objectViewer" in line
    )
    assert list(blobs.objects("")) == []


def test_an_address_that_leads_elsewhere_is_told(blobs: GcsBlobs, fence: GcsFence) -> None:
    """Any answer but our own bytes is trouble."""
    fence.fail("GET", HTTPStatus.NOT_FOUND, part="easeld-probe", times=1)
    assert "answers 404" in blobs.probe()[0]
    fence.fail("GET", HTTPStatus.OK, part="easeld-probe", times=1)
    assert "other bytes" in blobs.probe()[0]


def test_a_missing_bucket_is_told(fence: GcsFence, blobs: GcsBlobs) -> None:
    """One line, with the command that makes it."""
    missing = GcsBlobs.connect(bucket="never-made", base=fence.url)
    [line] = missing.probe()
    assert "gcloud storage buckets create gs://never-made" in line
    missing.close()


def test_an_unreachable_bucket_is_told_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a server that is not there."""
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    blobs = GcsBlobs.connect(bucket="any", base=address, deadline=0.5)
    begin = time.monotonic()
    with pytest.raises(BlobsUnavailable):
        blobs.look(NAME)
    with pytest.raises(BlobsUnavailable):
        blobs.put(NAME, PICTURE, placement())
    with pytest.raises(BlobsUnavailable):
        list(blobs.objects("generating/"))
    assert len(blobs.probe()) == 1
    assert time.monotonic() - begin < 20
    blobs.close()


def test_a_bucket_that_takes_wrong_bytes_is_caught(
    gcs_server: GcsServer, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server does not compare, as here, what it computed is compared here, and the object deleted again."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    blobs = GcsBlobs.connect(bucket=bucket.name, base=gcs_server.url)
    with pytest.raises(Retryable, match="checksum"):
        blobs.put(NAME, b"damaged", placement())
    assert blobs.look(NAME) is None
    blobs.close()


def test_the_address_is_the_contract_s() -> None:
    """Also for the buckets that Firebase makes."""
    blobs = GcsBlobs(client=_NoClient(), bucket="app.firebasestorage.app")
    assert blobs.address("generating/user 1/image/file456_1.png", MARK) == (
        "https://storage.googleapis.com/app.firebasestorage.app/generating/user%201/image/file456_1.png"
    )


def test_an_object_that_is_replaced_has_an_address_for_each_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every style, so that no browser goes on showing what it has already."""
    key = service_account_key(project="app")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    for style in AddressStyle:
        blobs = GcsBlobs.connect(bucket="app.appspot.com", credentials=key, style=style)
        query = parse_qs(urlsplit(blobs.address(NAME, MARK, version=7)).query)
        assert query["v"] == ["7"]
        assert query.get("token") == parse_qs(urlsplit(blobs.address(NAME, MARK)).query).get("token")
        blobs.close()


def test_an_address_with_a_version_is_the_objects(blobs: GcsBlobs) -> None:
    """The version is for the browser's cache: the server gives what is there."""
    generation = blobs.put(NAME, PICTURE, placement())
    with urlopen(blobs.address(NAME, MARK, version=1)) as answer:
        assert answer.read() == b"picture"
    assert blobs.address(NAME, MARK, version=generation) != blobs.address(NAME, MARK, version=1)


def test_a_token_address_is_firebase_s_and_the_object_carries_the_token(
    gcs_server: GcsServer, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As getDownloadURL() would give it; another claim's address has another token."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    blobs = GcsBlobs.connect(bucket=bucket.name, style=AddressStyle.TOKEN)
    blobs.put(NAME, PICTURE, placement())
    found = blobs.look(NAME)
    assert found is not None
    token = found.metadata["firebaseStorageDownloadTokens"]
    assert blobs.address(NAME, MARK) == (
        f"https://firebasestorage.googleapis.com/v0/b/{bucket.name}/o/"
        f"generating%2Fuser%2Fimage%2Ffile.png?alt=media&token={token}"
    )
    assert blobs.address(NAME, replace(MARK, token="another")) != blobs.address(NAME, MARK)
    blobs.close()


def test_a_signed_address_is_signed_with_the_key_and_good_for_seven_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key signs by itself; nothing is sent."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    key = service_account_key(project="app")
    blobs = GcsBlobs.connect(bucket="app.appspot.com", credentials=key, style=AddressStyle.SIGNED)
    address = urlsplit(blobs.address("generating/user 1/image/f.png", MARK))
    query = parse_qs(address.query)
    assert (address.netloc, address.path) == (
        "storage.googleapis.com",
        "/app.appspot.com/generating/user%201/image/f.png",
    )
    assert query["X-Goog-Expires"] == ["604800"]
    assert query["X-Goog-Signature"]
    blobs.close()


def test_credentials_that_cannot_sign_are_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """Application default credentials of a person have no key."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    blobs = GcsBlobs.connect(bucket="b", style=AddressStyle.SIGNED)
    with pytest.raises(WrongSettings, match="cannot sign"):
        blobs.address(NAME, MARK)
    blobs.close()


class _NoClient:
    """Stands where a client is held but never used."""

    def bucket(self, name: str) -> None:
        """Nothing is asked of it."""


def test_a_refusal_names_the_account_of_the_key(
    fence: GcsFence, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command can be run as it stands."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", fence.url)
    blobs = GcsBlobs.connect(bucket=bucket.name, credentials=service_account_key(project="app"))
    account = "--member=serviceAccount:worker@app.iam.gserviceaccount.com"
    assert account in blobs._calls.grant_access
    blobs.close()


def test_wrong_credentials_are_one_clear_line() -> None:
    """What is no service account's key is told before anything is sent, and never shown."""
    with pytest.raises(WrongSettings, match="not a service account"):
        GcsBlobs.connect(bucket="any", credentials="no json")


def test_the_fence_enforces_what_the_server_ignores(fence: GcsFence, blobs: GcsBlobs) -> None:
    """A delete of another generation is refused, and the log tells only what was carried out."""
    generation = blobs.put(NAME, PICTURE, placement())
    assert generation
    assert not blobs.delete(NAME, generation + 1)
    assert blobs.look(NAME)
    assert blobs.delete(NAME, generation)
    assert fence.accepted == [
        Accepted(kind="upload", name=NAME, generation=generation, metadata=MARK.metadata()),
        Accepted(kind="delete", name=NAME, generation=generation),
    ]

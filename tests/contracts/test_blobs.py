"""What the flow may rely on, whatever blob store stands behind it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import google_crc32c
import pytest

from daemon.core.errors import Retryable
from daemon.core.objects import ContentType, Mark, Placement
from daemon.core.ports import BlobStore

NAME = "generated/user/image/file.png"


def crc32c(content: bytes) -> str:
    """As Cloud Storage gives it."""
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


def mark(token: str = "token") -> Mark:
    """The mark of a claim."""
    return Mark(document="generations/user/images/file", token=token, attempt=1, claimed=7)


def put(blobs: BlobStore, name: str, content: bytes, *, generation: int = 0, token: str = "token") -> int | None:
    """Put a picture, as the flow does."""
    placement = Placement(generation=generation, content_type=ContentType.PNG, crc32c=crc32c(content), mark=mark(token))
    return blobs.put(name, content, placement)


def test_what_is_absent_is_none(blobs: BlobStore) -> None:
    """Looking for what is not there is no error."""
    assert blobs.look(NAME) is None


def test_an_object_keeps_what_was_put_beside_its_bytes(open_blobs: Callable[[], BlobStore]) -> None:
    """Name, generation, checksum, size and mark are there for every process."""
    generation = put(open_blobs(), NAME, b"picture")
    found = open_blobs().look(NAME)
    assert found is not None
    assert (found.name, found.generation, found.size) == (NAME, generation, 7)
    assert found.crc32c == crc32c(b"picture")
    assert Mark.read(found.metadata) == mark()


def test_an_object_of_more_than_one_chunk_is_whole(blobs: BlobStore) -> None:
    """A file of some megabytes arrives with the checksum that it left with."""
    content = bytes(range(256)) * 4 * 1024 * 3
    put(blobs, NAME, content)
    found = blobs.look(NAME)
    assert found is not None
    assert (found.size, found.crc32c) == (len(content), crc32c(content))


def test_creating_never_replaces(open_blobs: Callable[[], BlobStore]) -> None:
    """Generation 0 means that there must be nothing, whoever put it there."""
    first = put(open_blobs(), NAME, b"first", token="first")
    assert put(open_blobs(), NAME, b"second", token="second") is None
    found = open_blobs().look(NAME)
    assert found is not None
    assert (found.generation, found.crc32c) == (first, crc32c(b"first"))


def test_replacing_is_of_that_very_generation(blobs: BlobStore) -> None:
    """A replacement goes through once, and not for the generation before."""
    first = put(blobs, NAME, b"first")
    assert first
    second = put(blobs, NAME, b"second", generation=first, token="second")
    assert second is not None
    assert second > first
    assert put(blobs, NAME, b"third", generation=first, token="third") is None
    found = blobs.look(NAME)
    assert found is not None
    assert (found.generation, found.size) == (second, 6)
    mine = Mark.read(found.metadata)
    assert mine is not None
    assert mine.token == "second"


def test_replacing_what_is_gone_does_not_create(blobs: BlobStore) -> None:
    """A generation that was deleted is not replaced."""
    first = put(blobs, NAME, b"first")
    assert first
    assert blobs.delete(NAME, first)
    assert put(blobs, NAME, b"second", generation=first) is None
    assert blobs.look(NAME) is None


def test_deleting_is_of_that_very_generation(blobs: BlobStore) -> None:
    """A zombie that deletes what it wrote does not delete what came after."""
    first = put(blobs, NAME, b"first")
    assert first
    second = put(blobs, NAME, b"second", generation=first)
    assert second
    assert not blobs.delete(NAME, first)
    assert blobs.look(NAME) is not None
    assert blobs.delete(NAME, second)
    assert blobs.look(NAME) is None
    assert not blobs.delete(NAME, second)


def test_generations_grow_over_deletion(blobs: BlobStore) -> None:
    """No generation is given twice."""
    first = put(blobs, NAME, b"first")
    assert first
    assert blobs.delete(NAME, first)
    again = put(blobs, NAME, b"again")
    assert again is not None
    assert again > first


def test_exactly_one_of_many_creations_wins(open_blobs: Callable[[], BlobStore]) -> None:
    """Of eight threads on two instances that create the same object, one does, and its bytes are there."""
    instances = [open_blobs(), open_blobs()]

    def create(worker: int) -> int | None:
        return put(instances[worker % 2], NAME, f"by {worker}".encode(), token=str(worker))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(create, range(8)))
    [winner] = [worker for worker, generation in enumerate(results) if generation is not None]
    found = instances[0].look(NAME)
    assert found is not None
    assert (found.generation, found.crc32c) == (results[winner], crc32c(f"by {winner}".encode()))


def test_content_that_changed_on_its_way_is_refused(blobs: BlobStore) -> None:
    """Bytes that do not have the placement's checksum never become an object, and the job is tried again."""
    placement = Placement(generation=0, content_type=ContentType.PNG, crc32c=crc32c(b"whole"), mark=mark())
    with pytest.raises(Retryable, match="checksum"):
        blobs.put(NAME, b"damaged", placement)
    assert blobs.look(NAME) is None


@pytest.mark.parametrize(
    "name",
    [
        "generated/user/image/two words.png",
        "generated/user/image/percent%20sign%.png",
        "generated/user/image/hash#question?.png",
        "generated/üser/image/naïve 🎨.png",
        "generated/user/image/plus+and&equals=;:@.png",
        "generated/user/image/.hidden.png",
        "generated/user/image/...png",
        "generated/user/image/back\\slash\"quote'.png",
    ],
)
def test_odd_names_are_names(blobs: BlobStore, name: str) -> None:
    """What a client may call its file is kept letter by letter, and told apart from what looks like it."""
    generation = put(blobs, name, b"odd")
    assert generation
    found = blobs.look(name)
    assert found is not None
    assert found.name == name
    assert [other.name for other in blobs.objects("generated/")] == [name]
    assert blobs.delete(name, generation)


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("a/b/file_1.png", "a/b/file_1.png"),
        ("a/b/two words.png", "a/b/two%20words.png"),
        ("a/b/100%#?.png", "a/b/100%25%23%3F.png"),
        ("ü/b/🎨.png", "%C3%BC/b/%F0%9F%8E%A8.png"),
    ],
)
def test_addresses_are_percent_encoded(blobs: BlobStore, name: str, encoded: str) -> None:
    """The slashes stay, everything that an address would read otherwise is encoded."""
    address = blobs.address(name, mark())
    assert address.endswith("/" + encoded)
    assert unquote(address).endswith("/" + name)
    assert "//" not in address.partition("://")[2]


def test_objects_are_those_of_a_prefix(blobs: BlobStore) -> None:
    """A prefix need not end at a slash; what begins otherwise is left out; generations and marks are there."""
    for name in ("generated/user/image/a.png", "generated/user/image/a_1.png", "generated/user/image/b.png"):
        put(blobs, name, name.encode())
    put(blobs, "generated/user2/image/a.png", b"neighbour")
    put(blobs, "other/user/image/a.png", b"other")
    found = {stored.name: stored for stored in blobs.objects("generated/user/image/a")}
    assert sorted(found) == ["generated/user/image/a.png", "generated/user/image/a_1.png"]
    assert all(stored == blobs.look(name) for name, stored in found.items())
    assert len(list(blobs.objects("generated/user"))) == 4
    assert len(list(blobs.objects("generated/"))) == 4
    assert list(blobs.objects("generated/user3/")) == []


def test_deleted_objects_are_not_listed(blobs: BlobStore) -> None:
    """What is gone is gone from the list."""
    generation = put(blobs, NAME, b"picture")
    assert generation
    blobs.delete(NAME, generation)
    assert list(blobs.objects("generated/")) == []


def test_a_healthy_blob_store_has_no_trouble_to_tell(blobs: BlobStore) -> None:
    """The probe writes, fetches and deletes, and leaves nothing behind."""
    assert blobs.probe() == []
    assert list(blobs.objects("")) == []


def test_closing_twice_is_closing_once(open_blobs: Callable[[], BlobStore]) -> None:
    """A blob store may be closed by whoever comes last."""
    blobs = open_blobs()
    blobs.close()
    blobs.close()

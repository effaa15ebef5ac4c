"""What the folder promises beyond the contract: files for people, crashes, many processes and names."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from daemon.adapters.folder import FolderBlobs
from daemon.adapters.folder_index import checksum
from daemon.core.crc32c import crc32c
from daemon.core.errors import BlobsUnavailable, Rejected
from daemon.core.objects import ContentType, Mark, Placement, StoredObject
from tests.adapters.subprocesses import kill_at_every_line, python

NAME = "generated/user/image/file.png"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the media, which is not there yet."""
    return tmp_path / "media"


@pytest.fixture
def open_blobs(root: Path) -> Iterator[Callable[[], FolderBlobs]]:
    """Opens blob stores on it, closed after the test."""
    with ExitStack() as stack:

        def open_one() -> FolderBlobs:
            blobs = FolderBlobs(root, "file:///media/")
            stack.callback(blobs.close)
            return blobs

        yield open_one


@pytest.fixture
def blobs(open_blobs: Callable[[], FolderBlobs]) -> FolderBlobs:
    """One of them."""
    return open_blobs()


PICTURE = b"picture"


def placement(content: bytes = PICTURE, generation: int = 0) -> Placement:
    """Where our claim puts it."""
    mark = Mark(document="generations/user/images/file", token="token", attempt=1, claimed=1)
    return Placement(generation=generation, content_type=ContentType.PNG, crc32c=crc32c(content), mark=mark)


def put(blobs: FolderBlobs, name: str = NAME) -> StoredObject:
    """Create an object."""
    assert blobs.put(name, PICTURE, placement())
    found = blobs.look(name)
    assert found is not None
    return found


def staged(root: Path) -> list[Path]:
    """The temporary files that are there."""
    return list((root / ".easeld" / "staged").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["create", "replace", "delete"])
def test_a_kill_at_any_line_leaves_the_old_or_the_new_object(scene: str, tmp_path: Path) -> None:
    """After SIGKILL before each line in turn, the next process finds a whole object, its mark, and nothing else."""
    assert kill_at_every_line(scene, tmp_path) > 20


def test_an_object_is_a_file_of_its_name(root: Path, blobs: FolderBlobs) -> None:
    """A person can open the picture, and no temporary file is left."""
    put(blobs)
    assert (root / NAME).read_bytes() == b"picture"
    assert staged(root) == []
    assert blobs.address(NAME, Mark(document="d", token="t", attempt=1, claimed=1)) == f"file:///media/{NAME}"


def test_several_processes_create_each_object_once(root: Path) -> None:
    """Three processes that open a new folder at once and create the same objects share them out."""
    script = """
blobs = FolderBlobs(path, "http://here")
for number in range(20):
    if blobs.put(f"generated/user/image/{number}.png", b"picture", placement(b"picture", sys.executable)) is not None:
        print(number, flush=True)
blobs.close()
"""
    won: list[int] = []
    with ExitStack() as stack:
        for process in [stack.enter_context(python(script, root)) for _ in range(3)]:
            won += [int(line) for line in process.stdout or ()]
            assert process.wait(60) == 0
    assert sorted(won) == list(range(20))


def test_a_part_of_a_name_may_be_as_long_as_a_file_name(blobs: FolderBlobs) -> None:
    """255 bytes go, more is the request's fault and said so."""
    put(blobs, f"generated/user/image/{'é' * 125}a.png")
    for name in (f"generated/user/image/{'é' * 126}.png", f"generated/{'u' * 256}/image/a.png"):
        with pytest.raises(Rejected, match="too long for a file"):
            blobs.put(name, PICTURE, placement())
    with pytest.raises(Rejected, match="too long for a file"):
        blobs.put("/".join(["d" * 250] * 20), PICTURE, placement())


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../outside.png",
        "generated/../../outside.png",
        "generated/./a.png",
        "/etc/outside.png",
        "generated//a.png",
        "generated/user/",
        ".easeld/lock",
        ".easeld/staged/a.png",
        "generated/\0.png",
        "generated/\ud800.png",
    ],
)
def test_no_name_leads_out_of_the_folder(root: Path, blobs: FolderBlobs, name: str) -> None:
    """What would lie outside, among our own files, or nowhere is refused by every method."""
    before = sorted(root.rglob("*"))
    for attempt in (
        lambda: blobs.put(name, PICTURE, placement()),
        lambda: blobs.look(name),
        lambda: blobs.delete(name, 1),
    ):
        with pytest.raises(Rejected):
            attempt()
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("prefix", ["../", "/etc/", ".easeld/", "generated/../../"])
def test_no_prefix_leads_out_of_the_folder(blobs: FolderBlobs, prefix: str) -> None:
    """Nothing is listed there."""
    put(blobs)
    assert list(blobs.objects(prefix)) == []
    assert [found.name for found in blobs.objects("")] == [NAME]


def test_a_file_that_a_person_put_there_is_an_object_without_mark(root: Path, blobs: FolderBlobs) -> None:
    """It is not replaced by a creation, only by its generation."""
    (root / NAME).parent.mkdir(parents=True)
    (root / NAME).write_bytes(b"mine")
    assert blobs.put(NAME, PICTURE, placement()) is None
    found = blobs.look(NAME)
    assert found is not None
    assert (found.size, found.metadata) == (4, {})
    assert found.crc32c == checksum(root / NAME)
    assert [stored.name for stored in blobs.objects("generated/")] == [NAME]
    assert blobs.put(NAME, PICTURE, placement(generation=found.generation))
    assert (root / NAME).read_bytes() == b"picture"


def test_a_file_that_a_person_changed_is_another_generation(root: Path, blobs: FolderBlobs) -> None:
    """The claim that wrote it neither replaces nor deletes it any more."""
    before = put(blobs)
    (root / NAME).write_bytes(b"retouched")
    assert not blobs.delete(NAME, before.generation)
    assert blobs.put(NAME, PICTURE, placement(generation=before.generation)) is None
    found = blobs.look(NAME)
    assert found is not None
    assert found.generation > before.generation
    assert (found.size, found.metadata) == (9, {})


def test_a_file_that_was_only_touched_keeps_its_mark(root: Path, blobs: FolderBlobs) -> None:
    """A copy brought back from a backup is the same object."""
    before = put(blobs)
    os.utime(root / NAME, (1, 1))
    assert blobs.look(NAME) == before
    assert blobs.look(NAME) == before


def test_a_file_that_a_person_removed_is_absent(root: Path, blobs: FolderBlobs) -> None:
    """It can be created again, as a generation of its own."""
    before = put(blobs)
    (root / NAME).unlink()
    assert blobs.look(NAME) is None
    assert not blobs.delete(NAME, before.generation)
    assert put(blobs).generation > before.generation


def test_a_folder_where_a_file_should_be_is_refused(root: Path, blobs: FolderBlobs) -> None:
    """Neither is a folder replaced by a file, nor a file by a folder."""
    (root / NAME).mkdir(parents=True)
    with pytest.raises(Rejected, match="is a folder"):
        blobs.put(NAME, PICTURE, placement())
    put(blobs, "generated/file")
    with pytest.raises(Rejected, match="needs a folder"):
        blobs.put("generated/file/below.png", PICTURE, placement())
    assert [stored.name for stored in blobs.objects("")] == ["generated/file"]


def test_what_is_no_file_is_not_listed(root: Path, blobs: FolderBlobs) -> None:
    """Pipes and names that are no text are left alone."""
    put(blobs)
    os.mkfifo(root / "generated" / "pipe")
    (root / "generated" / os.fsdecode(b"latin-\xe4.png")).write_bytes(b"no text")
    assert [stored.name for stored in blobs.objects("")] == [NAME]


def test_a_full_disk_makes_the_store_unavailable_and_leaves_nothing(
    root: Path, open_blobs: Callable[[], FolderBlobs]
) -> None:
    """What could not be written whole is no object and takes no room."""
    script = """
import resource
content = b"x" * 1_000_000
blobs = FolderBlobs(path, "http://here")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    blobs.put("generated/large.png", content, placement(content, "token"))
except BlobsUnavailable as exc:
    print(exc)
"""
    with python(script, root) as process:
        assert process.stdout is not None
        assert "cannot be used" in process.stdout.read()
        assert process.wait(30) == 0
    assert staged(root) == []
    assert open_blobs().look("generated/large.png") is None


def test_temporary_files_of_the_dead_are_cleared_away(root: Path, open_blobs: Callable[[], FolderBlobs]) -> None:
    """Those of a writer that lives are not, whichever process looks."""
    blobs = open_blobs()
    (root / ".easeld" / "staged" / "left").write_bytes(b"half a pict")
    with blobs._stage(PICTURE) as living:
        open_blobs()
        assert staged(root) == [living]
    open_blobs()
    assert staged(root) == []


def test_a_temporary_file_that_looked_dead_for_a_moment_is_made_again(
    open_blobs: Callable[[], FolderBlobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process starts just when the file is there and does not say yet that it is being written."""
    blobs = open_blobs()
    lock = fcntl.flock
    met: list[list[Path]] = []

    def meeting(file: Any, how: int) -> None:
        if how == fcntl.LOCK_EX and not isinstance(file, int) and not met:
            met.append(staged(blobs._root))
            open_blobs()
            assert staged(blobs._root) == []
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", meeting)
    put(blobs)
    assert len(met[0]) == 1
    assert staged(blobs._root) == []


def test_a_rename_that_was_not_done_is_done_by_the_next_look(
    root: Path, open_blobs: Callable[[], FolderBlobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is the moment at which the object changes; whoever comes next finishes what it began."""
    blobs = open_blobs()
    before = put(blobs)
    with monkeypatch.context() as failing:

        def no_room(staged: Path, path: Path) -> None:
            raise OSError(28, "No space left on device")

        failing.setattr(blobs, "_move", no_room)
        with pytest.raises(BlobsUnavailable, match="No space left"):
            blobs.put(NAME, b"new picture", placement(b"new picture", before.generation))
    assert (root / NAME).read_bytes() == b"picture"
    found = blobs.look(NAME)
    assert found is not None
    assert found.generation > before.generation
    assert (root / NAME).read_bytes() == b"new picture"


def test_a_folder_that_cannot_be_is_unavailable(tmp_path: Path) -> None:
    """A root below a file is a trouble of the store, said in words."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BlobsUnavailable, match="cannot be used"):
        FolderBlobs(tmp_path / "file", "http://here")


def test_a_closed_folder_is_unavailable(blobs: FolderBlobs) -> None:
    """Whoever comes after the close is told so, the probe included."""
    blobs.close()
    with pytest.raises(BlobsUnavailable, match="closed"):
        blobs.look(NAME)
    [trouble] = blobs.probe()
    assert "closed" in trouble


def test_the_probe_tells_what_it_does_not_get_back(
    root: Path, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that loses bytes is told of before any job is claimed."""
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"other")
    [trouble] = blobs.probe()
    assert "something else" in trouble

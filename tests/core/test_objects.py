"""Names of media, the marks on them, who may replace what, and what is an orphan."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.core.errors import LeaseLost, Rejected
from daemon.core.job import Collection, JobId
from daemon.core.objects import (
    ContentType,
    Mark,
    Placement,
    Present,
    StoredObject,
    all_names,
    check_name,
    is_orphan,
    object_names,
    place,
    preview_name,
)
from tests.core.samples import IMAGE, VIDEO, Paper, claimed, started

MINE = Mark(document=IMAGE.path, token="t2", attempt=2, claimed=20)


def stored(mark: Mark = MINE, *, crc32c: str = "AAAA", metadata: dict[str, str] | None = None) -> StoredObject:
    """An object in the bucket."""
    return StoredObject(name="o.png", generation=5, crc32c=crc32c, size=3, metadata=metadata or mark.metadata())


def placed(existing: StoredObject | None, *, may_adopt: bool = False) -> int | str:
    """The generation that this claim may replace, or what it is told instead."""
    decided = place(existing, mark=MINE, crc32c="AAAA", content_type=ContentType.PNG, may_adopt=may_adopt)
    if isinstance(decided, Present):
        return f"present {decided.generation}"
    assert (decided.mark, decided.crc32c, decided.content_type) == (MINE, "AAAA", ContentType.PNG)
    return decided.generation


def test_names_are_the_contracts() -> None:
    """Folders singular, the first without a number."""
    assert object_names(IMAGE, 3, prefix="generating") == [
        "generating/ada/image/picture.png",
        "generating/ada/image/picture_1.png",
        "generating/ada/image/picture_2.png",
    ]
    assert object_names(VIDEO, 1, prefix="generating") == ["generating/ada/video/clip.mp4"]
    assert all_names(VIDEO, prefix="p") == ["p/ada/video/clip.mp4", "p/ada/video/clip_preview.jpg"]
    assert all_names(IMAGE, prefix="p") == [*object_names(IMAGE, 4, prefix="p"), preview_name(IMAGE, prefix="p")]
    assert Collection.of(VIDEO.collection.task) is Collection.VIDEOS
    assert Collection.of(IMAGE.collection.task) is Collection.IMAGES


def test_where_nothing_is_it_is_created_and_nothing_else() -> None:
    """On the condition that there is still nothing."""
    assert placed(None) == 0


def test_what_this_claim_wrote_already_is_done_or_replaced() -> None:
    """Whole and the same: done. Cut short or other content: that very generation is replaced."""
    assert placed(stored()) == "present 5"
    assert placed(stored(crc32c="BBBB")) == 5


@pytest.mark.parametrize("attempt", [1, 2, 99])
def test_an_earlier_claims_object_is_replaced_and_a_later_claims_never(attempt: int) -> None:
    """The order of claims decides, not the number of the attempt, which starts again with each life."""
    earlier = Mark(document=IMAGE.path, token="t1", attempt=attempt, claimed=19)
    later = Mark(document=IMAGE.path, token="t3", attempt=attempt, claimed=21)
    assert placed(stored(earlier)) == 5
    with pytest.raises(LeaseLost):
        placed(stored(later))
    with pytest.raises(LeaseLost):
        placed(stored(later), may_adopt=True)


def test_the_same_bytes_of_another_claim_are_still_written_anew() -> None:
    """A referenced object carries the token that its document names."""
    assert placed(stored(Mark(document=IMAGE.path, token="t1", attempt=1, claimed=3), crc32c="AAAA")) == 5


def test_another_documents_object_fails_the_job_naming_both() -> None:
    """``a`` with two pictures and a document ``a_1``: nobody's picture is replaced."""
    neighbour = Mark(document="generations/ada/images/picture_1", token="t2", attempt=1, claimed=1)
    with pytest.raises(Rejected, match=r"o\.png exists already and belongs to generations/ada/images/picture_1"):
        placed(stored(neighbour), may_adopt=True)


@pytest.mark.parametrize("missing", ["easeld-document", "easeld-token", "easeld-attempt", "easeld-claimed"])
def test_an_object_without_our_whole_mark_is_replaced_only_where_it_may_be_adopted(missing: str) -> None:
    """An older worker's file, or somebody else's."""
    metadata = {key: value for key, value in MINE.metadata().items() if key != missing}
    existing = stored(metadata=metadata)
    assert Mark.read(metadata) is None
    assert placed(existing, may_adopt=True) == 5
    with pytest.raises(Rejected, match="was not made for this document"):
        placed(existing)


@pytest.mark.parametrize("value", ["", "x", "1.5", "9" * 5000])
def test_a_mark_with_a_mistyped_number_is_no_mark(value: str) -> None:
    """Anybody may write metadata."""
    assert Mark.read(MINE.metadata() | {"easeld-claimed": value}) is None
    assert Mark.read(MINE.metadata() | {"easeld-attempt": value}) is None


def test_a_mark_survives_its_way_through_metadata() -> None:
    """Also with the document's whole Unicode name."""
    mark = Mark(document="generations/ü/images/\U0001f600", token="x", attempt=3, claimed=2**62)
    assert Mark.read(mark.metadata()) == mark
    assert isinstance(place(None, mark=mark, crc32c="", content_type=ContentType.MP4, may_adopt=False), Placement)


def orphan(paper: Paper, token: str = "t1") -> bool:
    """Whether an object of this claim is an orphan beside the document as it is."""
    return is_orphan(Mark(document=IMAGE.path, token=token, attempt=1, claimed=1), paper.fields)


def test_an_object_is_no_orphan_while_its_claim_lives_or_its_result_stands() -> None:
    """From the claim to the end of the life that it finished."""
    paper = claimed()
    assert not orphan(paper)
    paper.renew(started=True)
    assert not orphan(paper)
    paper.complete()
    assert not orphan(paper)
    assert orphan(paper, "t0")


def test_a_preview_is_an_orphan_as_soon_as_its_claim_is_over() -> None:
    """Also beside the result of that very claim, which names its media alone."""
    paper, mark = claimed(), Mark(document=IMAGE.path, token="t1", attempt=1, claimed=1)
    assert not is_orphan(mark, paper.fields, preview=True)
    paper.complete()
    assert is_orphan(mark, paper.fields, preview=True)
    assert not is_orphan(mark, paper.fields)
    assert not is_orphan(mark, None, preview=True)


def test_an_object_is_an_orphan_once_its_claim_is_over() -> None:
    """Released, rescued, claimed by another, stopped, failed by its client, written anew."""
    ends: list[Any] = [
        lambda paper: paper.release(),
        lambda paper: paper.wait(61).expire(),
        lambda paper: (paper.release(), paper.take("t2")),
        lambda paper: paper.stop(),
        lambda paper: paper.client_fails(),
        lambda paper: paper.update(status="queued"),
        lambda paper: paper.set(status="queued"),
        lambda paper: paper.update(easeld=3),
        lambda paper: paper.update(cancel_requested=True, status="queued").take("t2"),
    ]
    for end in ends:
        paper = started()
        end(paper)
        assert orphan(paper)


def test_what_was_uploaded_before_the_claim_failed_or_was_cancelled_is_an_orphan() -> None:
    """The result carries the claim's token then, and names no media."""
    ends: list[Any] = [
        lambda paper: paper.fail(),
        lambda paper: paper.update(cancel_requested=True).cancel("t1"),
        lambda paper: paper.retry(maximum=1),
    ]
    for end in ends:
        paper = started()
        end(paper)
        assert paper["status"] in ("failed", "cancelled")
        assert orphan(paper)


def test_an_object_of_an_absent_document_is_left_to_its_own_claim() -> None:
    """A document that cannot be read proves nothing."""
    assert not orphan(Paper())


def test_a_name_may_be_as_long_as_the_bucket_takes() -> None:
    """The limit counts bytes."""
    check_name("é" * 512)
    with pytest.raises(Rejected, match="too long"):
        check_name("é" * 512 + "x")


def test_ids_of_any_legal_length_either_name_an_object_or_are_refused() -> None:
    """A document's name may be longer than an object's."""
    job = JobId(user_id="u" * 700, collection=Collection.IMAGES, file_uid="f" * 700)
    with pytest.raises(Rejected):
        check_name(object_names(job, 1, prefix="generating")[0])

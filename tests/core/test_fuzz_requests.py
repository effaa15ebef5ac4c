"""Hostile documents by the thousand: no decision ever raises, and every job of ours comes to an end.

``EASELD_FUZZ`` sets how many; ``EASELD_FUZZ_SEED`` another seed than the usual.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from daemon.core import lifecycle, submission
from daemon.core.errors import JobError, Rejected
from daemon.core.job import Changes, Collection, Document, JobId, Refusal, Why, apply
from daemon.core.objects import Mark, is_orphan
from daemon.core.policy import Ticket
from daemon.core.request import NAMES, Submission, canonical
from tests.core.samples import CALL, NOW, POLICY, outcome

COUNT = int(os.environ.get("EASELD_FUZZ", "10000"))
SEED = int(os.environ.get("EASELD_FUZZ_SEED", "20260101"))

TEXTS = [
    *("", " ", "\n", "a cat", "null", "NaN", "0", "true", "queued", "processing", "t1", "painter", "filmer"),
    *("\x00", "\ud800", "\udfff\ud800", "\u202e\u200d", "🤖" * 50, "e\u0301", "\ufeff", "%s{0}", "../..", "a.b"),
    *("__name__", "ﷺ" * 10, "'; DROP TABLE", "<script>", "\u2028", "x" * 5000, "١٢", "Ａ"),
]
NUMBERS = [
    *(0, 1, -1, 2, 16, 81, 82, 256, 512, 1024, 2**31, 2**53, 2**63 - 1, -(2**63), 10**40, -(10**400), True, False),
    *(0.0, -0.0, 0.5, 512.0, 512.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
]
TIMES: list[Any] = [
    *(NOW, NOW - timedelta(days=400), NOW + timedelta(days=400), datetime(2026, 1, 1)),  # noqa: DTZ001
    *(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)),
    *(datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))), "2026-01-01T00:00:00Z", 1_767_225_600),
]
OTHERS: list[Any] = [None, b"", b"\xff\x00", (), frozenset(), object(), 1j, timedelta(1), Ellipsis]
STATUSES = ["queued"] * 6 + ["processing"] * 3 + ["completed", "failed", "cancelled", "draft"]
OURS = [
    *("lease", "result", "attempts", "crashes", "expiries", "not_before", "request", "seeds", "model", "finishes"),
    *("replaces", "timings", "warnings"),
]
CAMEL = ["negativePrompt", "numImagesPerPrompt", "numInferenceSteps", "guidanceScale", "numFrames", "videoWidth"]
FIELDS = [
    *(*NAMES, *CAMEL, "user_id", "file_uid", "userId", "fileUid", "useCloudStorage"),
    *("created_at", "modified", "submitted_at", "failed_at", "completed_at", "cancel_requested", "error", "generated"),
    *("error_message", "error_type", "images", "image_url", "videos", "video_info", "progress", "task_type", "mood"),
]


class Fuzz:
    """A generator of hostile values, repeatable from its seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, depth: int = 0) -> Any:
        chance = self.random.random()
        if chance < 0.30:
            return self.random.choice(NUMBERS)
        if chance < 0.55:
            return self.random.choice(TEXTS)
        if chance < 0.65:
            return self.random.choice(TIMES)
        if chance < 0.78:
            return self.random.choice(OTHERS)
        if chance < 0.785:
            return self.deep(self.random.choice([20, 60, 200]))
        if depth > 2:
            return None
        if chance < 0.9:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        return {self.random.choice(TEXTS): self.value(depth + 1) for _ in range(self.random.randrange(4))}

    def deep(self, levels: int) -> Any:
        value: Any = 1
        for level in range(levels):
            value = [value] if level % 2 else {"a": value}
        return value

    def some(self, names: list[str], most: int) -> dict[str, Any]:
        return {name: self.value() for name in self.random.sample(names, self.random.randrange(most))}

    def sane(self, share: float, value: Any) -> Any:
        """``value``, or with a chance of ``share`` something else."""
        return self.value() if self.random.random() < share else value

    def lease(self) -> Any:
        lease = {"worker": "w1", "token": "t1", "attempt": 1, "seconds": 60.0, "renewed_at": NOW, "started": True}
        return self.sane(0.1, lease | {name: self.value() for name in lease if self.random.random() < 0.1})

    def ours(self) -> Any:
        found = self.some(OURS, 5)
        if self.random.random() < 0.5:
            found["lease"] = self.lease()
        if self.random.random() < 0.3:
            found["request"] = self.sane(0.3, canonical({"prompt": "a cat"}))
        if self.random.random() < 0.2:
            found["result"] = {"token": self.value(), "seed": self.value(), "finished_at": self.value()}
        return self.sane(0.2, found)

    def fields(self) -> dict[str, Any]:
        fields = self.some(FIELDS, 8)
        fields["status"] = self.sane(0.05, self.random.choice(STATUSES))
        if self.random.random() < 0.8:
            fields["prompt"] = self.sane(0.1, "a cat")
        if self.random.random() < 0.5:
            fields["easeld"] = self.ours()
        if self.random.random() < 0.01:
            fields["mood"] = "x" * 1_000_000
        return fields

    def document(self) -> Document:
        collection = self.random.choice(list(Collection))
        ids = (
            ["ada", "picture", "..", "a\nb", "\ud800", "x" * 1500, "__a__", "🤖"]
            if self.random.random() < 0.1
            else ["ada"]
        )
        job = JobId(user_id=self.random.choice(ids), collection=collection, file_uid=self.random.choice(ids))
        age = timedelta(seconds=self.random.choice([0, 1, 3, 61, 90_000]))
        return Document(id=job, fields=self.fields(), version=3, updated_at=NOW - age, read_at=NOW)


def decisions(fuzz: Fuzz, document: Document) -> dict[str, Callable[[Document, datetime], Changes | Refusal]]:
    """Everything that anybody may decide about a document."""
    ticket = Ticket(worker="w1", token="t9", seed=7)
    error = JobError(str(fuzz.random.choice(TEXTS)))
    made = outcome(document.id)
    return {
        "take": partial(lifecycle.take, policy=POLICY, ticket=ticket),
        "reclaim": partial(lifecycle.reclaim, token="t1", policy=POLICY, ticket=ticket),
        "renew": partial(lifecycle.renew, token="t1", started=True),
        "complete": partial(lifecycle.complete, token="t1", outcome=made),
        "fail": partial(lifecycle.fail, token="t1", error=error),
        "retry": partial(lifecycle.retry, token="t1", error=error, delay=timedelta(seconds=5), max_attempts=3),
        "release": partial(lifecycle.release, token="t1"),
        "cancel": lifecycle.cancel,
        "cancel held": partial(lifecycle.cancel, token="t1"),
        "expire": partial(lifecycle.expire, max_attempts=3),
        "stop": lifecycle.stop,
        "requeue": lifecycle.requeue,
        "give up": lifecycle.give_up,
        "submit": partial(submission.submit, values=canonical(CALL | {"width": 256})),
    }


def check(name: str, document: Document, decided: Changes | Refusal) -> None:
    """What may come of a decision, whatever it was made about."""
    if isinstance(decided, Refusal):
        assert (decided.until is not None) == (decided.why in (Why.NOT_YET, Why.ALIVE))
        return
    assert not decided.create
    after = apply(document.fields, decided, NOW)
    assert after["status"] in ("queued", "processing", "completed", "failed", "cancelled"), name
    if after["status"] == "failed" and name != "give up":
        assert after["error"] is True
        assert after["error_message"].encode() is not None
        assert after["error_type"] in ("Exception", "RuntimeError", "OutOfMemoryError")
    kept = {key for key in document.fields or {} if key not in after}
    assert "mood" not in kept, f"{name} deleted what is not ours"
    if decided.reason in ("job.completed", "job.failed", "job.cancelled") and name != "give up":
        assert not {"lease", "attempts", "not_before"} & set(after["easeld"])


@pytest.mark.usefixtures("uncounted")
def test_no_hostile_document_raises_and_every_queued_one_comes_to_an_end() -> None:
    """Every decision is a change or a refusal; after a day at the latest a queued job is claimed or ended."""
    fuzz = Fuzz(SEED)
    outcomes: dict[str, int] = {}
    for number in range(COUNT):
        document = fuzz.document()
        for name, decide in decisions(fuzz, document).items():
            try:
                decided = decide(document, NOW)
                check(name, document, decided)
            except Exception as exc:
                raise AssertionError(f"{name} of number {number}: {str(document)[:3000]}") from exc
            if name == "take":
                key = decided.reason if isinstance(decided, Changes) else decided.why.name
                outcomes[key] = outcomes.get(key, 0) + 1
                _comes_to_an_end(document, decided)
        lifecycle.preview(document, policy=POLICY)
        is_orphan(Mark(document=document.id.path, token="t1", attempt=1, claimed=1), document.fields)
    assert {"job.claimed", "job.failed", "job.cancelled", "NOT_YET", "NOT_QUEUED", "NOT_SERVED"} <= set(outcomes)


def _comes_to_an_end(document: Document, decided: Changes | Refusal) -> None:
    if (document.fields or {}).get("status") != "queued":
        assert decided == Refusal(why=Why.NOT_QUEUED)
        return
    if isinstance(decided, Refusal) and decided.why is Why.NOT_YET:
        assert decided.until is not None
        assert decided.until > NOW
    elif isinstance(decided, Refusal):
        assert decided.why is Why.NOT_SERVED
    else:
        return
    ticket = Ticket(worker="w1", token="t9", seed=7)
    assert isinstance(lifecycle.take(document, NOW + timedelta(days=2), policy=POLICY, ticket=ticket), Changes)


@pytest.mark.usefixtures("uncounted")
def test_no_hostile_call_raises_anything_but_its_refusal() -> None:
    """The message is text that JSON and a document can carry."""
    fuzz = Fuzz(SEED + 1)
    accepted = 0
    for _ in range(COUNT):
        call = CALL | fuzz.some(FIELDS, 4) if fuzz.random.random() < 0.8 else fuzz.fields()
        try:
            parsed = Submission.parse(call, max_prompt_characters=1000)
        except Rejected as exc:
            message = str(exc)
        else:
            message = "accepted"
            accepted += 1
            assert parsed.job(Collection.of(parsed.task)).path.encode()
        assert message.encode()
    assert accepted > COUNT // 100

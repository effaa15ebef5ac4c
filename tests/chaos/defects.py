"""Deliberate defects, each of which a run of chaos must notice. They exist in this process only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from daemon import publish
from daemon.core import lifecycle
from daemon.core.job import Changes, Decide, Document, JobId, Refusal, Why
from daemon.core.objects import ContentType, Mark, Placement, Present, StoredObject
from daemon.core.ports import BlobStore, Store
from daemon.core.record import Lease, Record, holder


class Through:
    """Everything as behind it, but for what a subclass changes."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class NoFence(Through):
    """A bucket whose uploads have no condition: the last one wins, and says that it was the first."""

    def put(self, name: str, content: bytes, placement: Placement) -> int | None:
        for _ in range(20):
            present = self._inner.look(name)
            changed = Placement(
                generation=present.generation if present else 0,
                content_type=placement.content_type,
                crc32c=placement.crc32c,
                mark=placement.mark,
            )
            generation: int | None = self._inner.put(name, content, changed)
            if generation is not None:
                return generation
        return None


class NoGenerations(Through):
    """A bucket that deletes whatever there is under a name."""

    def delete(self, name: str, generation: int) -> bool:
        present = self._inner.look(name)
        return present is not None and bool(self._inner.delete(name, present.generation))


class Twice(Through):
    """A store that writes each completion twice."""

    def update(self, target: Document | JobId, decide: Decide) -> Document | Refusal:
        reasons: list[str] = []

        def noted(document: Document, now: Any) -> Changes | Refusal:
            changes = decide(document, now)
            reasons.append(changes.reason if isinstance(changes, Changes) else "")
            return changes

        result: Document | Refusal = self._inner.update(target, noted)
        if isinstance(result, Document) and reasons[-1] == "job.completed":
            return self._inner.update(result.id, decide)  # type: ignore[no-any-return]
        return result


def _place_anywhere(
    existing: StoredObject | None, *, mark: Mark, crc32c: str, content_type: ContentType, may_adopt: bool
) -> Placement | Present:
    return Placement(
        generation=existing.generation if existing else 0, content_type=content_type, crc32c=crc32c, mark=mark
    )


def _any_token(document: Document, token: str) -> Lease | Refusal:
    return holder(document.fields) or Refusal(why=Why.NOT_PROCESSING)


def _ended_is_held(real: Callable[[Document, str], Lease | Refusal], document: Document, token: str) -> Lease | Refusal:
    result = Record.of(document.fields or {}).result
    if result is not None and result.token == token:
        return Lease(worker="", token=token, attempt=1, seconds=60.0, renewed_at=None, started=True)
    return real(document, token)


def commit(defect: str | None, store: Store, blobs: BlobStore) -> tuple[Any, Any]:
    """Put a defect into this process, or none; the store and the bucket to use."""
    match defect:
        case None:
            return store, blobs
        case "fencing":
            publish.place = _place_anywhere  # type: ignore[attr-defined]  # what it imports is no surface of its own
            return store, NoFence(blobs)
        case "token":
            lifecycle._held = _any_token
            return store, blobs
        case "delete":
            return store, NoGenerations(blobs)
        case "twice":
            lifecycle._held = partial(_ended_is_held, lifecycle._held)
            return Twice(store), blobs
        case _:
            raise ValueError(f"no such defect: {defect}")

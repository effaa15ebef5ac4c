"""Where a worker kills or freezes itself: wrappers around its store, its bucket and its models."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.core.job import Changes, Decide, Document, JobId, Refusal
from daemon.core.objects import Placement
from daemon.core.record import holder
from models.spec import Call, ModelSpec, OnLoad, OnStep, Resident
from tests.chaos.plan import CLAIMED, COMPLETED, COMPLETING, DELETING, PUTTING, STEP, UPLOADED

if TYPE_CHECKING:
    from daemon.core.ports import BlobStore, Store
    from models.spec import Frames, ModelKeeper

MOST_FREEZES = 3  # of one worker at one point: two that always freeze would hand a job to and fro for ever
POISON = "poison"  # a prompt that begins so kills whoever generates it


class Points:
    """Decides at each point whether this process goes on. What it does it notes first, one line each."""

    def __init__(self, kills: Mapping[str, float], freezes: Mapping[str, float], *, seed: int, notes: Path) -> None:
        self._kills = kills
        self._freezes = freezes
        self._random = random.Random(seed)
        self._frozen = Counter[str]()
        self._notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def reach(self, point: str, job: str = "") -> None:
        """Go on, or not."""
        chance = self._random.random() - self._kills.get(point, 0.0)
        if chance < 0:
            self.end("kill", point, job)
        if chance < self._freezes.get(point, 0.0) and self._frozen[point] < MOST_FREEZES:
            self._frozen[point] += 1
            self.end("freeze", point, job)

    def end(self, how: str, point: str, job: str) -> None:
        """Kill or freeze this process, now."""
        os.write(self._notes, f"{os.getpid()}\t{how}\t{point}\t{job}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        time.sleep(0.05)  # the signal reaches every thread in a moment; nothing more may happen in this one


class PointStore:
    """A store that comes by the points of claiming and completing."""

    def __init__(self, store: Store, points: Points) -> None:
        self._store = store
        self._points = points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def claim(self, document: Document, decide: Decide) -> Document | Refusal:
        result = self._store.claim(document, decide)
        if isinstance(result, Document) and holder(result.fields) is not None:
            self._points.reach(CLAIMED, document.id.path)
        return result

    def claim_together(self, claims: Sequence[tuple[Document, Decide]]) -> list[Document | Refusal] | None:
        results = self._store.claim_together(claims)
        for result in results or ():
            if isinstance(result, Document) and holder(result.fields) is not None:
                self._points.reach(CLAIMED, result.id.path)
        return results

    def update(self, target: Document | JobId, decide: Decide) -> Document | Refusal:
        path = (target.id if isinstance(target, Document) else target).path
        completing = False

        def passing(document: Document, now: datetime) -> Changes | Refusal:
            nonlocal completing
            changes = decide(document, now)
            if isinstance(changes, Changes) and changes.reason == "job.completed":
                if not completing:  # once: who comes back to a document that has changed decides again, and goes on
                    self._points.reach(COMPLETING, path)
                completing = True
            return changes

        result = self._store.update(target, passing)
        if completing and isinstance(result, Document):
            self._points.reach(COMPLETED, path)
        return result


class PointBlobs:
    """A bucket that comes by the points of uploading and deleting."""

    def __init__(self, blobs: BlobStore, points: Points) -> None:
        self._blobs = blobs
        self._points = points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    def put(self, name: str, content: bytes, placement: Placement) -> int | None:
        self._points.reach(PUTTING, placement.mark.document)
        generation = self._blobs.put(name, content, placement)
        if generation is not None:
            self._points.reach(UPLOADED, placement.mark.document)
        return generation

    def delete(self, name: str, generation: int) -> bool:
        self._points.reach(DELETING, _document(name))
        return self._blobs.delete(name, generation)


def _document(name: str) -> str:
    """The document that an object is of, in a run whose jobs have plain names."""
    _, user, folder, file = name.split("/")
    return f"generations/{user}/{folder}s/{file.partition('.')[0].partition('_')[0]}"


class PointKeeper:
    """A keeper whose models come by a point at each step, and die of poison."""

    def __init__(self, keeper: ModelKeeper, points: Points) -> None:
        self._keeper = keeper
        self._points = points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._keeper, name)

    def resident(self, spec: ModelSpec, on_load: OnLoad) -> Resident:
        return _PointModel(self._keeper.resident(spec, on_load), self._points)


class _PointModel:
    def __init__(self, model: Resident, points: Points) -> None:
        self._model = model
        self._points = points

    @property
    def spec(self) -> ModelSpec:
        return self._model.spec

    def generate(self, call: Call, on_step: OnStep) -> Sequence[Frames]:
        return self._model.generate(call, self._watched(call, on_step))

    def _watched(self, call: Call, on_step: OnStep) -> Callable[[int, int], None]:
        poisoned = any(item.prompt.startswith(POISON) for item in call.items)

        def step(number: int, steps: int) -> None:
            on_step(number, steps)
            self._points.reach(STEP)
            if poisoned and number > 2:
                self._points.end("kill", POISON, "")

        return step

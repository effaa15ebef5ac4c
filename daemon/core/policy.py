"""The values that decisions work with: what a worker serves and allows, one claim, progress, and an outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.spec import ModelSpec, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a worker needs to know to decide about queued jobs. Durations in seconds."""

    models: Mapping[str, ModelSpec]  # those that this worker serves, by name
    defaults: Mapping[Task, str]  # the model that serves a request that names none
    fleet: Fleet | None = None  # what all workers together serve, where the operator declares it
    lease_seconds: float = 60.0
    settling_seconds: float = 2.0  # a document without ``submitted_at`` may still get its parameters through the shim
    max_queue_seconds: float = 86_400.0
    max_attempts: int = 3
    max_expiries: int = 20  # leases that may end before an attempt counts: they cost none, but not for ever
    max_prompt_characters: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The models that all workers together serve. Jobs outside it fail after ``unserved_after`` seconds."""

    models: frozenset[str]
    defaults: Mapping[Task, str]
    unserved_after: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What makes one claim unlike any other. ``seed`` (32 bits) serves a request that names none."""

    worker: str
    token: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a job stands, for whoever waits for it."""

    phase: str
    step: int = 0
    steps: int = 0
    eta_seconds: float | None = None
    preview_url: str | None = None  # of a small picture of what is being made, where that is wanted

    def fields(self) -> dict[str, Any]:
        percent = round(100 * self.step / self.steps) if self.steps else 0
        return {
            "phase": self.phase,
            "step": self.step,
            "steps": self.steps,
            "percent": percent,
            "eta_seconds": self.eta_seconds,
            **({"preview_url": self.preview_url} if self.preview_url is not None else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a finished job made. ``generations`` are its objects' generations, in the order of ``addresses``."""

    addresses: Sequence[str]
    generations: Sequence[int]
    seed: int
    video_info: Mapping[str, Any] | None = None
    timings: Mapping[str, float] = field(default_factory=dict)  # seconds per stage
    made_with: Mapping[str, str] = field(default_factory=dict)  # the software and the weights
    warnings: Sequence[str] = ()

"""Every transition of a job: pure decisions from a document and the store's time to the fields to write, or a refusal.

``take``, ``renew``, ``complete``, ``fail``, ``retry``, ``release`` and ``cancel`` are the worker's; ``expire`` is the
rescue's; ``stop``, ``requeue`` and ``adopt`` are the operator's. The shim's are in ``submission``. The worker's later
writes all check the claim's token: that is the fence. Terminal states are written once in a life.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from daemon.core import request as requests
from daemon.core.errors import Crashed, JobError, Rejected
from daemon.core.job import SERVER_TIME, TERMINAL, Changes, Collection, Document, Refusal, Status, Why
from daemon.core.life import asked, begun_anew, cancelled, failed, new_life, queued, submitted_anew, terminal
from daemon.core.plan import Work
from daemon.core.policy import Outcome, Policy, Progress, Ticket
from daemon.core.record import Lease, Record, expires_at, texts
from daemon.core.request import Canonical
from models.spec import ModelSpec, Task

CANCELLED_BY_OPERATOR = "Cancelled by the operator"


# The worker's


def take(document: Document, now: datetime, *, policy: Policy, ticket: Ticket) -> Changes | Refusal:
    """Claim a queued job, or end it where there is nothing to claim: cancelled, too old, or no valid request."""
    fields = document.fields
    if fields is None:
        return Refusal(why=Why.ABSENT)
    if fields.get("status") != Status.QUEUED:
        return Refusal(why=Why.NOT_QUEUED)
    if fields.get("cancel_requested") is True:
        return terminal(document, "job.cancelled", cancelled())
    if now - document.updated_at > timedelta(seconds=policy.max_queue_seconds):
        return failed(
            document, Rejected(f"Waited in the queue for more than {policy.max_queue_seconds / 3600:g} hours")
        )
    until = _claimable_at(document, policy)
    if now < until:
        return Refusal(why=Why.NOT_YET, until=until)
    wanted = asked(fields)
    spec = _model(document.id.collection.task, wanted.get("model"), policy)
    if spec is None:
        return _unserved(document, now, wanted.get("model"), policy)
    return _claim(document, wanted, spec, policy, ticket)


def reclaim(document: Document, now: datetime, *, token: str, policy: Policy, ticket: Ticket) -> Changes | Refusal:
    """Start over in place with a request that was changed after the claim: a new token, the attempt not counted."""
    lease = _held(document, token)
    if isinstance(lease, Refusal):
        return lease
    fields = document.fields or {}
    if fields.get("cancel_requested") is True:
        return terminal(document, "job.cancelled", cancelled(), token=token)
    wanted = asked(fields)
    spec = _model(document.id.collection.task, wanted.get("model"), policy)
    if spec is None:  # somebody else may serve what it asks for now
        return release(document, now, token=token)
    return _claim(document, wanted, spec, policy, ticket, held=lease)


def renew(
    document: Document, now: datetime, *, token: str, started: bool = False, progress: Progress | None = None
) -> Changes | Refusal:
    """Keep a job: the lease and ``modified`` move on. With ``started`` generation has begun: the attempt counts."""
    lease = _undisturbed(document, token)
    if isinstance(lease, Refusal):
        return lease
    fields: dict[str, Any] = {"modified": SERVER_TIME, "easeld.lease.renewed_at": SERVER_TIME}
    if progress is not None:
        fields["progress"] = progress.fields()
    if started and not lease.started:
        fields |= {"easeld.lease.started": True, "easeld.attempts": Record.of(document.fields or {}).attempts + 1}
    return Changes(reason="job.renewed", fields=fields)


def complete(document: Document, now: datetime, *, token: str, outcome: Outcome) -> Changes | Refusal:
    """Finish a job with its media: the terminal write."""
    lease = _undisturbed(document, token)
    if isinstance(lease, Refusal):
        return lease
    addresses = list(outcome.addresses)
    if document.id.collection is Collection.IMAGES:
        media = {"images": addresses, "image_url": addresses[0], "image_count": len(addresses)}
    else:
        media = {"videos": addresses, "video_url": addresses[0], "video_info": dict(outcome.video_info or {})}
    fields = {
        "status": Status.COMPLETED.value,
        "generated": True,
        "error": False,
        "completed_at": SERVER_TIME,
        "seed": outcome.seed,
        "task_type": document.id.collection.task.value,
        **media,
    }
    ours: dict[str, Any] = {"timings": dict(outcome.timings)}
    if outcome.made_with:
        ours["made_with"] = dict(outcome.made_with)
    if outcome.warnings:
        ours["warnings"] = list(outcome.warnings)
    return terminal(document, "job.completed", fields, token=token, ours=ours, outcome=outcome)


def fail(document: Document, now: datetime, *, token: str, error: JobError) -> Changes | Refusal:
    """End a held job that another attempt would not help."""
    lease = _undisturbed(document, token)
    if isinstance(lease, Refusal):
        return lease
    return failed(document, error, token=token)


def retry(
    document: Document, now: datetime, *, token: str, error: JobError, delay: timedelta, max_attempts: int
) -> Changes | Refusal:
    """Give a job back after a passing trouble, to be tried after ``delay``; fail it when its attempts are spent."""
    lease = _undisturbed(document, token)
    if isinstance(lease, Refusal):
        return lease
    record = Record.of(document.fields or {})
    attempts = record.attempts if lease.started else record.attempts + 1
    if attempts >= max_attempts:
        spent = JobError(f"{error} (attempt {attempts} of {max_attempts})", error_type=error.error_type)
        return failed(document, spent, token=token)
    crashes = record.crashes + isinstance(error, Crashed)
    return queued(document, "job.retried", {"attempts": attempts, "crashes": crashes, "not_before": now + delay})


def release(document: Document, now: datetime, *, token: str) -> Changes | Refusal:
    """Give a job back because we stop; the attempt is not counted."""
    lease = _held(document, token)
    if isinstance(lease, Refusal):
        return lease
    attempts = Record.of(document.fields or {}).attempts
    return queued(document, "job.released", {"attempts": max(0, attempts - 1) if lease.started else attempts})


def cancel(document: Document, now: datetime, *, token: str | None = None) -> Changes | Refusal:
    """End a job whose client asked for it: a queued one, or with ``token`` the one that we hold."""
    fields = document.fields
    if fields is None:
        return Refusal(why=Why.ABSENT)
    if fields.get("cancel_requested") is not True:
        return Refusal(why=Why.DONE)
    if token is None and fields.get("status") != Status.QUEUED:
        return Refusal(why=Why.NOT_QUEUED)
    if token is not None and isinstance(lease := _held(document, token), Refusal):
        return lease
    return terminal(document, "job.cancelled", cancelled(), token=token)


# The rescue's


def expire(
    document: Document, now: datetime, *, max_attempts: int, max_expiries: int = 20, dead: str | None = None
) -> Changes | Refusal:
    """Give back a job whose holder's lease has ended, or end it when it has cost too many workers.

    ``dead`` is the token of a claim whose holder is known to have died: its lease counts as ended. A processing
    document without a lease of ours belongs to an older worker and stays untouched.
    """
    if document.fields is None or document.fields.get("status") != Status.PROCESSING:
        return Refusal(why=Why.NOT_PROCESSING)
    record = Record.of(document.fields)
    lease = record.lease
    if lease is None:
        return Refusal(why=Why.NOT_OURS)
    until = expires_at(document, lease)
    if now < until and lease.token != dead:
        return Refusal(why=Why.ALIVE, until=until)
    if document.fields.get("cancel_requested") is True:
        return terminal(document, "job.cancelled", cancelled())
    if not lease.started:
        expiries = record.expiries + 1
        if expiries >= max_expiries:
            return failed(
                document,
                JobError(f"Lost by {expiries} workers before generation was under way", error_type="RuntimeError"),
            )
        return queued(document, "job.rescued", {"expiries": expiries})
    if record.attempts >= max_attempts:
        message = f"The worker stopped during generation, {record.attempts} of {max_attempts} attempts"
        return failed(document, JobError(message, error_type="RuntimeError"))
    return queued(document, "job.rescued", {"crashes": record.crashes + 1})


# The operator's


def stop(document: Document, now: datetime) -> Changes | Refusal:
    """Cancel an active job for the operator. Its holder notices at its next write."""
    fields = document.fields
    if fields is None:
        return Refusal(why=Why.ABSENT)
    if fields.get("status") not in (Status.QUEUED, Status.PROCESSING):
        return Refusal(why=Why.DONE)
    return failed(document, Rejected(CANCELLED_BY_OPERATOR))


def requeue(document: Document, now: datetime) -> Changes | Refusal:
    """Queue an ended job again: a new life, with the parameters that the document has."""
    fields = document.fields
    if fields is None:
        return Refusal(why=Why.ABSENT)
    if fields.get("status") not in TERMINAL:
        return Refusal(why=Why.DONE)
    return Changes(reason="job.requeued", fields=begun_anew(fields) | {"status": Status.QUEUED.value})


def adopt(document: Document, now: datetime, *, untouched: timedelta, queue: bool) -> Changes | Refusal:
    """Fail, or with ``queue`` queue again, what a worker that is none of ours has left ``processing``.

    Only a document that nobody has written to for so long: the other worker may still be at it.
    """
    fields = document.fields
    if fields is None:
        return Refusal(why=Why.ABSENT)
    if fields.get("status") != Status.PROCESSING:
        return Refusal(why=Why.NOT_PROCESSING)
    if Record.of(fields).lease is not None:
        return Refusal(why=Why.ALIVE)
    until = document.updated_at + untouched
    if now < until:
        return Refusal(why=Why.NOT_YET, until=until)
    if queue:
        return Changes(reason="job.adopted", fields=begun_anew(fields) | {"status": Status.QUEUED.value})
    theirs = replace(document, fields={name: value for name, value in fields.items() if name != "easeld"})
    return failed(theirs, JobError("The worker that had this job has stopped", error_type="RuntimeError"))


def give_up(document: Document, now: datetime, *, token: str | None = None) -> Changes | Refusal:
    """End a queued document, or with ``token`` the one that we hold, that is too large for anything more than this."""
    if token is not None and isinstance(refusal := _held(document, token), Refusal):
        return refusal
    if token is None and (document.fields or {}).get("status") != Status.QUEUED:
        return Refusal(why=Why.NOT_QUEUED)
    return Changes(reason="job.failed", fields={"status": Status.FAILED.value, "error": True})


# Rules of a claim


def preview(document: Document, *, policy: Policy) -> Work | None:
    """What a queued job would ask of the device; ``None`` where a claim would not bring it there."""
    fields = document.fields or {}
    wanted, record = asked(fields), Record.of(fields)
    spec = _model(document.id.collection.task, wanted.get("model"), policy)
    if spec is None:
        return None
    try:
        valid = _check(wanted, document, spec, policy)
    except Rejected:
        return None
    alone = record.cost_workers and not record.new_life
    return Work(spec=spec, request=valid, seeds=(0,) * valid.count(spec.task), alone=alone)


def _claimable_at(document: Document, policy: Policy) -> datetime:
    fields = document.fields or {}
    record = Record.of(fields)
    if not record.new_life:
        return record.not_before or document.updated_at
    if submitted_anew(fields):
        return document.updated_at
    return document.updated_at + timedelta(seconds=policy.settling_seconds)


def _model(task: Task, name: object, policy: Policy) -> ModelSpec | None:
    """The model of ours that the request names, or our default for its task; a mistyped name is refused later."""
    return policy.models.get(name if isinstance(name, str) else policy.defaults.get(task, ""))


def _check(wanted: Canonical, document: Document, spec: ModelSpec, policy: Policy) -> requests.Request:
    """The valid request of a job for one of our models.

    Raises:
        Rejected: with the contract's message.
    """
    task = document.id.collection.task
    if spec.task is not task:
        raise Rejected(f"The model {spec.name} does not do {task}")
    requests.check_ids(document.id, document.fields or {})
    valid = requests.validate(wanted, max_prompt_characters=policy.max_prompt_characters)
    requests.check_limits(valid, spec)
    return valid


def _unserved(document: Document, now: datetime, name: object, policy: Policy) -> Changes | Refusal:
    task, fleet = document.id.collection.task, policy.fleet
    if fleet is None:
        return Refusal(why=Why.NOT_SERVED)
    if isinstance(name, str) and name not in fleet.models:  # none that should be there: clients are told at once
        return failed(document, Rejected(f"No worker serves the model {name}"))
    if isinstance(name, str) or fleet.defaults.get(task) in fleet.models:
        return Refusal(why=Why.NOT_SERVED)
    if now - document.updated_at < timedelta(seconds=fleet.unserved_after):
        return Refusal(why=Why.NOT_SERVED)
    return failed(document, JobError(f"No worker serves {task}", error_type="ModelNotAvailable"))


def _claim(
    document: Document,
    wanted: dict[str, Any],
    spec: ModelSpec,
    policy: Policy,
    ticket: Ticket,
    *,
    held: Lease | None = None,
) -> Changes:
    fields = document.fields or {}
    record = Record.of(fields)
    token = held.token if held else None
    fresh = held is None and record.new_life
    try:
        valid = _check(wanted, document, spec, policy)
    except Rejected as exc:
        return failed(document, exc, token=token)
    attempts = 0 if fresh else max(0, record.attempts - (1 if held and held.started else 0))
    seed = valid.seed
    if seed is None:
        kept = record.seeds and not fresh and (record.request or {}).get("seed") is None
        seed = record.seeds[0] if kept else ticket.seed
    lease = {
        "worker": ticket.worker,
        "token": ticket.token,
        "attempt": attempts + 1,
        "seconds": policy.lease_seconds,
        "renewed_at": SERVER_TIME,
        "started": False,
    }
    ours = {
        "lease": lease,
        "attempts": attempts,
        "crashes": 0 if fresh else record.crashes,
        "expiries": 0 if fresh else record.expiries,
        "request": {name: value for name, value in wanted.items() if value is not None},  # each field costs a write
        "seeds": [seed + index for index in range(valid.count(spec.task))],
        "model": spec.name,
    }
    replaces = texts(fields.get("images")) | texts(fields.get("videos")) if fresh else record.replaces
    if replaces:
        ours["replaces"] = sorted(replaces)
    changes = {
        **(new_life(fields) if fresh else {}),
        "status": Status.PROCESSING.value,
        "modified": SERVER_TIME,
        "progress": Progress(phase="claimed", steps=valid.num_inference_steps).fields(),
        "easeld": ours,
    }
    return Changes(reason="job.reclaimed" if held else "job.claimed", fields=changes)


# Fences


def _held(document: Document, token: str) -> Lease | Refusal:
    """The lease, where the document is still held by this very claim."""
    if document.fields is None:
        return Refusal(why=Why.ABSENT)
    if document.fields.get("status") != Status.PROCESSING:
        return Refusal(why=Why.NOT_PROCESSING)
    lease = Record.of(document.fields).lease
    if lease is None or lease.token != token:
        return Refusal(why=Why.NOT_OURS)
    return lease


def _undisturbed(document: Document, token: str) -> Lease | Refusal:
    """As ``_held``, and its client has neither asked for cancellation nor for something else since."""
    lease = _held(document, token)
    if isinstance(lease, Refusal):
        return lease
    fields = document.fields or {}
    if fields.get("cancel_requested") is True:
        return Refusal(why=Why.CANCEL_REQUESTED)
    claimed = Record.of(fields).request
    if claimed is None or not requests.same(asked(fields), claimed):
        return Refusal(why=Why.CHANGED)
    return lease

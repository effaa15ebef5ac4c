"""The flow of a job through one worker: claim, plan, generate, publish. ``Worker.generate`` is its middle."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

import structlog
from structlog.contextvars import bound_contextvars

from daemon.claiming import Claimer
from daemon.core import lifecycle, plan, retry
from daemon.core.errors import (
    BlobsUnavailable,
    Crashed,
    DocumentTooLarge,
    Failed,
    Interrupted,
    JobError,
    LeaseLost,
    Retryable,
    StoreUnavailable,
)
from daemon.core.job import Document, JobId, Refusal, Status, Why
from daemon.core.policy import Policy
from daemon.core.record import Record
from daemon.generation import Generation
from daemon.heartbeat import Heartbeat
from daemon.held import Held
from daemon.metrics import Metrics
from daemon.publish import Publisher
from daemon.room import Room
from daemon.shutdown import EXIT_BROKEN, EXIT_DEVICE, Shutdown
from daemon.vitals import Vitals
from models import errors as model_errors
from models.spec import ModelKeeper

if TYPE_CHECKING:
    from models.spec import Frames

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.5  # seconds between two looks at whether to stop
CALL = 120.0  # seconds that one call of the store or the bucket may take, with all its repetitions
UNFORESEEN = "The worker failed in a way that nobody foresaw; its log says how"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What one device does with claimed jobs. ``claim`` and ``device`` each run in a thread of their own."""

    policy: Policy
    max_batch: int  # items in one pipeline call
    exact: bool  # whether every call has as many
    claimer: Claimer
    keeper: ModelKeeper
    publisher: Publisher
    heartbeat: Heartbeat
    room: Room
    finishers: ThreadPoolExecutor  # publish; each waits for its bucket, however long that is away
    closers: ThreadPoolExecutor  # end and give back, which must not wait behind those
    shutdown: Shutdown
    metrics: Metrics
    vitals: Vitals
    step_seconds: float  # that a step of a small picture may take
    previews: bool  # whether small pictures of what forms are kept, for the page or the bucket
    uploads_previews: bool  # whether they go into the bucket, and so have to be removed from it
    stages: set[Future[None]] = field(default_factory=set)  # what runs or waits in the pools

    def claim(self, draining: Event) -> None:
        """Claim while there is room, until the worker drains; then give back what the device has not begun."""
        while not draining.is_set():
            if not self.room.wait_for_claim(LOOK_EVERY):
                continue
            if not (batch := self.claimer.next(draining)):
                continue
            self.heartbeat.keep(batch)
            if not self.room.put(batch):
                self._spawn_each(self.release, batch)

    def close(self) -> None:
        """Let the device take no more, and give back at once what it has not begun."""
        self._spawn_each(self.release, self.room.close())

    def device(self) -> None:
        """Generate what is ready until the room is closed."""
        idle_since = time.monotonic()
        while not self.shutdown.draining.is_set() and (batch := self.room.take()) is not None:
            self.metrics.idle.observe(time.monotonic() - idle_since)
            try:
                self.generate(batch)
            except Exception as error:  # a defect of ours: its jobs must count it, lest they stop every worker in turn
                self._break("generate", error)
                self._spawn_each(self.end, batch, Crashed(UNFORESEEN))
                raise
            idle_since = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether anything is still being ended, given back or cleaned up."""
        return bool(self.stages)

    def step_limit(self, batch: Sequence[Held]) -> float:
        """How many seconds a step of a batch may take, decoding after the last one too."""
        return self.step_seconds * plan.weight([held.work for held in batch])

    def generate(self, batch: Sequence[Held]) -> None:
        """Bring claimed jobs to their frames and hand them to the finishers, or end or give them back."""
        generation = Generation(
            batch,
            max_items=self.max_batch,
            exact=self.exact,
            count=self.heartbeat.count,
            leave=lambda held: self._spawn(self.settle, held),
            moved=self.room.moved,
            loading=self.room.loading,
            interrupted=self.shutdown.now.is_set,
            previews=self.previews,
        )
        self.metrics.batches.observe(sum(len(held.work.seeds) for held in batch))
        try:
            with bound_contextvars(jobs=[held.id.path for held in batch]):  # for what a model says in the log
                frames = generation.frames(self.keeper)
        except (LeaseLost, Interrupted):
            self._spawn_each(self.release, generation.members)
        except model_errors.DeviceLost as exc:
            self._spawn_each(self.end, generation.members, Crashed(str(exc)))
            self.shutdown.stop(str(exc), status=EXIT_DEVICE)
        except model_errors.ModelError as exc:
            self._fail_or_split(generation.members, exc)
        else:
            for held, pictures in frames:
                self.room.finishing(+1)
                within = CALL + self.step_limit([held])  # each call of a remote gives a sign; encoding takes less
                self._spawn(self.finish, held, pictures, pool=self.finishers, within=within)

    def _fail_or_split(self, members: Sequence[Held], error: model_errors.ModelError) -> None:
        """End a job that cannot be generated. In a batch halving finds it, and the others succeed."""
        about_model = isinstance(error, model_errors.ModelMissing | model_errors.DeviceUnfit)
        if len(members) > 1 and not about_model:
            log.warning("batch.split", jobs=[held.id.path for held in members], error=str(error))
            middle = len(members) // 2
            for half in (members[:middle], members[middle:]):
                if self.shutdown.now.is_set():  # the first half has lost the device
                    self._spawn_each(self.release, half)
                else:
                    self.generate(half)
            return
        self._spawn_each(self.end, members, job_error(error))

    def finish(self, held: Held, frames: Sequence[Frames]) -> None:
        """Publish a job's media; in the finisher pool."""
        try:
            document = self.publisher.publish(held, frames)
        except (LeaseLost, Interrupted):
            self.settle(held)
        except JobError as exc:
            self.end(held, exc)
        except DocumentTooLarge as exc:
            self.end(held, Failed(f"The document has no room for the result: {exc}"))
        except Exception as error:
            self._break("finish", error)
            self.end(held, Crashed(UNFORESEEN))
            raise
        else:
            self.report(document, **held.timings)
            self._forget(held)
        finally:
            self.room.finishing(-1)

    def settle(self, held: Held) -> None:
        """Do what the end of a claim asks for: cancel, start over, give back, or nothing at all."""
        why = held.gone.why if held.gone else None
        if why is None:
            self.release(held)
            return
        self.metrics.losses.labels(why.name.lower()).inc()
        log.info("job.lost", job=held.id.path, why=why.value)
        try:
            if why is Why.CANCEL_REQUESTED:
                result = held.write(partial(lifecycle.cancel, token=held.token), afresh=True)
                if isinstance(result, Document):
                    self.report(result)
            elif why is Why.CHANGED and not self.shutdown.draining.is_set():
                again = held.reclaim(self.policy, self.claimer.ticket())
                if again is not None:
                    self.heartbeat.keep([again])
                    if not self.room.put([again]):
                        self.release(again)
            elif why is Why.CHANGED:
                held.write(partial(lifecycle.release, token=held.token))
        except (StoreUnavailable, DocumentTooLarge) as exc:
            log.warning("job.left_to_rescue", job=held.id.path, error=str(exc))
        self._forget(held)

    def end(self, held: Held, error: JobError) -> None:
        """Fail a job, or give it back to be tried again later."""
        decide = partial(lifecycle.fail, token=held.token, error=error)
        if isinstance(error, Retryable):
            decide = partial(
                lifecycle.retry,
                token=held.token,
                error=error,
                delay=retry.backoff(held.mark.attempt, chance=random.random()),
                max_attempts=self.policy.max_attempts,
            )
        try:
            try:
                result = held.write(decide)
            except DocumentTooLarge:
                result = held.write(partial(lifecycle.give_up, token=held.token))
            if not isinstance(result, Document):  # cancelled or changed meanwhile, say
                self.settle(held)
                return
            if (result.fields or {}).get("status") == Status.QUEUED:
                self.metrics.retries.inc()
            self.report(result, error=str(error))
        except (StoreUnavailable, DocumentTooLarge) as exc:
            log.warning("job.left_to_rescue", job=held.id.path, error=str(exc))
        self._forget(held)

    def release(self, held: Held) -> None:
        """Give a job back, its attempt not counted."""
        try:
            if isinstance(held.write(partial(lifecycle.release, token=held.token)), Document):
                log.info("job.released", job=held.id.path)
        except (StoreUnavailable, DocumentTooLarge) as exc:
            log.warning("job.left_to_rescue", job=held.id.path, error=str(exc))
        self._forget(held)

    def report(self, document: Document, **more: object) -> None:
        """Count and log a job that ended or was given back, in one line."""
        fields = document.fields or {}
        status, task = str(fields.get("status")), document.id.collection.task.value
        self.metrics.jobs.labels(task, status).inc()
        if status == Status.FAILED:
            self.metrics.failures.labels(str(fields.get("error_type"))).inc()
        for stage, seconds in more.items():
            if isinstance(seconds, float):
                self.metrics.stages.labels(stage).observe(seconds)
        summary = {name: fields[name] for name in ("error_type", "error_message", "seed") if name in fields}
        if (model := Record.of(fields).raw.get("model")) is not None:
            summary["model"] = model
        log.info("job.ended", job=document.id.path, status=status, task=task, **summary, **more)

    def ended(self, document: Document) -> None:
        """A job ended, or went back, outside of any claim of ours: report it, and leave no file of its claims."""
        self.report(document)
        self._spawn(self._clean, document.id)

    def _spawn_each(self, stage: Callable[..., None], members: Sequence[Held], *arguments: object) -> None:
        for held in members:
            self._spawn(stage, held, *arguments)

    def _spawn(
        self,
        stage: Callable[..., None],
        of: Held | JobId,
        *arguments: object,
        pool: ThreadPoolExecutor | None = None,
        within: float = CALL,
    ) -> None:
        """Run a stage in a pool, the closers' by default, that gives signs of life ``within`` so many seconds.

        What it does not expect is a defect, and stops the worker.
        """
        job = (of.id if isinstance(of, Held) else of).path

        def run() -> None:
            with self.vitals.working(within=within), bound_contextvars(job=job):
                stage(of, *arguments)

        def ended(future: Future[None]) -> None:
            self.stages.discard(future)
            if not future.cancelled() and (error := future.exception()) is not None:
                log.error("worker.broken", stage=stage.__name__, job=job, exc_info=error)
                self._break(stage.__name__, error)

        future = (pool or self.closers).submit(run)
        self.stages.add(future)
        future.add_done_callback(ended)

    def _break(self, what: str, error: BaseException) -> None:
        """Stop the worker for a defect; before its job is queued again, or it would claim it once more itself."""
        self.shutdown.stop(f"{what} failed: {error}", status=EXIT_BROKEN)

    def _forget(self, held: Held) -> None:
        """The claim is over: renew it no more, and leave nothing of it in the bucket that no document names."""
        held.gone = held.gone or Refusal(why=Why.DONE)  # before the look into the bucket: no preview comes after it
        self.heartbeat.forget(held)
        if held.litter or self.uploads_previews:
            self._clean(held.id, held.token, media=held.litter)

    def clean_preview(self, held: Held) -> None:
        """Remove what came of a preview whose upload outlived its claim."""
        self._clean(held.id, held.token, media=False)

    def _clean(self, job: JobId, token: str | None = None, *, media: bool = True) -> None:
        try:
            self.publisher.clean(job, token=token, media=media)
        except (StoreUnavailable, BlobsUnavailable) as exc:
            log.warning("job.not_cleaned", job=job.path, error=str(exc))


def job_error(error: model_errors.ModelError) -> JobError:
    """A model's error as the job's, with what its reader can do."""
    if isinstance(error, model_errors.ModelAway | model_errors.DeviceUnfit):  # another worker may do better
        return Retryable(str(error), error_type="ModelNotAvailable")
    if isinstance(error, model_errors.ModelMissing):
        return JobError(str(error), error_type="ModelNotAvailable")
    if isinstance(error, model_errors.OutOfMemory):
        return JobError(str(error), error_type="OutOfMemoryError")
    return Failed(str(error))

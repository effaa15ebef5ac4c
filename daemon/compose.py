"""Puts a worker together from settings. What opens the stores alone lies in ``stores``, which is light to import."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import structlog

from daemon import fitness
from daemon.adapters.systemd import Systemd
from daemon.backlog import Backlog
from daemon.chronicle import Chronicle
from daemon.claiming import Claimer
from daemon.core.job import Collection, Document
from daemon.core.policy import Policy
from daemon.core.ports import BlobStore, Store, Supervisor
from daemon.heartbeat import Heartbeat
from daemon.listener import Listener
from daemon.metrics import Metrics, Sample
from daemon.observed import ObservedBlobs, ObservedStore
from daemon.own_claims import OwnClaims
from daemon.previews import Previews
from daemon.provenance import Provenance
from daemon.publish import Publisher
from daemon.rescue import Cancellations, Rescue
from daemon.room import Room
from daemon.service import Service
from daemon.serving import policy, served
from daemon.settings import Settings
from daemon.shutdown import Shutdown
from daemon.stores import open_blobs, open_store
from daemon.vitals import Vitals
from daemon.worker import Worker
from models.errors import DeviceLost, ModelError
from models.keeper import Keeper
from models.spec import ModelKeeper

__all__ = ["open_blobs", "open_store", "policy", "served", "service"]

log = structlog.get_logger(__name__)

CLOSERS = 4  # threads that end jobs and give them back


def service(
    settings: Settings,
    store: Store,
    blobs: BlobStore,
    *,
    shutdown: Shutdown,
    keeper: ModelKeeper | None = None,
    supervisor: Supervisor | None = None,
) -> Service:
    """Put one worker together; ``keeper`` and ``supervisor`` stand in for those of the settings and environment.

    Raises:
        WrongSettings: the settings do not fit together.
    """
    models = served(settings)
    rules = policy(settings, models)
    collections = list(Collection) if rules.fleet else [Collection.of(task) for task in rules.defaults]
    metrics, vitals = Metrics(worker=settings.worker), Vitals()
    store, blobs = ObservedStore(store, metrics=metrics, vitals=vitals), ObservedBlobs(blobs, vitals=vitals)
    keeper = keeper or Keeper(
        cache_dir=settings.cache,
        device=settings.device,
        threads=settings.threads,
        host_memory=None if settings.host_memory is None else int(settings.host_memory * 2**30),
        speed=settings.speed,
    )
    own_claims = _own_claims(settings)
    heartbeat = Heartbeat(
        interval=settings.heartbeat,
        progress_interval=settings.progress_interval,
        note=own_claims.write if own_claims else lambda _: None,
    )
    finishers = ThreadPoolExecutor(settings.finishing, thread_name_prefix="finisher")
    closers = ThreadPoolExecutor(CLOSERS, thread_name_prefix="closer")

    def ended(document: Document) -> None:
        worker.ended(document)

    def rescued(document: Document) -> None:
        metrics.rescues.inc()
        worker.ended(document)

    def wake_claimer() -> None:
        claimer.wake.set()

    mended = metrics.mends.labels
    queue = Listener(
        "queue",
        lambda: store.listen(collections, wake_claimer),
        mended=mended("queue").inc,
        needed=lambda: not claimer.behind,
    )
    claimer = Claimer(
        store,
        rules,
        worker=settings.worker,
        collections=collections,
        listener_alive=lambda: queue.alive,
        news=queue.news,
        ended=ended,
        max_batch=settings.max_batch,
        loaded=keeper.is_resident,
        quota=settings.quota,
    )
    cancellations = Cancellations(store, heartbeat, cancelled=ended)
    cancels = Listener(
        "cancellations",
        lambda: store.listen_cancellations(collections, cancellations.wake.set),
        mended=mended("cancellations").inc,
        needed=heartbeat.lasting,
    )
    worker = Worker(
        policy=rules,
        max_batch=settings.max_batch,
        exact=settings.exact,
        claimer=claimer,
        keeper=keeper,
        publisher=Publisher(
            store=store,
            blobs=blobs,
            prefix=settings.prefix,
            patience=settings.patience,
            stopped=shutdown.now,
            provenance=Provenance(
                written=settings.provenance, prompts=settings.provenance_prompts, speed=settings.speed
            ),
        ),
        heartbeat=heartbeat,
        room=Room(prefetch=settings.prefetch, finishing=max(settings.finishing, settings.max_batch)),
        finishers=finishers,
        closers=closers,
        shutdown=shutdown,
        metrics=metrics,
        vitals=vitals,
        step_seconds=settings.step_limit,
        previews=settings.previews or settings.upload_previews,
        uploads_previews=settings.upload_previews,
    )
    previews = Previews(
        blobs,
        heartbeat,
        prefix=settings.prefix,
        every=settings.progress_interval,
        clean=worker.clean_preview,
    )
    _show(metrics, worker, vitals, Backlog(store, collections))
    return Service(
        worker=worker,
        heartbeat=heartbeat,
        rescue=Rescue(store, rules, interval=settings.rescue_interval, rescued=rescued),
        cancellations=cancellations,
        listeners=(queue, cancels),
        pools=(finishers, closers),
        shutdown=shutdown,
        grace=settings.grace,
        own_claims=own_claims,
        check=lambda: _check(keeper, rules, settings),
        supervisor=supervisor or Systemd.of_environment(),
        vitals=vitals,
        previews=previews if settings.upload_previews else None,
        chronicle=Chronicle(metrics=metrics, room=worker.room, heartbeat=heartbeat),
        exit_when_idle=settings.exit_when_idle,
    )


def _show(metrics: Metrics, worker: Worker, vitals: Vitals, backlog: Backlog) -> None:
    """Add to the metrics what is read when somebody looks."""

    def waiting(of: str) -> Iterable[Sample]:
        found = backlog.look()
        return [] if found is None else [((), getattr(found, of))]

    def memory() -> Iterable[Sample]:
        found = worker.keeper.memory()
        return [] if found is None else [(("free",), found.free), (("total",), found.total)]

    def resident() -> Iterable[Sample]:
        return [((name,), worker.keeper.is_resident(name)) for name in worker.policy.models]

    metrics.queue_depth.show_each(lambda: waiting("depth"))
    metrics.oldest_queued.show_each(lambda: waiting("oldest"))
    metrics.claiming.show(lambda: vitals.idle_reason() is None)
    metrics.silent.show(lambda: len(vitals.silent()))
    metrics.held.show(lambda: len(worker.heartbeat.held()))
    metrics.finishing.show(lambda: worker.room.in_finishing)
    metrics.resident.show_each(resident)
    metrics.memory.show_each(memory)


def _own_claims(settings: Settings) -> OwnClaims | None:
    folder = settings.state or settings.data / "state"
    try:
        return OwnClaims.open(folder)
    except OSError as exc:
        log.warning("state.unusable", folder=str(folder), error=str(exc), effect="a restart waits for its old leases")
        return None


def _check(keeper: ModelKeeper, rules: Policy, settings: Settings) -> None:
    """Check disk and device, and load each task's default model, so that trouble shows before a job suffers.

    Raises:
        Unfit: nothing can be generated here.
        DeviceLost: nothing more can be in this process.
    """
    fitness.check_disk(settings.min_free_disk)
    fitness.check_encoders({spec.task for spec in rules.models.values()})
    try:
        for name in rules.defaults.values():
            keeper.resident(rules.models[name], lambda what: log.info("model.loading", what=what))
    except DeviceLost:
        raise
    except ModelError as exc:
        raise fitness.Unfit(str(exc)) from exc

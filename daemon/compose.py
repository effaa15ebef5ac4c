"""The one place that chooses adapters from settings and puts a worker together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import structlog

from daemon.claiming import Claimer
from daemon.core.errors import WrongSettings
from daemon.core.job import Collection, Document
from daemon.core.policy import Policy
from daemon.core.ports import BlobStore, Store
from daemon.heartbeat import Heartbeat
from daemon.listener import Listener
from daemon.metrics import Metrics
from daemon.publish import Publisher
from daemon.rescue import Cancellations, Rescue
from daemon.room import Room
from daemon.service import Service
from daemon.settings import BlobsKind, Settings, StoreKind
from daemon.shutdown import Shutdown
from daemon.worker import Worker
from models import catalog
from models.keeper import Keeper
from models.spec import ModelSpec, Task

log = structlog.get_logger(__name__)


def open_store(settings: Settings) -> Store:
    """Open the store that the settings name.

    Raises:
        WrongSettings: it cannot be used like this.
    """
    if settings.store is StoreKind.SQLITE:
        from daemon.adapters.sqlite import SqliteStore

        settings.data.mkdir(parents=True, exist_ok=True)
        return SqliteStore(settings.data / "jobs.db")
    from daemon.adapters.firestore import FirestoreStore

    return FirestoreStore.connect(project=settings.project, database=settings.database, credentials=_secret(settings))


def open_blobs(settings: Settings) -> BlobStore:
    """Open the blob store that the settings name.

    Raises:
        WrongSettings: it cannot be used like this.
    """
    if settings.blobs_kind is BlobsKind.FOLDER:
        from daemon.adapters.folder import FolderBlobs

        root = settings.data / "media"
        root.mkdir(parents=True, exist_ok=True)
        return FolderBlobs(root, root.resolve().as_uri())
    from daemon.adapters.gcs import GcsBlobs

    return GcsBlobs.connect(bucket=settings.bucket or "", project=settings.project, credentials=_secret(settings))


def served(settings: Settings) -> dict[str, ModelSpec]:
    """The models that the settings name, in their order.

    Raises:
        WrongSettings: there is no such model, or none at all.
    """
    try:
        known = catalog.with_entries(settings.catalog)
    except catalog.WrongEntry as exc:
        raise WrongSettings(f"EASELD_CATALOG: {exc}") from exc
    unknown = [name for name in settings.models if name not in known]
    if unknown or not settings.models:
        raise WrongSettings(f"EASELD_MODELS: no such model: {', '.join(unknown)}; there are {', '.join(known)}")
    return {name: known[name] for name in settings.models}


def policy(settings: Settings, models: Mapping[str, ModelSpec]) -> Policy:
    """What a worker with these settings decides by."""
    defaults: dict[Task, str] = {}
    for name, spec in models.items():
        defaults.setdefault(spec.task, name)
    return Policy(
        models=models,
        defaults=defaults,
        lease_seconds=settings.lease,
        settling_seconds=settings.settling,
        max_queue_seconds=settings.max_queue_age,
        max_attempts=settings.max_attempts,
        max_prompt_characters=settings.max_prompt,
    )


def service(
    settings: Settings, store: Store, blobs: BlobStore, *, shutdown: Shutdown, ready: Callable[[], None] = lambda: None
) -> Service:
    """Put one worker together.

    Raises:
        WrongSettings: the settings do not fit together.
    """
    models = served(settings)
    rules = policy(settings, models)
    collections = [Collection.of(task) for task in rules.defaults]
    metrics = Metrics()
    keeper = Keeper(cache_dir=settings.cache, device=settings.device, threads=settings.threads)
    heartbeat = Heartbeat(interval=settings.heartbeat, progress_interval=settings.progress_interval)
    finishers = ThreadPoolExecutor(settings.finishing, thread_name_prefix="finisher")

    def report(document: Document) -> None:
        worker.report(document)

    def rescued(document: Document) -> None:
        metrics.rescues.inc()
        worker.report(document)

    def wake_claimer() -> None:
        claimer.wake.set()

    queue = Listener("queue", lambda: store.listen(collections, wake_claimer), mended=metrics.mends.inc)
    claimer = Claimer(
        store,
        rules,
        worker=settings.worker,
        collections=collections,
        listener_alive=lambda: queue.alive,
        ended=report,
        max_batch=settings.max_batch,
    )
    cancellations = Cancellations(store, heartbeat, cancelled=report)
    cancels = Listener(
        "cancellations", lambda: store.listen_cancellations(cancellations.wake.set), mended=metrics.mends.inc
    )
    worker = Worker(
        policy=rules,
        claimer=claimer,
        keeper=keeper,
        publisher=Publisher(
            store=store, blobs=blobs, prefix=settings.prefix, patience=settings.patience, stopped=shutdown.now
        ),
        heartbeat=heartbeat,
        room=Room(prefetch=settings.prefetch, finishing=settings.finishing),
        finishers=finishers,
        shutdown=shutdown,
        metrics=metrics,
    )
    return Service(
        worker=worker,
        heartbeat=heartbeat,
        rescue=Rescue(store, rules, interval=settings.rescue_interval, rescued=rescued),
        cancellations=cancellations,
        listeners=(queue, cancels),
        finishers=finishers,
        shutdown=shutdown,
        grace=settings.grace,
        prepare=lambda: _load(keeper, rules),
        ready=ready,
    )


def _load(keeper: Keeper, rules: Policy) -> None:
    """Load the default model of each task before anything is claimed, so that trouble shows before a job suffers."""
    for name in rules.defaults.values():
        keeper.resident(rules.models[name], lambda what: log.info("model.loading", what=what))


def _secret(settings: Settings) -> str | None:
    return settings.credentials_json.get_secret_value() if settings.credentials_json else None

"""The one place that chooses adapters from settings; light to import: the shim starts from it."""

from __future__ import annotations

from daemon.core.ports import BlobStore, Intake
from daemon.settings import BlobsKind, Settings, StoreKind

LONGEST_CALL = 10.0  # seconds; a sixth of the lease, where that is shorter, leaves time to try again before it ends


def open_store(settings: Settings) -> Intake:
    """Open the store that the settings name.

    Raises:
        WrongSettings: it cannot be used like this.
    """
    if settings.store is StoreKind.SQLITE:
        from daemon.adapters.sqlite import SqliteStore

        settings.data.mkdir(parents=True, exist_ok=True)
        return SqliteStore(settings.data / "jobs.db")
    from daemon.adapters.firestore import FirestoreStore

    return FirestoreStore.connect(
        project=settings.project,
        database=settings.database,
        credentials=_secret(settings),
        deadline=min(LONGEST_CALL, settings.lease / 6),
    )


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
    from daemon.adapters.gcs import AddressStyle, GcsBlobs

    return GcsBlobs.connect(
        bucket=settings.bucket or "",
        project=settings.project,
        credentials=_secret(settings),
        prefix=settings.prefix,
        base=settings.public_base,
        style=AddressStyle(settings.addresses),
    )


def _secret(settings: Settings) -> str | None:
    return settings.credentials_json.get_secret_value() if settings.credentials_json else None

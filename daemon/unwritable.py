"""Documents that have no room for what we must write: they end with two fields, or are left alone."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from threading import Lock

import structlog

from daemon.core import lifecycle
from daemon.core.errors import DocumentTooLarge
from daemon.core.job import Document, JobId
from daemon.core.ports import Store
from daemon.core.record import holder

log = structlog.get_logger(__name__)

REMEMBERED = 1000  # documents; the oldest is forgotten first, and tried once more


class Unwritable:
    """Ends documents that are too large for their terminal write. Thread safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._versions: OrderedDict[JobId, int] = OrderedDict()
        self._lock = Lock()

    def skip(self, document: Document) -> bool:
        """Whether not even the smallest write to this version of the document is possible."""
        return self._versions.get(document.id) == document.version

    def give_up(self, document: Document, cause: DocumentTooLarge) -> Document | None:
        """End the document with the smallest write; ``None`` where it cannot be, which is logged once for a version.

        Raises:
            StoreUnavailable: the store is away.
        """
        lease = holder(document.fields)
        try:
            result = self._store.update(document, partial(lifecycle.give_up, token=lease.token if lease else None))
        except DocumentTooLarge:
            log.warning("job.unwritable", job=document.id.path, error=str(cause), todo="make the document smaller")
            with self._lock:
                self._versions[document.id] = document.version
                if len(self._versions) > REMEMBERED:
                    self._versions.popitem(last=False)
            return None
        return result if isinstance(result, Document) else None

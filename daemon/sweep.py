"""Finds objects that killed workers have left in the bucket: with our mark, of a claim that is over and of no result.

A worker cleans up behind each job that it ends. What remains is what nobody ended: uploads of a worker that was killed,
for a document that its client then ended or wrote anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from daemon.core.job import JobId
from daemon.core.objects import Mark, StoredObject, all_names, is_orphan, preview_name
from daemon.core.ports import BlobStore, Store


def orphans(store: Store, blobs: BlobStore, *, prefix: str) -> Iterator[StoredObject]:
    """Every orphan under ``prefix``, by a fresh reading of the document that its mark names.

    A token that is over never comes back, so an orphan stays one. Objects without our mark, under another document's
    name or of a document that is gone are left alone.

    Raises:
        StoreUnavailable, BlobsUnavailable: the rest is not known.
    """
    for found in blobs.objects(f"{prefix}/"):
        mark = Mark.read(found.metadata)
        job = JobId.parse(mark.document) if mark else None
        if mark is None or job is None or found.name not in all_names(job, prefix=prefix):
            continue
        if is_orphan(mark, store.read(job).fields, preview=found.name == preview_name(job, prefix=prefix)):
            yield found


def sweep(store: Store, blobs: BlobStore, *, prefix: str) -> Iterator[StoredObject]:
    """Delete every orphan, each by its generation; what was deleted.

    Raises:
        StoreUnavailable, BlobsUnavailable: the rest is left.
    """
    for orphan in orphans(store, blobs, prefix=prefix):
        if blobs.delete(orphan.name, orphan.generation):
            yield orphan

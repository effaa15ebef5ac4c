"""``easeld gc``: removes from the bucket what killed workers have left there."""

from __future__ import annotations

from typing import Annotated

import typer

from daemon import sweep
from daemon.entrypoints.opening import client_store
from daemon.entrypoints.present import plain


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them. Do this first.")] = False,
) -> None:
    """Delete media that no job holds and no document names, where a worker of ours wrote them.

    Each worker cleans up behind itself; this is for what is left of those that were killed. Files of anybody else,
    and of documents that are gone, are never touched.
    """
    from daemon.stores import open_blobs

    count = size = 0
    with client_store() as (settings, store):
        blobs = open_blobs(settings)
        try:
            find = sweep.orphans if dry_run else sweep.sweep
            for found in find(store, blobs, prefix=settings.prefix):
                print(plain(found.name))
                count, size = count + 1, size + found.size
        finally:
            blobs.close()
    print(f"{count} objects, {size / 2**20:.1f} MiB, {'would be ' if dry_run else ''}deleted")

"""What every client command begins with: the settings, the store, and the job that a person names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from daemon import log as logs
from daemon import settings as all_settings
from daemon.core.errors import Rejected
from daemon.core.job import Collection, Document, JobId
from daemon.core.ports import Store
from daemon.core.request import id_problem
from daemon.settings import Settings
from daemon.stores import open_store


class NoSuchJob(Exception):
    """The store holds no document of that name."""


@contextmanager
def client_store() -> Iterator[tuple[Settings, Store]]:
    """The settings and their store, closed in the end.

    Raises:
        WrongSettings: they cannot be used.
        StoreUnavailable: the store is away.
    """
    settings = all_settings.load()
    logs.configure(level="warning", json=settings.log_json, prompts=settings.log_prompts)  # stdout is the answer's
    store = open_store(settings)
    try:
        yield settings, store
    finally:
        store.close()


def find(store: Store, named: str) -> Document:
    """The document that a person means by ``USER/FILE``, ``USER/images/FILE`` or a whole document path.

    Raises:
        NoSuchJob: there is none.
        Rejected: it can be the name of no job, or is that of two.
    """
    found = [document for job in _candidates(named) if (document := store.read(job)).fields is not None]
    if not found:
        raise NoSuchJob(f"there is no job {named}")
    if len(found) > 1:
        ways = " or ".join(document.id.path.removeprefix("generations/") for document in found)
        raise Rejected(f"there are two jobs {named}: say {ways}")
    return found[0]


def _candidates(named: str) -> list[JobId]:
    match named.strip("/").split("/"):
        case ["generations", user, ("images" | "videos") as collection, file]:
            jobs = [JobId(user_id=user, collection=Collection(collection), file_uid=file)]
        case [user, ("images" | "videos") as collection, file]:
            jobs = [JobId(user_id=user, collection=Collection(collection), file_uid=file)]
        case [user, file]:
            jobs = [JobId(user_id=user, collection=collection, file_uid=file) for collection in Collection]
        case _:
            raise Rejected(f"{named} names no job: say USER/FILE, USER/images/FILE or USER/videos/FILE")
    for name, value in (("user_id", jobs[0].user_id), ("file_uid", jobs[0].file_uid)):
        if problem := id_problem(name, value):
            raise Rejected(problem)
    return jobs

"""A shim on a real socket, and what a client says to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from daemon.core.job import Collection, Fields, JobId
from daemon.core.ports import Intake
from daemon.entrypoints.shim.server import serving
from daemon.settings import Settings, load

KEY = "the-key-of-the-app"
ENDPOINT = "painter"
LONG = 30.0  # seconds for one call, on a machine that does much else


@dataclass(frozen=True, kw_only=True)
class Shim:
    """A running shim, its store, and an app that knows its key."""

    address: str
    store: Intake
    http: httpx2.Client

    def post(self, body: Any, *, endpoint: str = ENDPOINT, **options: Any) -> httpx2.Response:
        """Call the endpoint with a JSON body."""
        return self.http.post(f"/v2/{endpoint}/runsync", json=body, **options)

    def call(self, fields: Mapping[str, Any], **options: Any) -> httpx2.Response:
        """Call the endpoint with an ``input``."""
        return self.post({"input": dict(fields)}, **options)

    def fields(self, job: JobId) -> Fields | None:
        """What the store holds."""
        return self.store.read(job).fields


def settings(**given: Any) -> Settings:
    """The settings of a shim with one key, on a free port."""
    return load(**{"shim_port": 0, "shim_keys": [KEY], "shim_endpoints": [ENDPOINT], **given})


@contextmanager
def running(store: Intake, **given: Any) -> Iterator[Shim]:
    """A shim on a store until the block ends."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with (
        serving(settings(**given), store) as address,
        httpx2.Client(base_url=address, headers=headers, timeout=LONG, trust_env=False) as http,
    ):
        yield Shim(address=address, store=store, http=http)


def request(**fields: Any) -> dict[str, Any]:
    """What a call has to hold, with a job's name of its own, and ``fields`` beside it."""
    return {
        "prompt": "a red car",
        "user_id": "ada",
        "file_uid": uuid.uuid4().hex,
        "use_cloud_storage": True,
        **fields,
    }


def job_of(fields: Mapping[str, Any], collection: Collection = Collection.IMAGES) -> JobId:
    """The document that a call names."""
    return JobId(user_id=fields["user_id"], collection=collection, file_uid=fields["file_uid"])

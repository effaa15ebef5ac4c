"""The floor of the shim's benchmark: nothing but writes of the same document, from as many threads, in a process.

Arguments: ``sqlite PATH`` or ``firestore PROJECT``. Reads a number of seconds a line, answers with writes a second.
On the embedded store a write is the store's own durable one; on Firestore it is the client library's ``create``.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from google.cloud import firestore

from daemon.adapters.sqlite import SqliteStore
from daemon.core.job import Collection, JobId
from daemon.core.submission import submit

THREADS = 32
FIELDS: dict[str, Any] = {
    "prompt": "a red sports car", "user_id": "bare", "use_cloud_storage": True, "seed": 7, "status": "queued",
    "generated": False, "error": False,
}  # fmt: skip


def main() -> None:
    """Measure for as many seconds as each line says, until the input ends."""
    write = _writer(*sys.argv[1:3])
    write(uuid.uuid4().hex)  # the first call connects
    for line in sys.stdin:
        print(measure(write, float(line)), flush=True)


def _writer(kind: str, place: str) -> Callable[[str], object]:
    if kind == "sqlite":
        store = SqliteStore(Path(place))
        values = {name: FIELDS[name] for name in ("prompt", "use_cloud_storage", "seed")}
        decide = partial(submit, values=values)
        return lambda name: store.update(JobId(user_id="bare", collection=Collection.IMAGES, file_uid=name), decide)
    client = firestore.Client(project=place)
    time_of_server = {"created_at": firestore.SERVER_TIMESTAMP, "submitted_at": firestore.SERVER_TIMESTAMP}
    return lambda name: client.document(f"generations/bare/images/{name}").create(
        {**FIELDS, "file_uid": name, **time_of_server}
    )


def measure(write: Callable[[str], object], seconds: float) -> float:
    """Writes a second by ``THREADS`` threads."""
    counts = [0] * THREADS
    ready = threading.Barrier(THREADS + 1)

    def writer(number: int) -> None:
        ready.wait()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            write(uuid.uuid4().hex)
            counts[number] += 1

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()

"""The worker that one writes first: a listener, a transaction to claim, the model, an upload, an update.

It forgets what it has claimed when it dies. The model is 50 ms of sleep, its picture encoded by Pillow.
"""

from __future__ import annotations

import io
import os
import queue
import time
from typing import Any

from google.cloud import firestore, storage
from google.cloud.firestore_v1.base_query import FieldFilter
from PIL import Image

from benchmarks.place import NULL_SECONDS


def main() -> None:
    """Work for ever."""
    client = firestore.Client(project=os.environ["EASELD_PROJECT"])
    bucket = storage.Client(project="test").bucket(os.environ["EASELD_BUCKET"])
    waiting: queue.Queue[firestore.DocumentReference] = queue.Queue()

    def changed(_documents: Any, changes: Any, _time: Any) -> None:
        for change in changes:
            if change.type.name == "ADDED":
                waiting.put(change.document.reference)

    queued = client.collection_group("images").where(filter=FieldFilter("status", "==", "queued"))
    watch = queued.order_by("created_at").on_snapshot(changed)

    @firestore.transactional
    def claim(transaction: firestore.Transaction, reference: firestore.DocumentReference) -> bool:
        document = reference.get(transaction=transaction)
        if document.get("status") != "queued":
            return False
        transaction.update(reference, {"status": "processing", "modified": firestore.SERVER_TIMESTAMP})
        return True

    painted = Image.linear_gradient("L").convert("RGB")
    print("ready", flush=True)
    while watch is not None:
        reference = waiting.get()
        if not claim(client.transaction(), reference):
            continue
        time.sleep(NULL_SECONDS)
        picture = io.BytesIO()
        painted.save(picture, format="PNG", compress_level=1)
        blob = bucket.blob(f"generating/bench/image/{reference.id}.png")
        blob.upload_from_string(picture.getvalue(), content_type="image/png")
        reference.update(
            {
                "status": "completed",
                "generated": True,
                "completed_at": firestore.SERVER_TIMESTAMP,
                "images": [blob.public_url],
                "image_url": blob.public_url,
            }
        )


if __name__ == "__main__":
    main()

"""An app's hand in Firestore: whole documents set and deleted, at any path."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from google.cloud import firestore

from daemon.core.job import Fields, fill


class FirestoreClient:
    """Sets and deletes as the apps' own libraries do."""

    def __init__(self, client: firestore.Client) -> None:
        self.client = client

    def set(self, path: str, fields: Fields) -> None:
        moment = cast("datetime", firestore.SERVER_TIMESTAMP)
        self.client.document(path).set(fill(fields, moment))

    def delete(self, path: str) -> None:
        self.client.document(path).delete()

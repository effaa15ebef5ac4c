"""An app's hand in Firestore: whole documents set and deleted, at any path."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from google.api_core.exceptions import Cancelled
from google.api_core.retry import Retry, if_exception_type
from google.cloud import firestore

from daemon.core.job import Fields, fill

# The emulator now and then breaks a listener's stream (github.com/firebase/firebase-tools/issues/8654), and then fails
# the commit of which it was about to tell: "call already cancelled". An app would write again.
AGAIN = Retry(predicate=if_exception_type(Cancelled), initial=0.05, timeout=10.0)


class FirestoreClient:
    """Sets and deletes as the apps' own libraries do."""

    def __init__(self, client: firestore.Client) -> None:
        self.client = client

    def set(self, path: str, fields: Fields) -> None:
        moment = cast("datetime", firestore.SERVER_TIMESTAMP)
        self.client.document(path).set(fill(fields, moment), retry=AGAIN)

    def delete(self, path: str) -> None:
        self.client.document(path).delete()

"""The documents in Firestore."""

from daemon.adapters.firestore.store import FirestoreStore

__all__ = ["FirestoreStore"]

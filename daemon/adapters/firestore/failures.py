"""What the client library's exceptions mean to us."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from google.api_core.exceptions import (
    FailedPrecondition,
    GoogleAPIError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from google.auth.exceptions import GoogleAuthError

from daemon.core.errors import DocumentTooLarge, StoreUnavailable

ADDRESS = re.compile(r"https://\S+")
DEPLOY = "firebase deploy --only firestore:indexes"


@contextmanager
def translated(doing: str, *, project: str) -> Iterator[None]:
    """Raise the library's errors as ours.

    Raises:
        StoreUnavailable: Firestore cannot be reached, or refuses the call; the message says what to do.
    """
    try:
        yield
    except (GoogleAPIError, GoogleAuthError) as exc:
        raise StoreUnavailable(f"Firestore, {doing}: {advice(exc, project=project)}") from exc


@contextmanager
def refusing_size() -> Iterator[None]:
    """Raise the refusal of a write as ``DocumentTooLarge``.

    We write only well-formed fields, so a write is invalid only for what it makes of the whole document: over 1 MiB,
    too many index entries, or too deep.

    Raises:
        DocumentTooLarge: as said.
    """
    try:
        yield
    except InvalidArgument as exc:
        raise DocumentTooLarge(f"Firestore refuses the write: {exc.message}") from exc


def advice(exc: Exception, *, project: str) -> str:
    """One line on an error of the library, with what to do where we know it."""
    message = getattr(exc, "message", None) or str(exc)
    line = " ".join(str(message).split())
    if isinstance(exc, FailedPrecondition) and "index" in line:
        found = ADDRESS.search(line)
        state = "an index is still being built" if "building" in line else "an index is missing"
        return f"{state}: run `{DEPLOY}`{f' or open {found[0]}' if found else ''}"
    if isinstance(exc, PermissionDenied):
        return (
            f"{line}. Grant access: gcloud projects add-iam-policy-binding {project} "
            "--member=serviceAccount:ACCOUNT --role=roles/datastore.user"
        )
    if isinstance(exc, Unauthenticated | GoogleAuthError):
        return f"{line}. Renew the credentials: `gcloud auth application-default login`, or another key"
    if isinstance(exc, NotFound):
        return f"{line}. Is there a database? `gcloud firestore databases create --project={project}`"
    return line or type(exc).__name__

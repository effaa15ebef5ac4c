"""A Firestore client whose every call has a deadline and whose connections notice, in time, that they are dead."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, cast

import grpc
from google.api_core.exceptions import InternalServerError, ServiceUnavailable
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.cloud import firestore
from google.cloud.firestore_v1.services.firestore import client as firestore_client
from google.cloud.firestore_v1.services.firestore.transports.grpc import FirestoreGrpcTransport
from google.oauth2 import service_account

from daemon.core.errors import WrongSettings

DEADLINE = 10.0  # seconds for one call, its own retries included

# The library's production channel asks every 30 seconds whether its connection lives, its emulator channel never. The
# emulator's server takes more than one such question in five minutes for an attack and hangs up.
EMULATOR_CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


def retrying(deadline: float) -> Retry:
    """Retry one call while the server is out of reach, for at most ``deadline`` seconds."""
    transient = if_exception_type(ServiceUnavailable, InternalServerError)
    return Retry(predicate=transient, initial=0.05, maximum=1.0, multiplier=2.0, timeout=deadline)


def disarm(values: Iterable[Any], own: str) -> None:
    """Make raw values readable to the library, in place: references that do not begin with ``own`` become strings."""
    for value in values:
        kind = value.WhichOneof("value_type")
        if kind == "reference_value" and not value.reference_value.startswith(own):
            value.string_value = value.reference_value
        elif kind == "map_value":
            disarm(value.map_value.fields.values(), own)
        elif kind == "array_value":
            disarm(value.array_value.values, own)


class Api(firestore_client.FirestoreClient):
    """The generated client, which reads every document.

    A reference to another database's document reads as its path, a string: the library raises over it, and one such
    document would hide the whole queue.
    """

    def __init__(self, *, database: str, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._own = documents_of(database)

    def run_query(self, *args: Any, **keywords: Any) -> Any:
        return self._readable(super().run_query(*args, **keywords), "document")

    def batch_get_documents(self, *args: Any, **keywords: Any) -> Any:
        return self._readable(super().batch_get_documents(*args, **keywords), "found")

    def _readable(self, responses: Iterable[Any], document: str) -> Iterator[Any]:
        for response in responses:
            disarm(getattr(type(response).pb(response), document).fields.values(), self._own)
            yield response


def documents_of(database: str) -> str:
    """How the full name of every document of a database begins."""
    return f"{database}/documents/"


class Client(firestore.Client):
    """The library's client with deadlines; ``limits`` goes into each call that takes them."""

    def __init__(
        self, *, project: str | None = None, database: str | None = None, credentials: Any = None, deadline: float
    ) -> None:
        super().__init__(project=project, database=database, credentials=credentials)
        self.deadline = deadline

    @property
    def limits(self) -> dict[str, Any]:
        return {"timeout": self.deadline, "retry": retrying(self.deadline)}

    @property
    def documents(self) -> str:
        """How the full name of every document begins."""
        return documents_of(self._database_string)

    @property
    def _firestore_api(self) -> Any:
        # The one place where the library lets the generated client be chosen.
        api = partial(Api, database=self._database_string)
        return self._firestore_api_helper(FirestoreGrpcTransport, api, firestore_client)

    def _emulator_channel(self, transport: Any) -> Any:  # noqa: ARG002 - the library's signature
        return grpc.insecure_channel(cast("str", self._emulator_host), options=EMULATOR_CHANNEL_OPTIONS)


def connect(
    *, project: str | None = None, database: str | None = None, credentials: str | None = None, deadline: float
) -> Client:
    """Make a client; nothing is sent yet.

    Args:
        project: the project's id; ``None`` takes that of the credentials or of the environment.
        database: ``None`` is the database ``(default)``.
        credentials: a service account's key as JSON; ``None`` takes the application default credentials. With
            ``FIRESTORE_EMULATOR_HOST`` set, none are needed.
        deadline: seconds for one call.

    Raises:
        WrongSettings: there are no credentials, no project, or the JSON is no key.
    """
    try:
        key = None if credentials is None else json.loads(credentials)
        granted = None if key is None else service_account.Credentials.from_service_account_info(key)
        if project is None and isinstance(key, dict):
            project = key.get("project_id")
        return Client(project=project, database=database, credentials=granted, deadline=deadline)
    except GoogleAuthError as exc:
        raise WrongSettings(
            f"No Google credentials: {exc}. Run `gcloud auth application-default login` or give a service account's key"
        ) from exc
    except (ValueError, TypeError, AttributeError) as exc:
        raise WrongSettings("The Google credentials are not a service account's key in JSON") from exc
    except OSError as exc:
        raise WrongSettings(f"The Google project is not known: {exc}. Name it in the settings") from exc

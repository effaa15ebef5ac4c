"""The media in a Cloud Storage bucket."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Self

import requests
from google.api_core.exceptions import NotFound
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Client
from google.oauth2 import service_account

from daemon.adapters.gcs.addresses import (
    PUBLIC,
    TOKENS,
    AddressStyle,
    download_token,
    public_address,
    signed_address,
    token_address,
)
from daemon.adapters.gcs.calls import CALL_TIMEOUT, ONCE, Calls, ConditionFailed, grant
from daemon.core.errors import BlobsUnavailable, Retryable, WrongSettings
from daemon.core.objects import ContentType, Mark, Placement, StoredObject

CACHE_CONTROL = (
    "public, no-cache"  # a new life replaces the object: whoever keeps a copy must ask whether it still holds
)
DEADLINE = 60.0  # seconds for one operation with its retries

LISTED = "items(name,generation,crc32c,size,metadata),nextPageToken"
PIXEL = bytes.fromhex(  # the smallest grey PNG
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a4944415478da6368000000820081da45083b0000000049454e44ae426082"
)


class GcsBlobs:
    """Media in one bucket; implements ``daemon.core.ports.BlobStore``. Every write carries a generation condition."""

    def __init__(
        self,
        *,
        client: Any,  # google.cloud.storage.Client, which ships no types
        bucket: str,
        prefix: str = "generating",
        base: str = PUBLIC,
        style: AddressStyle = AddressStyle.PUBLIC,
        cache_control: str = CACHE_CONTROL,
        deadline: float = DEADLINE,
    ) -> None:
        """Use a client.

        ``prefix`` is the folder for the probe's object, ``base`` the start of every address, ``style`` its form,
        ``deadline`` the seconds for one operation with its retries.
        """
        self._client = client
        self._bucket = client.bucket(bucket)
        self._name = bucket
        self._prefix = prefix
        self._base = base.rstrip("/")
        self._style = style
        self._cache_control = cache_control
        account = getattr(client, "_credentials", None)
        self._calls = Calls(bucket=bucket, account=getattr(account, "service_account_email", None), deadline=deadline)

    @classmethod
    def connect(
        cls, *, bucket: str, project: str | None = None, credentials: str | None = None, **options: Any
    ) -> Self:
        """Make a client; nothing is sent yet. ``options`` are the constructor's.

        ``credentials`` is a service account's key as JSON; ``None`` takes the application default credentials. With
        ``STORAGE_EMULATOR_HOST`` set, none are needed.

        Raises:
            WrongSettings: there are no credentials, or the JSON is no key.
        """
        try:
            granted = None
            if credentials is not None:
                granted = service_account.Credentials.from_service_account_info(json.loads(credentials))
            client = Client(project=project, credentials=granted)
        except GoogleAuthError as exc:
            raise WrongSettings(
                f"No Google credentials: {exc}. Run `gcloud auth application-default login` "
                "or give a service account's key"
            ) from exc
        except (ValueError, TypeError, AttributeError) as exc:
            raise WrongSettings("The Google credentials are not a service account's key in JSON") from exc
        except OSError as exc:
            raise WrongSettings(f"The Google project is not known: {exc}. Name it in the settings") from exc
        return cls(client=client, bucket=bucket, **options)

    def look(self, name: str) -> StoredObject | None:
        """The object's present generation, or ``None``."""
        blob = self._calls.run("looking at an object", lambda: self._bucket.get_blob(name, **ONCE))
        return None if blob is None else _stored(blob)

    def put(self, name: str, content: bytes, placement: Placement) -> int | None:
        """Upload under the condition, and check what the bucket computed.

        A repeated try that meets the object of an earlier one, whose answer was lost, gives ``None`` like any other
        condition that does not hold: whoever looks again finds it whole.

        Raises:
            Retryable: other bytes arrived than the checksum says.
        """
        return self._put(
            name,
            content,
            content_type=placement.content_type,
            generation=placement.generation,
            crc32c=placement.crc32c,
            metadata=placement.mark.metadata() | self._token(name, placement.mark),
        )

    def _put(
        self,
        name: str,
        content: bytes,
        *,
        content_type: ContentType,
        generation: int,
        crc32c: str | None,
        metadata: Mapping[str, str],
    ) -> int | None:
        def once() -> Any:
            blob = self._bucket.blob(name)
            blob.cache_control = self._cache_control
            blob.metadata = dict(metadata)
            if crc32c is not None:
                blob.crc32c = crc32c  # the bucket refuses other bytes
            condition = {"if_generation_match": generation}
            blob.upload_from_string(content, content_type=content_type.value, checksum=None, **condition, **ONCE)
            return blob

        try:
            blob = self._calls.run("uploading", once)
        except ConditionFailed:
            return None
        if crc32c is not None and blob.crc32c != crc32c:
            self.delete(name, int(blob.generation))
            raise Retryable(f"The bucket holds other bytes than the checksum of {name} says; they are deleted again")
        return int(blob.generation)

    def delete(self, name: str, generation: int) -> bool:
        """Delete that very generation; ``False`` where it is no longer the present one."""

        def once() -> bool:
            try:
                self._bucket.delete_blob(name, if_generation_match=generation, **ONCE)
            except NotFound:
                return False
            return True

        try:
            return bool(self._calls.run("deleting", once))
        except ConditionFailed:
            return False

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose name starts with ``prefix``, page by page."""
        with self._calls.translated("listing objects"):
            for blob in self._client.list_blobs(self._bucket, prefix=prefix, fields=LISTED, **self._calls.paging):
                yield _stored(blob)

    def address(self, name: str, mark: Mark, *, version: int | None = None) -> str:
        """The address of the object that a claim writes, in the style of the settings.

        Raises:
            WrongSettings: it has to be signed, and the credentials cannot.
        """
        match self._style:
            case AddressStyle.PUBLIC:
                return public_address(self._base, self._name, name) + ("" if version is None else f"?v={version}")
            case AddressStyle.TOKEN:
                address = token_address(self._base, self._name, name, download_token(name, mark.token))
                return address + ("" if version is None else f"&v={version}")
            case AddressStyle.SIGNED:
                return signed_address(self._bucket.blob(name), self._base, version=version)

    def _token(self, name: str, mark: Mark) -> dict[str, str]:
        return {TOKENS: download_token(name, mark.token)} if self._style is AddressStyle.TOKEN else {}

    def probe(self) -> list[str]:
        """Write a small object, fetch it without credentials, and delete it."""
        name = f"{self._prefix}/easeld-probe-{secrets.token_hex(8)}.png"
        mark = Mark(document="easeld-probe", token=secrets.token_hex(8), attempt=0, claimed=0)
        try:
            generation = self._put(
                name,
                PIXEL,
                content_type=ContentType.PNG,
                generation=0,
                crc32c=None,
                metadata=self._token(name, mark),
            )
        except BlobsUnavailable as exc:
            return [str(exc)]
        troubles = self._fetched(self.address(name, mark))
        try:
            if generation is not None:
                self.delete(name, generation)
        except BlobsUnavailable as exc:
            troubles.append(str(exc))
        return troubles

    def _fetched(self, address: str) -> list[str]:
        try:
            answer = requests.get(address, timeout=CALL_TIMEOUT)
        except requests.RequestException as exc:
            return [f"{address} cannot be fetched as clients would: {exc}"]
        if answer.status_code in (401, 403):
            command = grant(self._name, "allUsers", "roles/storage.objectViewer")
            return [f"Clients may not fetch {address}: {command}"]
        if answer.status_code != 200:
            return [f"{address} answers {answer.status_code} to clients"]
        return [] if answer.content == PIXEL else [f"{address} gives clients other bytes than were written"]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _stored(blob: Any) -> StoredObject:
    return StoredObject(
        name=blob.name,
        generation=int(blob.generation),
        crc32c=blob.crc32c,
        size=int(blob.size),
        metadata=dict(blob.metadata or {}),
    )

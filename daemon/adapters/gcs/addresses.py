"""The addresses under which clients fetch media from a bucket, in the three styles that Firebase apps use."""

from __future__ import annotations

import uuid
from datetime import timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from google.auth.exceptions import GoogleAuthError

from daemon.core.errors import WrongSettings

PUBLIC = "https://storage.googleapis.com"  # the base of public addresses, by contract
FIREBASE = "https://firebasestorage.googleapis.com"
TOKENS = "firebaseStorageDownloadTokens"  # the metadata in which Firebase keeps an object's download token
LONGEST = timedelta(
    days=7
)  # that a signature may be good for: cloud.google.com/storage/docs/access-control/signed-urls
SPACE = uuid.UUID("7be7d8b0-1cf3-4c5e-9e1c-0a1de15e5a5e")  # any fixed one: it makes our names unlike others'


class AddressStyle(StrEnum):
    """Who may fetch what an address names."""

    PUBLIC = "public"  # everybody: the bucket is public
    SIGNED = "signed"  # whoever has the address, for seven days
    TOKEN = "token"  # whoever has the address, until the token is revoked: Firebase's download address


def download_token(name: str, claim: str) -> str:
    """The token of an object that a claim wrote: the same whenever it is asked for, another for every claim."""
    return str(uuid.uuid5(SPACE, f"{claim}/{name}"))


def public_address(base: str, bucket: str, name: str) -> str:
    """The contract's form."""
    return f"{base}/{bucket}/{quote(name, safe='/~')}"


def token_address(base: str, bucket: str, name: str, token: str) -> str:
    """The form of ``getDownloadURL()`` in Firebase's client libraries."""
    return f"{FIREBASE if base == PUBLIC else base}/v0/b/{bucket}/o/{quote(name, safe='')}?alt=media&token={token}"


def signed_address(blob: Any, base: str, *, version: int | None = None) -> str:
    """A V4 signature over the object's name, and the version where one is given, made without asking anybody.

    Raises:
        WrongSettings: the credentials cannot sign.
    """
    try:
        more = None if version is None else {"v": str(version)}
        return str(
            blob.generate_signed_url(version="v4", expiration=LONGEST, api_access_endpoint=base, query_parameters=more)
        )
    except (AttributeError, GoogleAuthError) as exc:
        raise WrongSettings(
            "These credentials cannot sign addresses: give a service account's key (EASELD_CREDENTIALS_JSON), "
            "or choose EASELD_ADDRESSES=token"
        ) from exc

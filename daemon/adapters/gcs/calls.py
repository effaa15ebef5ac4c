"""Calls to Cloud Storage: tried again while the trouble passes, and the library's errors raised as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import requests
from google.api_core.exceptions import BadRequest, Forbidden, GoogleAPIError, NotFound, PreconditionFailed
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from daemon.core.errors import BlobsUnavailable, Retryable

Answer = TypeVar("Answer")

CALL_TIMEOUT = (5.0, 30.0)  # seconds to connect, and between two bytes of an answer
ONCE: Mapping[str, Any] = {"timeout": CALL_TIMEOUT, "retry": None}  # the library must not retry beside us
FAILURES = (
    GoogleAPIError,
    GoogleAuthError,
    DataCorruption,
    InvalidResponse,
    requests.RequestException,
    ConnectionError,
)


class ConditionFailed(Exception):
    """The object's generation is not the one that was asked for."""


class Calls:
    """Runs calls on one bucket, each for at most ``deadline`` seconds with its repetitions."""

    def __init__(self, *, bucket: str, account: str | None, deadline: float) -> None:
        self._bucket = bucket
        self.grant_access = grant(bucket, f"serviceAccount:{account or 'ACCOUNT'}", "roles/storage.objectUser")
        self._deadline = deadline

    def run(self, doing: str, once: Callable[[], Answer]) -> Answer:
        """Run a call, again while its trouble is a passing one.

        Raises:
            BlobsUnavailable: Cloud Storage cannot be reached or refuses; the message says what to do.
            ConditionFailed: a generation condition did not hold.
            Retryable: other bytes arrived than the checksum says.
        """
        tries = Retrying(
            retry=retry_if_exception(_passing),
            stop=stop_after_delay(self._deadline),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            reraise=True,
        )
        with self.translated(doing):
            return tries(once)

    @property
    def paging(self) -> dict[str, Any]:
        """How the library itself retries the pages of a list, which it fetches on its own."""
        retry: Retry = DEFAULT_RETRY.with_timeout(self._deadline)
        return {"timeout": CALL_TIMEOUT, "retry": retry}

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Raise the library's errors as ours; ``run`` says which."""
        try:
            yield
        except PreconditionFailed as exc:
            raise ConditionFailed from exc
        except Forbidden as exc:
            raise BlobsUnavailable(f"Cloud Storage, {doing}: {_line(exc)}. Grant access: {self.grant_access}") from exc
        except NotFound as exc:
            command = f"gcloud storage buckets create gs://{self._bucket}"
            raise BlobsUnavailable(f"Cloud Storage, {doing}: {_line(exc)}. Is there a bucket? {command}") from exc
        except BadRequest as exc:
            if "crc32c" in str(exc).lower():
                raise Retryable(f"Cloud Storage, {doing}: the bucket got other bytes than the checksum says") from exc
            raise BlobsUnavailable(f"Cloud Storage, {doing}: {_line(exc)}") from exc
        except FAILURES as exc:
            raise BlobsUnavailable(f"Cloud Storage, {doing}: {_line(exc)}") from exc


def grant(bucket: str, member: str, role: str) -> str:
    """The command that gives a member a role on a bucket."""
    return f"gcloud storage buckets add-iam-policy-binding gs://{bucket} --member={member} --role={role}"


def _passing(exc: BaseException) -> bool:
    """Whether the same call may succeed in a moment, by the library's own judgement."""
    return isinstance(exc, Exception) and bool(DEFAULT_RETRY._predicate(exc))  # noqa: SLF001 - it has no public name


def _line(exc: Exception) -> str:
    return " ".join(str(getattr(exc, "message", None) or exc).split())

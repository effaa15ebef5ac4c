"""Who may call the shim, for which endpoint, and how often."""

from __future__ import annotations

import hmac
import ipaddress
import math
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha256

from pydantic import SecretStr
from starlette.requests import Request

from daemon.core.errors import WrongSettings
from daemon.entrypoints.shim.answers import Refused
from daemon.settings import Settings


class Rate:
    """At most so many calls a minute, saved up for at most a minute (a token bucket)."""

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        self._per_second = per_minute / 60
        self._most = max(1.0, per_minute)
        self._clock = clock
        self._left = self._most
        self._seen = clock()
        self._lock = threading.Lock()

    def wait(self) -> float:
        """Take one call. Returns 0, or the seconds until there is one to take."""
        with self._lock:
            now = self._clock()
            self._left = min(self._most, self._left + (now - self._seen) * self._per_second)
            self._seen = now
            if self._left < 1:
                return (1 - self._left) / self._per_second
            self._left -= 1
            return 0.0


class Access:
    """The keys, the endpoint ids, and one rate for each key."""

    def __init__(
        self,
        *,
        keys: Sequence[SecretStr],
        endpoints: Sequence[str],
        per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Digests are of one length, so that comparing them tells nothing of a key's.
        self._digests = [_digest(key.get_secret_value().encode()) for key in keys]
        self._endpoints = frozenset(endpoints)
        self._rates = [Rate(per_minute, clock) for _ in self._digests or [b""]] if per_minute is not None else []

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """As the settings say."""
        return cls(keys=settings.shim_keys, endpoints=settings.shim_endpoints, per_minute=settings.shim_rate)

    def check(self, request: Request, endpoint_id: str) -> None:
        """Let a call of an endpoint in.

        Raises:
            Refused: 401 without a key of ours, 404 for another's endpoint, 429 when it is too soon.
        """
        key = self._key(request.headers.get("authorization", ""))
        if endpoint_id not in self._endpoints:
            raise Refused(404, "There is no such endpoint")
        wait = self._rates[key].wait() if self._rates else 0.0
        if wait > 0:
            raise Refused(429, "Too many requests, try again later", {"Retry-After": str(math.ceil(wait))})

    def known(self, request: Request) -> None:
        """Let in whoever has a key of ours; everybody where there is none.

        Raises:
            Refused: 401.
        """
        self._key(request.headers.get("authorization", ""))

    def _key(self, authorization: str) -> int:
        """Which of our keys it is; every one is compared, so that the time tells nothing."""
        if not self._digests:
            return 0
        scheme, _, given = authorization.partition(" ")
        digest = _digest(given.strip().encode("latin-1"))  # the bytes as they came
        found = [hmac.compare_digest(digest, known) for known in self._digests]
        if scheme.lower() != "bearer" or True not in found:
            raise Refused(401, "The API key is missing or wrong", {"WWW-Authenticate": "Bearer"})
        return found.index(True)


def check_address(settings: Settings) -> None:
    """Without a key, only programs of this machine may call.

    Raises:
        WrongSettings: there is no key, and the address is not loopback.
    """
    if not settings.shim_keys and not is_loopback(settings.shim_host):
        raise WrongSettings(
            f"EASELD_SHIM_HOST: others can reach {settings.shim_host}: set EASELD_SHIM_KEYS, or listen at 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach an address, or a name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()

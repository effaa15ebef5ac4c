"""Who may look at the page, and who may change something from it.

Without a token only this machine may: the ``Host`` must be a loopback name, so that a foreign name that was made to
point here (DNS rebinding) is refused. Changes need a header that no other site can send without asking first, which we
never allow, and what the browser says of their origin must be this page.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.requests import Request

from daemon.entrypoints.shim.access import is_loopback
from daemon.entrypoints.shim.answers import Refused

COOKIE = "easeld-page"
HEADER = "x-easeld-page"  # on every change


class Guard:
    """Checks requests; ``token`` of ``None`` is for pages that only this machine can reach."""

    def __init__(self, token: str | None) -> None:
        self._token = token
        self._session = hmac.new((token or "").encode(), b"easeld operator page", sha256).hexdigest()

    def to_see(self, request: Request) -> None:
        """Let in whoever may have the page itself, which shows nothing yet.

        Raises:
            Refused: 403, it was called by a foreign name.
        """
        if self._token is None and not is_loopback(_hostname(request)):
            raise Refused(403, "Without a token the page answers to this machine only: set EASELD_PAGE_TOKEN")

    def to_read(self, request: Request) -> None:
        """Let in whoever may see jobs and media; other sites may not embed them.

        Raises:
            Refused: 401 without the token, 403 from another site.
        """
        self.to_see(request)
        if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise Refused(403, "Another site asked")
        if self._token is not None and not self._knows(request):
            raise Refused(401, "The page's token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    def to_change(self, request: Request) -> None:
        """Let in whoever may submit, cancel and retry.

        Raises:
            Refused: 401 without the token, 403 from anywhere but the page.
        """
        self.from_page(request)
        self.to_read(request)

    def from_page(self, request: Request) -> None:
        """Let in what the page itself sends, whether its token is known yet or not.

        Raises:
            Refused: 403.
        """
        self.to_see(request)
        origin = request.headers.get("origin")
        elsewhere = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
        if elsewhere or request.headers.get(HEADER) is None:
            raise Refused(403, "Only the page itself may ask for that")
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise Refused(403, "Another site asked")

    def session(self, token: str) -> str:
        """The cookie for whoever knows the token; it is good as long as the token is.

        Raises:
            Refused: 401.
        """
        if self._token is None or not hmac.compare_digest(_digest(token), _digest(self._token)):
            raise Refused(401, "The page's token is missing or wrong")
        return self._session

    def _knows(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        by_header = scheme.lower() == "bearer" and hmac.compare_digest(
            _digest(given.strip()), _digest(self._token or "")
        )
        return by_header or hmac.compare_digest(_digest(request.cookies.get(COOKIE, "")), _digest(self._session))


def _hostname(request: Request) -> str:
    return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""


def _digest(text: str) -> bytes:
    return sha256(text.encode(errors="replace")).digest()

"""uvicorn's HTTP protocol, with the contract's form also for what is no HTTP at all."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic_core import to_json
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from daemon.entrypoints.shim.answers import Failure


def protocol() -> type[asyncio.Protocol]:
    """The faster protocol where its library is installed, as uvicorn chooses, with our answer to a broken request."""
    base: Any = AutoHTTPProtocol

    class Protocol(base):  # type: ignore[misc]  # which of the two is known only here
        def send_400_response(self, msg: str) -> None:
            body = to_json(Failure(error=msg))
            head = (
                "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
            self.transport.close()

    return Protocol

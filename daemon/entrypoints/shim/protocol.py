"""uvicorn's HTTP protocol, with the contract's form also for what is no HTTP at all."""

from __future__ import annotations

from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from daemon.entrypoints.shim.answers import Failure


class Protocol(HttpToolsProtocol):
    """uvicorn's faster protocol, with our answer to a broken request."""

    def send_400_response(self, msg: str) -> None:
        """Answer in the contract's form and close the connection."""
        body = to_json(Failure(error=msg))
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

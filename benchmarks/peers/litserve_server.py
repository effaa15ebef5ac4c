"""LitServe as its documentation begins: one worker, batching by ``max_batch_size``. Arguments: port, batch size."""

from __future__ import annotations

import sys
import time

import litserve
from null_work import SECONDS, picture


class Null(litserve.LitAPI):
    """One request a call."""

    def setup(self, device: str) -> None:
        """Load nothing."""

    def predict(self, request: object) -> str:  # noqa: ARG002 - its content is no matter
        """Sleep."""
        time.sleep(SECONDS)
        return "done"

    def encode_response(self, output: object) -> dict[str, str]:
        """Answer with a picture."""
        return {"image": picture(), "status": str(output)}


class Batched(Null):
    """Several requests a call."""

    def batch(self, inputs: list[object]) -> list[object]:
        """As they are."""
        return inputs

    def predict(self, request: list[object]) -> list[str]:
        """Sleep once for all of them."""
        time.sleep(SECONDS)
        return ["done"] * len(request)

    def unbatch(self, output: list[str]) -> list[str]:
        """As they are."""
        return output


if __name__ == "__main__":
    port, size = int(sys.argv[1]), int(sys.argv[2])
    api = Batched(max_batch_size=size, batch_timeout=0.01) if size > 1 else Null()
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=port, generate_client_file=False, log_level="warning"
    )

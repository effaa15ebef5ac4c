"""The peer of the shim's benchmark: the runpod SDK's own local server, whose handler does nothing at all."""

from __future__ import annotations

import runpod


def handler(_job: dict[str, object]) -> dict[str, object]:
    """Do nothing."""
    return {"status": "accepted"}


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})

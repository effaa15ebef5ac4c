"""The runpod SDK's local server with a handler as its documentation begins. Arguments: those of the SDK."""

from __future__ import annotations

import time

from null_work import SECONDS, picture

import runpod


def handler(_job: dict[str, object]) -> dict[str, str]:
    """Sleep, and answer with a picture."""
    time.sleep(SECONDS)
    return {"image": picture()}


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})

"""The work that every peer does in its own environment: 50 ms of sleep for a call, a picture made and encoded."""

from __future__ import annotations

import base64
import io

from PIL import Image

SECONDS = 0.05  # of one call, as benchmarks.place.NULL_SECONDS


def picture() -> str:
    """A PNG of 256 pixels as our worker encodes it, in base64, because an answer is JSON."""
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, format="PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()

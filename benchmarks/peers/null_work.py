"""The work that every peer does in its own environment: 50 ms of sleep for a call, a picture encoded for each job."""

from __future__ import annotations

import base64
import io

from PIL import Image

SECONDS = 0.05  # of one call, as benchmarks.place.NULL_SECONDS, in which our worker's generator also paints
PAINTED = Image.linear_gradient("L").convert("RGB")


def picture() -> str:
    """A PNG of 256 pixels by Pillow, in base64, because an answer is JSON."""
    file = io.BytesIO()
    PAINTED.save(file, format="PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()

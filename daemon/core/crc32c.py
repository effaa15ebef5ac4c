"""The checksum that Cloud Storage keeps of every object."""

from __future__ import annotations

import base64

import google_crc32c


def crc32c(content: bytes) -> str:
    """The CRC32C of bytes, as Cloud Storage writes it: base64 of the big-endian value."""
    return as_text(google_crc32c.value(content))


def as_text(value: int) -> str:
    """A CRC32C as Cloud Storage writes it."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()

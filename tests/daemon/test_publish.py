"""What the finisher decides by itself."""

from __future__ import annotations

import pytest

from daemon.publish import addresses_object


@pytest.mark.parametrize(
    "address",
    [
        "https://storage.googleapis.com/b/generating/u/image/f.png",
        "https://firebasestorage.googleapis.com/v0/b/b/o/generating%2Fu%2Fimage%2Ff.png?alt=media&token=t",
        "https://storage.googleapis.com/b/generating/u/image/f.png?X-Goog-Signature=00",
    ],
)
def test_an_address_names_its_object_in_every_style(address: str) -> None:
    """An older worker may have used another style than ours."""
    assert addresses_object(address, "generating/u/image/f.png")
    assert not addresses_object(address, "generating/u/image/f_1.png")

"""Pictures as files, as another library reads them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from daemon import encode


@pytest.mark.parametrize("size", [(1, 1), (33, 77), (256, 320), (720, 1281)])
@pytest.mark.parametrize("layout", ["whole", "window", "mirrored"])
def test_a_picture_is_read_back_exactly(size: tuple[int, int], layout: str) -> None:
    """Of any size, and also where its lines do not lie one behind the other in memory."""
    height, width = size
    pixels = np.random.default_rng(7).integers(0, 256, (height + 2, width + 2, 3), dtype=np.uint8)
    frames = {"whole": pixels, "window": pixels[1:-1, 1:-1], "mirrored": pixels[:, ::-1]}[layout]
    with Image.open(io.BytesIO(encode.png(frames))) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        assert np.array_equal(np.asarray(picture), frames)
        assert not picture.info.get("easeld")


def test_what_a_picture_tells_comes_first() -> None:
    """Before the pixels, where programs look that read no further; any character survives."""
    about = {"software": "easeld 1.2", "prompt": "a snowman \u2603 \U0001f600 and a\0b"}
    content = encode.png(np.zeros((8, 8, 3), np.uint8), about=about)
    with Image.open(io.BytesIO(content)) as picture:  # checks the CRC of every chunk before the pixels
        assert picture.info["Software"] == "easeld 1.2"
        assert encode.as_text(about) == picture.info["easeld"]
    assert content.index(b"tEXt") < content.index(b"IDAT")

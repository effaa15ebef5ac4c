"""Turns frames into the bytes of files: PNG, MP4 and JPEG."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from models.spec import Frames

About = Mapping[str, Any] | None
"""What a file says about its making; its software at least."""

PNG_LEVEL = 1  # of zlib: 1024 x 1024 px in 0.09 s and 1.8 MB, against 0.33 s and 1.55 MB at Pillow's default of 6
MP4_QUALITY = "18"  # x264's constant rate factor: lower is better and larger; 18 is taken for visually lossless


def png(frames: Frames, *, about: About = None) -> bytes:
    """A picture of shape (height, width, 3), uint8 RGB, with what is told about it as text chunks."""
    text = PngInfo()
    if about is not None:
        text.add_text("Software", str(about["software"]))
        text.add_text("easeld", as_text(about))
    content = io.BytesIO()
    Image.fromarray(frames).save(content, format="PNG", compress_level=PNG_LEVEL, pnginfo=text)
    return content.getvalue()


def mp4(frames: Frames, *, fps: int, about: About = None) -> bytes:
    """A video of shape (frames, height, width, 3), uint8 RGB, as H.264, yuv420p, index in front (faststart).

    yuv420p takes even sizes only; an odd width or height loses its last column or row to that. What is told about it
    is the file's comment.

    Raises:
        OSError: the folder for temporary files has no room; only a file can have its index put in front.
    """
    import av  # noqa: PLC0415 - at the first video: a worker starts sooner without it

    height, width = even(frames.shape[1]), even(frames.shape[2])
    with tempfile.NamedTemporaryFile(prefix="easeld-", suffix=".mp4") as file:
        with av.open(file.name, "w", format="mp4", options={"movflags": "+faststart"}) as container:
            if about is not None:
                container.metadata["comment"] = as_text(about)
            stream = container.add_stream("libx264", rate=fps, options={"crf": MP4_QUALITY, "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for picture in frames[:, :height, :width]:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        return Path(file.name).read_bytes()


def as_text(about: Mapping[str, Any]) -> str:
    """As JSON in ASCII, which every kind of file takes."""
    return json.dumps(about, separators=(", ", ": "))


def jpeg(picture: Frames) -> bytes:
    """A small picture, (height, width, 3), as JPEG."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="JPEG", quality=85)
    return content.getvalue()


def even(size: int) -> int:
    """The largest even number of pixels that a size has room for."""
    return size - size % 2

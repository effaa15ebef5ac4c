"""Turns frames into the bytes of files: PNG, MP4 and JPEG."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image
from PIL.PngImagePlugin import PngInfo, putchunk

from models.spec import Task

if TYPE_CHECKING:
    from models.spec import Frames

About = Mapping[str, Any] | None
"""What a file says about its making; its software at least."""

# Pillow tries five filters on each line; FFmpeg takes the one that wins on pictures: 1024 x 1024 px in 80 ms against
# 147, 1.94 MB against 1.93. Levels 2 to 9 save up to 3 % of that, in up to 2.5 times the time.
PNG_OPTIONS = {"pred": "paeth", "compression_level": "1"}
PNG_HEAD = 33  # bytes: the signature, and the first chunk (IHDR), which no other may precede
PNG_ENCODER: Final = "png"
MP4_ENCODER: Final = "libx264"
ENCODERS = {Task.TEXT2IMAGE: PNG_ENCODER, Task.TEXT2VIDEO: MP4_ENCODER}  # FFmpeg's names; not every build has each
MP4_QUALITY = "18"  # x264's constant rate factor: lower is better and larger; 18 is taken for visually lossless


def png(frames: Frames, *, about: About = None) -> bytes:
    """A picture of shape (height, width, 3), uint8 RGB, with what is told about it as text chunks."""
    import av  # noqa: PLC0415 - the command line starts sooner without it

    codec = av.CodecContext.create(PNG_ENCODER, "w")
    codec.height, codec.width, codec.pix_fmt = frames.shape[0], frames.shape[1], "rgb24"
    codec.time_base = codec.sample_aspect_ratio = Fraction(1, 1)
    codec.thread_count = 1  # pictures are encoded side by side, each in a thread of ours
    codec.options = PNG_OPTIONS
    packets = codec.encode(av.VideoFrame.from_ndarray(frames, format="rgb24")) + codec.encode()
    content = b"".join(bytes(packet) for packet in packets)
    told = PngInfo()
    if about is not None:
        told.add_text("Software", str(about["software"]))
        told.add_text("easeld", as_text(about))
    file = io.BytesIO()
    file.write(content[:PNG_HEAD])
    for kind, text, *_ in told.chunks:
        putchunk(file, kind, text)
    file.write(content[PNG_HEAD:])
    return file.getvalue()


def mp4(frames: Frames, *, fps: int, about: About = None) -> bytes:
    """A video of shape (frames, height, width, 3), uint8 RGB, as H.264, yuv420p, index in front (faststart).

    yuv420p takes even sizes only; an odd width or height loses its last column or row to that. What is told about it
    is the file's comment.

    Raises:
        OSError: the folder for temporary files has no room; only a file can have its index put in front.
    """
    import av  # noqa: PLC0415 - the command line starts sooner without it

    height, width = even(frames.shape[1]), even(frames.shape[2])
    with tempfile.NamedTemporaryFile(prefix="easeld-", suffix=".mp4") as file:
        with av.open(file.name, "w", format="mp4", options={"movflags": "+faststart"}) as container:
            if about is not None:
                container.metadata["comment"] = as_text(about)
            options = {"crf": MP4_QUALITY, "preset": "veryfast"}
            stream = container.add_stream(MP4_ENCODER, rate=fps, options=options)
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

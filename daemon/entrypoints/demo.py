"""``make demo``: a daemon on this machine makes one image and one video, from nothing to files that open.

Everything is as a person would do it with ``easeld up`` and ``easeld submit --wait``, in a fresh folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from daemon import log as logs
from daemon import settings as all_settings
from daemon.core.job import Document, Status
from daemon.entrypoints.present import addresses, as_json, plain
from daemon.entrypoints.submit import queue
from daemon.entrypoints.waiting import progress_bars, wait_for
from daemon.settings import Settings
from daemon.stores import open_store

OUTPUT = Path("demo-output")
LOOK_EVERY = 0.1  # seconds
STOP_WITHIN = 30.0  # seconds from SIGTERM to SIGKILL: the grace and a little
KEPT = ("EASELD_CACHE",)  # of the caller's own settings: models that are there already

REQUESTS = (  # small and few steps: whoever tries it wants to see it soon
    {
        "file_uid": "picture",
        "prompt": "a red circle on a blue background",
        "width": 256,
        "height": 256,
        "num_inference_steps": 12,
        "seed": 7,
    },
    {
        "file_uid": "clip",
        "prompt": "a red circle moving to the right",
        "num_frames": 16,
        "fps": 8,
        "video_width": 256,
        "video_height": 256,
        "num_inference_steps": 10,
        "seed": 7,
    },
)


class Wrong(Exception):
    """The demo did not show what it should; the message says what happened instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A medium that was made and opens."""

    path: Path
    what: str


def main() -> None:
    """Run the demo; exit status 1 if anything failed."""
    began = time.monotonic()
    try:
        shown = demonstrate()
    except Wrong as exc:
        print(f"easeld: {exc}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    for medium in shown:
        print(f"{medium.path}  ({medium.what})")
    print(f"Done in {time.monotonic() - began:.0f} s.")


def demonstrate() -> list[Shown]:
    """Start a daemon, queue both jobs, wait, check, stop the daemon.

    Raises:
        Wrong: any of it failed.
    """
    OUTPUT.mkdir(exist_ok=True)
    data = Path(tempfile.mkdtemp(prefix="run-", dir=OUTPUT)).resolve()
    environment = {name: value for name, value in os.environ.items() if not _foreign(name)}
    environment |= {
        "EASELD_DATA": str(data),
        "EASELD_DEVICE": "cpu",
        "EASELD_PROGRESS_INTERVAL": "0.2",
        "EASELD_SHIM_PORT": "0",
    }
    environment["EASELD_SHIM_PORT"] = "0"  # whatever else runs here
    os.environ.clear()
    os.environ.update(environment)
    settings = all_settings.load()
    logs.configure(level="warning")
    print(f"Starting a daemon; its log is {_near(data / 'easeld.log')}")
    with _daemon(data) as daemon:
        documents = _make(settings, daemon)
        shown = [_checked(document) for document in documents]
        _stop(daemon, data)
    return shown


def _foreign(name: str) -> bool:
    """Whether a variable is a setting of ours that is not the demo's: it shows the same for everybody."""
    return name.startswith("EASELD_") and name not in KEPT


@contextmanager
def _daemon(data: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "daemon.entrypoints.cli", "up"]
    with (data / "easeld.log").open("wb") as log:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603 - ourselves
    try:
        yield daemon
    finally:
        if daemon.poll() is None:
            daemon.terminate()
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(STOP_WITHIN)
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()


def _make(settings: Settings, daemon: subprocess.Popen[bytes]) -> list[Document]:
    store = open_store(settings)
    try:
        queued = [
            queue(store, {"user_id": "demo", **fields}, max_prompt_characters=settings.max_prompt)
            for fields in REQUESTS
        ]
        jobs = [document.id for document in queued]
        with progress_bars(jobs, patience=float("inf")) as look:  # the daemon is ours
            documents = wait_for(store, jobs, every=LOOK_EVERY, look=look, alive=lambda: daemon.poll() is None)
    finally:
        store.close()
    if daemon.poll() is not None:
        raise Wrong(f"the daemon ended with status {daemon.returncode}: see {_near(settings.data / 'easeld.log')}")
    for document in documents:
        print(f"\n{document.id.path}\n{as_json(document.fields)}")
    print()
    return documents


def _checked(document: Document) -> Shown:
    """The file of a finished job, opened as a viewer or a player would.

    Raises:
        Wrong: the job failed, or its file does not open.
    """
    fields = document.fields or {}
    if fields.get("status") != Status.COMPLETED:
        raise Wrong(f"{document.id.path} is {fields.get('status')}: {plain(fields.get('error_message'))}")
    path = Path(unquote(urlsplit(addresses(fields)[0]).path))
    try:
        what = _video(path) if path.suffix == ".mp4" else _image(path)
    except (OSError, ValueError) as exc:  # what Pillow and PyAV raise derives from these
        raise Wrong(f"{path} does not open: {exc}") from exc
    return Shown(path=_near(path), what=what)


def _image(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        image.load()
        return f"{image.format} image, {image.width}x{image.height} pixels"


def _video(path: Path) -> str:
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        return f"{stream.codec_context.name} video, {stream.width}x{stream.height} pixels, {frames} frames"


def _stop(daemon: subprocess.Popen[bytes], data: Path) -> None:
    daemon.terminate()
    try:
        status = daemon.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        raise Wrong(f"the daemon did not stop within {STOP_WITHIN:g} s") from None
    if status != 0:
        raise Wrong(f"the daemon ended with status {status}: see {_near(data / 'easeld.log')}")


def _near(path: Path) -> Path:
    """A path as it is short to type from here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


if __name__ == "__main__":
    main()

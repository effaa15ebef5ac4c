from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import av
import pytest
from PIL import Image

from tests.entrypoints.conftest import COMMAND, ENDS_WITHIN, Easeld


def media(address: str) -> Path:
    """The file at an address of the embedded default."""
    parts = urlsplit(address)
    assert parts.scheme == "file"
    return Path(unquote(parts.path))


def test_up_makes_what_is_submitted_and_drains_on_sigterm(easeld: Easeld) -> None:
    """Submitting with --wait --json prints exactly the finished document; SIGTERM ends an idle daemon with status 0."""
    with easeld.up() as daemon:
        image = easeld("submit", "a cat", "--user", "alice", "--id", "a", "--width", "256", "--wait", "--json")
        video = easeld("submit", "a cat", "--user", "alice", "--id", "b", "--frames", "17", "--wait")
        ended = daemon.stop()
    assert image.status == 0
    assert image.json == easeld("show", "alice/a", "--json").json
    assert image.json["status"] == "completed"
    assert image.json["images"] == [image.json["image_url"]]
    with Image.open(media(image.json["image_url"])) as opened:
        assert opened.size == (256, 512)
    assert image.err.splitlines()[-1] == "image a: uploaded"
    assert video.status == 0
    first, address = video.out.splitlines()
    assert first == "alice/videos/b: uploaded"
    with av.open(str(media(address))) as container:
        assert sum(1 for _ in container.decode(video=0)) == 17
    assert ended.status == 0
    assert "Traceback" not in ended.err
    assert f"media   {easeld.folder / 'data' / 'media'}" in ended.out
    assert "easeld submit" in ended.out


def test_waiting_on_a_terminal_shows_a_bar(easeld: Easeld) -> None:
    """Where somebody looks, the same changes are one line that moves."""
    ours, theirs = pty.openpty()
    shown = b""
    with easeld.up():
        submitting = subprocess.Popen(
            [*COMMAND, "submit", "a cat", "--id", "a", "--wait"],
            env={**easeld.environment, "COLUMNS": "100", "TERM": "xterm"},
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        with suppress(OSError):  # how Linux says that the other end is closed; macOS says it by an empty read
            while more := os.read(ours, 4096):
                shown += more
        os.close(ours)
        assert submitting.wait(timeout=ENDS_WITHIN) == 0
    for part in ("image a", "━", "uploaded"):
        assert part in shown.decode()


def test_a_job_that_fails_is_status_1_with_its_document(easeld: Easeld) -> None:
    """Whoever waits in a script sees it without reading the document, and can read it all the same."""
    with easeld.up() as daemon:
        failed = easeld("submit", "a cat", "--video", "--video-width", "8", "--wait", "--json")
        daemon.stop(signal.SIGINT)
    assert failed.status == 1
    assert failed.json["status"] == "failed"
    assert failed.json["error_message"].startswith("video_width must be between")


def test_up_is_embedded_whatever_the_settings_say(easeld: Easeld) -> None:
    """The store and the folder of the command are not those of a project that the environment happens to name."""
    environment = {"EASELD_STORE": "firestore", "EASELD_BUCKET": "bucket", "EASELD_DATA": str(easeld.folder / "other")}
    with easeld.up("--data", str(easeld.folder / "data"), environment=environment) as daemon:
        assert easeld("submit", "a cat", "--wait").status == 0
        assert daemon.stop().status == 0
    assert not (easeld.folder / "other").exists()


def put_in_the_way(easeld: Easeld) -> None:
    """Put a file where the probe of the media needs a folder."""
    media = easeld.folder / "data" / "media"
    media.mkdir(parents=True)
    (media / "easeld-probe").write_bytes(b"in the way")


def test_a_folder_that_takes_no_files_ends_the_daemon_with_status_1(easeld: Easeld) -> None:
    """What is mended outside the settings is worth another start, and the message says what to do."""
    put_in_the_way(easeld)
    ended = easeld("up")
    assert ended.status == 1
    assert "worker.unfit" in ended.err
    assert "Traceback" not in ended.err


ENDS_ONCE = """
import os, runpy, threading

ends, first, another = os._exit, threading.Lock(), threading.Event()

def watched(status):
    if not first.acquire(blocking=False):
        another.set()
        threading.Event().wait()
    ends(99 if another.wait(1.0) else status)

os._exit = watched
runpy.run_module("daemon.entrypoints.cli", run_name="__main__")
"""


def test_only_one_thread_ends_the_process(easeld: Easeld) -> None:
    """What runs at the end, a measurement of coverage for one, crashed where two threads ran it at once."""
    put_in_the_way(easeld)
    ended = subprocess.run(
        [sys.executable, "-c", ENDS_ONCE, "up"],
        env=easeld.environment,
        cwd=easeld.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=ENDS_WITHIN,
        check=False,
    )
    assert b"worker.unfit" in ended.stderr
    assert ended.returncode == 1


def test_a_store_that_cannot_be_opened_ends_the_daemon_with_one_line(easeld: Easeld) -> None:
    """No traceback for a damaged file."""
    data = easeld.folder / "data"
    data.mkdir()
    (data / "jobs.db").write_bytes(b"no database" * 1000)
    ended = easeld("up")
    assert ended.status == 1
    assert "jobs.db" in ended.complaint


@pytest.mark.slow
@pytest.mark.timeout(300)  # torch and both models, on a machine that may be busy
def test_the_demo_makes_an_image_and_a_video_that_open(easeld: Easeld) -> None:
    """As `make demo` runs it: progress of both, their documents, their files, no daemon left behind."""
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-m", "daemon.entrypoints.demo"],
        cwd=easeld.folder,
        env={**os.environ, "PYTHONPATH": str(root), "EASELD_LEASE": "overruled"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"image picture: step \d+ of 12", ended.stderr)
    assert ended.stderr.count(": uploaded") == 2
    for ending, what in ((".png", "PNG image, 256x256 pixels"), (".mp4", "h264 video, 256x256 pixels, 16 frames")):
        [(path, found)] = re.findall(rf"^(\S+{ending})  \((.+)\)$", ended.stdout, re.MULTILINE)
        assert (easeld.folder / path).stat().st_size > 0
        assert found == what
    [log] = easeld.folder.glob("demo-output/*/easeld.log")
    assert "worker.ended" in log.read_text(encoding="utf-8")

"""Whether this machine can do any work; what is wrong is said, and nothing is claimed until it is mended."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from threading import Event

import structlog

from models.spec import Task

log = structlog.get_logger(__name__)

AGAIN_AFTER = 30.0  # seconds


class Unfit(Exception):
    """This machine cannot work; the message says why and what to do."""


def check_disk(min_free: float) -> None:
    """Check that ``min_free`` GiB are free where videos are encoded, and whatever else needs a temporary file.

    Raises:
        Unfit: there is less.
    """
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free / 2**30
    if free < min_free:
        raise Unfit(f"Only {free:.1f} GiB are free in {folder}; {min_free:g} are needed (EASELD_MIN_FREE_DISK)")


def check_encoders(tasks: Iterable[Task]) -> None:
    """Check that what these tasks make can be encoded, before anything has been generated for nothing.

    Raises:
        Unfit: it cannot.
    """
    mend = "pip install --force-reinstall --only-binary av av"
    try:
        import av  # noqa: PLC0415 - the command line starts sooner without it, and a shim has none
    except ImportError as exc:
        raise Unfit(f"PyAV, which encodes media, does not load ({exc}): {mend}") from exc
    from daemon.encode import ENCODERS  # noqa: PLC0415 - the same

    try:
        for task in tasks:
            av.Codec(ENCODERS[task], "w")
    except av.codec.codec.UnknownCodecError as exc:
        raise Unfit(f"PyAV's FFmpeg has no encoder {exc}: {mend}") from exc


def until_fit(check: Callable[[], None], stopped: Event, *, unfit: Callable[[str], None]) -> bool:
    """Check again and again until the machine is fit; ``False`` where we were stopped before.

    A process that ended here would be restarted for ever, and would say no more than this.
    """
    told = ""
    while not stopped.is_set():
        try:
            check()
        except Unfit as exc:
            if str(exc) != told:
                log.warning("worker.unfit", reason=str(exc))
                told = str(exc)
            unfit(str(exc))
            stopped.wait(AGAIN_AFTER)
        else:
            return True
    return False

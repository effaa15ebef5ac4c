"""Small pictures of what running jobs are making, in the bucket, for whoever waits for one.

One object for each job, replaced in place, its address in the document's progress, a new one each time. Nothing waits
for a preview and nothing fails for one: no step, no lease, no result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

import structlog

from daemon.core.crc32c import crc32c
from daemon.core.errors import Rejected
from daemon.core.objects import ContentType, Present, check_name, place, preview_name
from daemon.core.ports import BlobStore
from daemon.encode import jpeg
from daemon.heartbeat import Heartbeat
from daemon.held import Held

if TYPE_CHECKING:
    from models.spec import Frames

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.25  # seconds between two looks at what there is to show
LEAST = 1.0  # seconds between two writes of one object: cloud.google.com/storage/docs/objects#immutability
AGAIN_AFTER = 30.0  # seconds until a preview is tried again after one that failed


@dataclass(slots=True)
class _Shown:
    """What was last tried for a claim."""

    picture: Frames
    again_at: float  # by the monotonic clock


class Previews:
    """Uploads in a thread of its own, each job's preview no more often than ``every`` so many seconds.

    ``clean`` removes what is left of the preview of a claim that is over. Whoever ends a claim does so too; but one
    that ends during an upload may have looked before the object was there.
    """

    def __init__(
        self, blobs: BlobStore, heartbeat: Heartbeat, *, prefix: str, every: float, clean: Callable[[Held], None]
    ) -> None:
        self._blobs = blobs
        self._heartbeat = heartbeat
        self._prefix = prefix
        self._every = max(every, LEAST)
        self._clean = clean
        self._shown: dict[str, _Shown] = {}  # by token
        self.busy = False

    def run(self, stopped: Event) -> None:
        """Show what there is until ``stopped``."""
        while not stopped.wait(LOOK_EVERY):
            self.look()

    def look(self) -> None:
        """Upload each preview that is due."""
        held = self._heartbeat.held()
        self._shown = {one.token: self._shown[one.token] for one in held if one.token in self._shown}
        for one in held:
            if (picture := one.preview) is not None and self._is_due(one, picture):
                self._show(one, picture)

    def _is_due(self, held: Held, picture: Frames) -> bool:
        if held.gone is not None or held.doubtful or not held.shows_preview:
            return False
        last = self._shown.get(held.token)
        return last is None or (picture is not last.picture and time.monotonic() >= last.again_at)

    def _show(self, held: Held, picture: Frames) -> None:
        self.busy, pause = True, self._every
        try:
            held.preview_url = self._upload(held, picture)
        except Rejected as exc:  # the name is somebody else's, or too long: it will not be better
            held.hide_preview()
            log.warning("preview.not_uploaded", job=held.id.path, error=str(exc))
        except Exception as exc:  # noqa: BLE001 - a preview must not cost anybody a picture
            pause = AGAIN_AFTER
            log.warning("preview.not_uploaded", job=held.id.path, error=str(exc) or type(exc).__name__)
        finally:
            self._shown[held.token] = _Shown(picture, time.monotonic() + pause)
            if held.gone is not None:
                self._clean(held)
            self.busy = False

    def _upload(self, held: Held, picture: Frames) -> str | None:
        """The address of what is there now; where another writer came between, that of what was there."""
        name = preview_name(held.id, prefix=self._prefix)
        check_name(name)
        content = jpeg(picture)
        placement = place(
            self._blobs.look(name),
            mark=held.mark,
            crc32c=crc32c(content),
            content_type=ContentType.JPEG,
            may_adopt=False,
        )
        if isinstance(placement, Present):
            generation: int | None = placement.generation
        else:
            generation = self._blobs.put(name, content, placement)
        return held.preview_url if generation is None else self._blobs.address(name, held.mark, version=generation)

"""What happens to a job once its frames are there: encode, upload, complete. Runs in the finisher pool."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import structlog

from daemon import encode
from daemon.core import lifecycle
from daemon.core.crc32c import crc32c
from daemon.core.errors import BlobsUnavailable, Interrupted, LeaseLost, Rejected, Retryable, StoreUnavailable
from daemon.core.job import Document, JobId
from daemon.core.objects import (
    ContentType,
    Mark,
    Present,
    StoredObject,
    all_names,
    check_name,
    is_orphan,
    object_names,
    place,
    preview_name,
)
from daemon.core.policy import Outcome
from daemon.core.ports import BlobStore, Store
from daemon.core.record import Record
from daemon.held import Held
from daemon.provenance import Provenance
from models.spec import Task

if TYPE_CHECKING:
    from models.spec import Frames

log = structlog.get_logger(__name__)
T = TypeVar("T")

LOOKS = 5  # at an object that changes under us, before we take it for a trouble that passes
LONGEST_PAUSE = 5.0  # seconds between two tries while a remote is away


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Encodes, uploads and completes. ``patience`` is how many seconds an outage of the bucket may last."""

    store: Store
    blobs: BlobStore
    prefix: str
    patience: float
    stopped: Event
    provenance: Provenance

    def publish(self, held: Held, frames: Sequence[Frames]) -> Document:
        """Bring a job from its frames to its terminal write; the finished document.

        Raises:
            LeaseLost: the job is no longer ours, or no longer wanted like this; ``held.gone`` says why.
            Rejected: another document's object stands where one of this job's must go.
            Retryable: the bucket stayed away for longer than the patience.
            Interrupted: we were told to stop while a remote was away.
        """
        names = object_names(held.id, len(held.work.seeds), prefix=self.prefix)
        held.progress = replace(held.progress, phase="encoding")
        began = time.monotonic()
        contents = [self._encode(held, index, picture) for index, picture in enumerate(frames)]
        encoded = time.monotonic()
        held.timings["encode"] = encoded - began
        held.progress = replace(held.progress, phase="uploading")
        generations = [self._upload(held, name, content) for name, content in zip(names, contents, strict=True)]
        held.timings["upload"] = time.monotonic() - encoded
        addresses = [self.blobs.address(name, held.mark) for name in names]
        document = self._complete(held, addresses, generations, video_info(held, frames))
        held.litter = not held.alone_in_bucket
        return document

    def clean(self, job: JobId, *, token: str | None = None, media: bool = True) -> None:
        """Delete what a document's claims have left in the bucket and neither a lease nor its result names.

        ``token`` is that of the claim that cleans up: it may do so even where its document is gone. Without ``media``,
        only a preview is looked for.

        Raises:
            StoreUnavailable, BlobsUnavailable: nothing more was deleted; a later claim or ``easeld gc`` will.
        """
        # By name, because a listing would find other documents' too.
        preview = preview_name(job, prefix=self.prefix)
        found_objects = [self._look(name) for name in (all_names(job, prefix=self.prefix) if media else [preview])]
        ours = [
            (found, mark)
            for found in found_objects
            if found is not None and (mark := Mark.read(found.metadata)) is not None and mark.document == job.path
        ]
        # The document is read after all of them: an object that a later claim writes meanwhile is not among them.
        fields = self.store.read(job).fields if ours else None
        for found, mark in reversed(ours):  # the base name last: where it is free, nothing else was left behind
            orphan = is_orphan(mark, fields, preview=found.name == preview)
            if orphan or (fields is None and mark.token == token):
                self.blobs.delete(found.name, found.generation)

    def _look(self, name: str) -> StoredObject | None:
        try:
            return self.blobs.look(name)
        except Rejected:  # too long a name for this bucket: nothing can be there
            return None

    def _encode(self, held: Held, index: int, frames: Frames) -> bytes:
        about = self.provenance.in_file(held.work, index)
        if held.work.spec.task is Task.TEXT2IMAGE:
            return encode.png(frames, about=about)
        try:
            return encode.mp4(frames, fps=held.work.request.fps, about=about)
        except OSError as exc:  # a full disk, above all
            folder = tempfile.gettempdir()
            raise Retryable(f"The video could not be written to {folder}: {exc.strerror or exc}") from exc

    def _upload(self, held: Held, name: str, content: bytes) -> int:
        check_name(name)
        return self._patiently(held, partial(self._put, held, name, content, crc32c(content)))

    def _put(self, held: Held, name: str, content: bytes, checksum: str) -> int:
        is_image = held.work.spec.task is Task.TEXT2IMAGE
        own_name = name == object_names(held.id, 1, prefix=self.prefix)[0]
        for look in range(LOOKS):
            existing = None
            # The first claim of a life need not look: the condition of its write tells whether there is nothing yet.
            if look or not held.alone_in_bucket:
                existing = self.blobs.look(name)
                held.alone_in_bucket = False
            placement = place(
                existing,
                mark=held.mark,
                crc32c=checksum,
                content_type=ContentType.PNG if is_image else ContentType.MP4,
                may_adopt=own_name or any(addresses_object(address, name) for address in held.replaces),
            )
            if isinstance(placement, Present):
                return placement.generation
            generation = self.blobs.put(name, content, placement)
            if generation is not None:
                return generation
        raise BlobsUnavailable(f"{name} changed under us {LOOKS} times")

    def _complete(
        self,
        held: Held,
        addresses: Sequence[str],
        generations: Sequence[int],
        info: Mapping[str, Any] | None,
    ) -> Document:
        held.timings["total"] = time.monotonic() - held.claimed_at
        outcome = Outcome(
            addresses=addresses,
            generations=generations,
            seed=held.work.seeds[0],
            video_info=info,
            made_with=self.provenance.on_document(held.work.spec),
            timings={stage: round(seconds, 4) for stage, seconds in held.timings.items()},
            warnings=list(held.warnings),
        )
        decide = partial(lifecycle.complete, token=held.token, outcome=outcome)
        result = self._patiently(held, lambda: held.write(decide))
        if isinstance(result, Document):
            return result
        # A commit can succeed and its answer be lost: then our result stands there already.
        document = self._patiently(held, lambda: self.store.read(held.id), even_if_gone=True)
        ours = Record.of(document.fields or {}).result
        if ours is None or ours.token != held.token:
            raise LeaseLost
        return document

    def _patiently(self, held: Held, call: Callable[[], T], *, even_if_gone: bool = False) -> T:
        """Call until it goes through, sure of the lease before each try, for as long as that makes sense."""
        began, pause = time.monotonic(), 0.2
        while True:
            try:
                if held.doubtful and not even_if_gone:
                    held.renew()
                if held.gone is not None and not even_if_gone:
                    raise LeaseLost
                return call()
            except StoreUnavailable as exc:
                trouble: Exception = exc
            except BlobsUnavailable as exc:
                trouble = exc
                if time.monotonic() - began > self.patience:
                    raise Retryable(f"The media could not be uploaded: {exc}") from exc
            log.warning("job.waiting", job=held.id.path, error=str(trouble))
            if self.stopped.wait(pause * random.uniform(0.5, 1.0)):
                raise Interrupted from trouble
            pause = min(2 * pause, LONGEST_PAUSE)


def video_info(held: Held, frames: Sequence[Frames]) -> dict[str, Any] | None:
    """What the document says of a video; ``None`` for pictures."""
    if held.work.spec.task is Task.TEXT2IMAGE:
        return None
    count, height, width = frames[0].shape[:3]
    fps = held.work.request.fps
    width, height = encode.even(width), encode.even(height)
    return {"frames": count, "fps": fps, "duration_seconds": count / fps, "width": width, "height": height}


def addresses_object(address: str, name: str) -> bool:
    """Whether an address, in whatever style, is that of the object ``name`` in some bucket."""
    return unquote(urlsplit(address).path).endswith("/" + name)

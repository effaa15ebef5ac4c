"""What is true after a run, found from the store and the bucket alone."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from PIL import Image

from daemon.core.job import TERMINAL, Collection, Document, JobId
from daemon.core.objects import Mark, StoredObject, object_names
from daemon.core.record import Record, holder
from tests.chaos.clients import Job
from tests.chaos.plan import Plan
from tests.chaos.sites import PREFIX, Site, fetch


@dataclass(slots=True, kw_only=True)
class Findings:
    """What is wrong, by kind: one line each, after the job that it is about."""

    lost: list[tuple[JobId, str]] = field(default_factory=list)
    duplicated: list[tuple[JobId, str]] = field(default_factory=list)
    wrong_files: list[tuple[JobId, str]] = field(default_factory=list)
    orphans: list[tuple[JobId, str]] = field(default_factory=list)
    other: list[tuple[JobId, str]] = field(default_factory=list)

    @property
    def all(self) -> list[tuple[JobId, str]]:
        return [*self.lost, *self.duplicated, *self.wrong_files, *self.orphans, *self.other]


def check(plan: Plan, site: Site, jobs: Iterable[Job]) -> Findings:
    """Look at every document and every object."""
    findings = Findings()
    objects = {found.name: found for found in site.blobs.objects(f"{PREFIX}/")}
    named: set[str] = set()
    gone: set[str] = set()
    for job in jobs:
        document = site.store.read(job.id)
        if document.fields is None:
            gone.add(job.id.path)
        _check_end(findings, plan, job, document)
        if (document.fields or {}).get("status") == "completed" and job.id.path not in gone:
            findings.wrong_files += [
                (job.id, problem) for problem in _file_problems(site, job, document.fields or {}, objects)
            ]
        named |= set(_named(site, job.id, document.fields or {}))
    for found in objects.values():
        mark = Mark.read(found.metadata)
        if mark is None or found.name in named or mark.document in gone:
            continue  # a probe's; or of a document that is gone, whose files nobody may judge
        job_id = JobId.parse(mark.document)
        assert job_id is not None
        findings.orphans.append((job_id, f"no document names {found.name}, of {mark}"))
    return findings


def _check_end(findings: Findings, plan: Plan, job: Job, document: Document) -> None:
    if document.fields is None:
        if "absent" not in job.may_end:
            findings.lost.append((job.id, "the document is gone"))
        return
    fields = document.fields
    record, status = Record.of(fields), fields.get("status")
    if status not in TERMINAL or status not in job.may_end:
        findings.lost.append((job.id, f"{status} instead of {' or '.join(job.may_end)}: {fields.get('error_message')}"))
    by_client = job.acted and job.act == "fail"
    if record.finishes > 1 or (record.finishes != 1 and not by_client):
        findings.duplicated.append((job.id, f"ended {record.finishes} times in one life"))
    attempt = (record.raw.get("result") or {}).get("attempt")
    if attempt is not None and attempt > plan.max_attempts:
        findings.other.append((job.id, f"attempt {attempt} of {plan.max_attempts}"))
    if holder(fields) is not None or (record.lease is not None and not by_client):
        findings.other.append((job.id, "a lease is left"))
    if job.poison and fields.get("error_type") != "RuntimeError":
        findings.other.append((job.id, f"failed as {fields.get('error_type')}"))
    fits = fields.get("generated") is (status == "completed") and fields.get("error") is (status == "failed")
    if not fits and not by_client:
        findings.other.append((job.id, "generated and error do not fit the status"))
    if fields.get("mine", "stays") != "stays":
        findings.other.append((job.id, "a field of the client's was touched"))


def _named(site: Site, job: JobId, fields: Mapping[str, Any]) -> Iterator[str]:
    """The names of the objects that a document names."""
    addresses = fields.get("images" if job.collection is Collection.IMAGES else "videos") or []
    for name in object_names(job, 4, prefix=PREFIX):
        if site.address(name) in addresses:
            yield name


def _file_problems(
    site: Site, job: Job, fields: Mapping[str, Any], objects: Mapping[str, StoredObject]
) -> Iterator[str]:
    result = fields["easeld"]["result"]
    count = job.request.get("num_images_per_prompt", 1)
    names = object_names(job.id, count, prefix=PREFIX)
    addresses = fields.get("images" if job.id.collection is Collection.IMAGES else "videos")
    if addresses != [site.address(name) for name in names]:
        yield f"the document names {addresses}"
        return
    for index, (name, generation) in enumerate(zip(names, result["generations"], strict=True)):
        found = objects.get(name)
        if found is None:
            yield f"{name} is missing"
            continue
        mark = Mark.read(found.metadata)
        if mark is None or (mark.document, mark.token, mark.attempt) != (
            job.id.path, result["token"], result["attempt"],
        ):  # fmt: skip
            yield f"{name} is of {mark}, the document says {result}"
        if found.generation != generation:
            yield f"{name} has generation {found.generation}, the document says {generation}"
        if problem := _content_problem(job, fetch(addresses[index]), fields["seed"] + index):
            yield f"{name}: {problem}"


def _content_problem(job: Job, content: bytes, seed: int) -> str | None:
    """Open the file and read the number that the null model painted: of this prompt and this seed, or not."""
    try:
        if job.id.collection is Collection.VIDEOS:
            with av.open(io.BytesIO(content), "r") as container:
                count = len(list(container.decode(video=0)))
            return None if count == job.request["num_frames"] else f"{count} frames"
        with Image.open(io.BytesIO(content)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, av.error.FFmpegError) as exc:
        return f"cannot be opened: {exc}"
    if pixels.shape != (job.request["height"], job.request["width"], 3):
        return f"has shape {pixels.shape}"
    painted = int.from_bytes(bytes(pixels[0, :4, 0]), "big")
    expected = zlib.crc32(f"{seed} {job.request['prompt']}".encode())
    return None if painted == expected else "is another job's picture"

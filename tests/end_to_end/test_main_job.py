"""The main job, end to end: queued documents in, media and finished documents out, by two real workers."""

from __future__ import annotations

import io
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import pytest
from google.cloud.storage import Bucket
from PIL import Image
from pydantic.alias_generators import to_camel

from daemon.adapters.firestore import FirestoreStore
from daemon.adapters.sqlite import SqliteStore
from daemon.core.job import SERVER_TIME, Collection, JobId
from daemon.core.ports import Store
from daemon.core.request import Submission
from daemon.core.submission import submit
from tests.contracts.conftest import Client
from tests.contracts.firestore_client import FirestoreClient
from tests.contracts.sqlite_client import SqliteClient
from tests.end_to_end.worker_process import worker

WITHIN = 240.0  # seconds for all jobs; about 40 on two idle cores
LOOK_EVERY = 1.0  # seconds; each look reads every document, which the workers beside it pay for
SMALL = {"width": 256, "height": 256, "num_inference_steps": 10}
SMALL_VIDEO = {"video_width": 256, "video_height": 256, "num_inference_steps": 10}
ODD = {"width": 264, "height": 257, "num_inference_steps": 10, "negative_prompt": "blurry", "guidance_scale": 5.5}


@dataclass(frozen=True, kw_only=True)
class Site:
    """One place to run workers at: how to reach it, as its workers, its shim and its clients do."""

    environment: Mapping[str, str]
    store: Store
    client: Client
    base: str  # what addresses start with


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """The Firestore emulator with fake-gcs-server, and the embedded default."""
    common = {"EASELD_DATA": str(tmp_path / "data"), "EASELD_THREADS": "1", "EASELD_CACHE": str(tmp_path / "cache")}
    with ExitStack() as stack:
        if request.param == "sqlite":
            store: Store = SqliteStore(tmp_path / "data" / "jobs.db")
            client: Client = SqliteClient(tmp_path / "data" / "jobs.db", store)
            base = (tmp_path / "data" / "media").as_uri()
            environment = common
        else:
            project = request.getfixturevalue("firestore_project")
            bucket: Bucket = request.getfixturevalue("bucket")
            server = request.getfixturevalue("gcs_server")
            store = FirestoreStore.connect(project=project)
            client = FirestoreClient(request.getfixturevalue("firestore_client"))
            base = f"{server.url}/{bucket.name}"
            environment = common | {
                "EASELD_STORE": "firestore",
                "EASELD_PROJECT": project,
                "EASELD_BUCKET": bucket.name,
                "EASELD_PUBLIC_BASE": server.url,
            }
        stack.callback(store.close)
        yield Site(environment=environment, store=store, client=client, base=base)


def call(store: Store, job: JobId, **parameters: object) -> None:
    """What the shim does with a call of the endpoint."""
    given = {"user_id": job.user_id, "file_uid": job.file_uid, "use_cloud_storage": True, **parameters}
    submission = Submission.parse(given, max_prompt_characters=1000)
    store.update(job, partial(submit, values=submission.values))


def whole_document(site: Site, job: JobId, request: Mapping[str, Any]) -> None:
    """The first kind of client: the whole request in the document, in JavaScript's names, then the same call."""
    prompt, options = f"a red circle {job.file_uid}", {to_camel(name): value for name, value in request.items()}
    fields = {"prompt": prompt, "style": "mine", "generated": False, "error": False, **options}
    site.client.set(job.path, {**fields, "status": "queued", "created_at": SERVER_TIME})
    call(site.store, job, prompt=prompt, **options)


def bare_document(site: Site, job: JobId, request: Mapping[str, Any]) -> None:
    """The second kind: only status, time, prompt and metadata in the document; the call brings the rest."""
    prompt = f"a blue square {job.file_uid}"
    site.client.set(job.path, {"prompt": prompt, "style": "mine", "status": "queued", "created_at": SERVER_TIME})
    call(site.store, job, prompt=prompt, **request)


Kind = Callable[[Site, JobId, Mapping[str, Any]], None]
KINDS: tuple[Kind, ...] = (whole_document, bare_document)


def wait_until_ended(store: Store, jobs: list[JobId]) -> dict[JobId, Mapping[str, Any]]:
    """Every document once none is active any more."""
    ended: dict[JobId, Mapping[str, Any]] = {}
    deadline = time.monotonic() + WITHIN
    while len(ended) < len(jobs):
        assert time.monotonic() < deadline, f"not ended: {[str(job) for job in jobs if job not in ended]}"
        for job in jobs:
            fields = store.read(job).fields or {} if job not in ended else {}
            if fields.get("status") in ("completed", "failed", "cancelled"):
                ended[job] = fields
        time.sleep(LOOK_EVERY)  # the clients' own way would be a listener; here a look now and then is enough
    return ended


def fetch(address: str) -> bytes:
    """A file, as whoever has its address gets it."""
    with urllib.request.urlopen(address, timeout=10) as response:
        content: bytes = response.read()
        return content


def check_completed(site: Site, job: JobId, fields: Mapping[str, Any], request: Mapping[str, Any], kind: Kind) -> None:
    """Compare a document with the contract's, field by field, and open every file that it names."""
    assert fields["status"] == "completed", fields
    assert (fields["generated"], fields["error"]) == (True, False)
    assert (fields["user_id"], fields["file_uid"]) == (job.user_id, job.file_uid)
    assert fields["task_type"] == job.collection.task
    assert fields["style"] == "mine", "metadata of the client's own stays"
    assert isinstance(fields["completed_at"], datetime)
    assert fields["created_at"] <= fields["submitted_at"] <= fields["completed_at"] == fields["modified"]
    assert type(fields["seed"]) is int
    assert 0 <= fields["seed"] < 2**32
    media = f"generating/{job.user_id}/{job.collection.folder}/{job.file_uid}"
    if job.collection is Collection.IMAGES:
        count = request.get("num_images_per_prompt", 1)
        names = [media, *(f"{media}_{index}" for index in range(1, count))]
        addresses = [f"{site.base}/{quote(name)}.png" for name in names]
        assert fields["images"] == addresses
        assert (fields["image_url"], fields["image_count"]) == (addresses[0], count)
        own = {"images", "image_url", "image_count"}
        for address in addresses:
            with Image.open(io.BytesIO(fetch(address))) as picture:
                picture.load()
                assert (picture.format, picture.size) == ("PNG", (request["width"], request["height"]))
    else:
        address = f"{site.base}/{quote(media)}.mp4"
        frames, fps = request["num_frames"], request["fps"]
        assert (fields["videos"], fields["video_url"]) == ([address], address)
        size = {"width": request["video_width"], "height": request["video_height"]}
        assert fields["video_info"] == {"frames": frames, "fps": fps, "duration_seconds": frames / fps, **size}
        own = {"videos", "video_url", "video_info"}
        with av.open(io.BytesIO(fetch(address)), "r") as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert (stream.width, stream.height) == (size["width"], size["height"])
            assert stream.average_rate == fps
            assert len(list(container.decode(stream))) == frames
            assert container.duration is not None
            seconds = timedelta(microseconds=container.duration).total_seconds()
            assert seconds == pytest.approx(frames / fps, abs=0.05)
    options = set(request) | ({to_camel(name) for name in request} if kind is whole_document else set())
    client = {"prompt", "style", "created_at", "submitted_at", "use_cloud_storage", *options}
    ours = {"status", "generated", "error", "completed_at", "modified", "seed", "task_type", "user_id", "file_uid"}
    assert set(fields) == client | ours | own | {"easeld"}
    assert not {"lease", "attempts", "not_before"} & set(fields["easeld"])
    assert fields["easeld"]["finishes"] == 1


@pytest.mark.timeout(400)
@pytest.mark.parametrize("site", ["firestore", "sqlite"], indirect=True)
def test_twenty_images_and_four_videos_by_two_workers_are_what_the_contract_says(site: Site) -> None:
    """Both kinds of client, two worker processes: every document as in the contract, every file whole and as asked."""
    asked: dict[JobId, Mapping[str, Any]] = {}
    kinds: dict[JobId, Kind] = {}
    with worker({**site.environment, "EASELD_WORKER": "one"}), worker({**site.environment, "EASELD_WORKER": "two"}):
        for number in range(24):
            collection = Collection.VIDEOS if number % 6 == 5 else Collection.IMAGES
            job = JobId(user_id=f"user {number % 3}", collection=collection, file_uid=f"é#{number}")
            if collection is Collection.VIDEOS:
                request: Mapping[str, Any] = {**SMALL_VIDEO, "num_frames": 16 + number % 2, "fps": 6 + number % 4}
            elif number % 4 == 0:
                request = ODD
            else:
                request = {**SMALL, "num_images_per_prompt": 1 + number % 3}
            asked[job] = request
            kinds[job] = KINDS[(number + number // 6) % 2]
            kinds[job](site, job, request)
        ended = wait_until_ended(site.store, list(asked))
    assert len({fields["easeld"]["result"]["token"] for fields in ended.values()}) == len(asked)
    for job, request in asked.items():
        check_completed(site, job, ended[job], request, kinds[job])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_the_same_request_with_the_same_seed_is_the_same_file(site: Site) -> None:
    """A seed that a client gives decides the picture; the document says which seed it was."""
    jobs = [JobId(user_id="u", collection=Collection.IMAGES, file_uid=name) for name in ("one", "two")]
    with worker({**site.environment, "EASELD_MAX_BATCH": "1"}):
        for job in jobs:
            call(site.store, job, prompt="a green star", seed=42, **SMALL)
        ended = wait_until_ended(site.store, jobs)
    assert [ended[job]["seed"] for job in jobs] == [42, 42]
    one, two = (fetch(ended[job]["image_url"]) for job in jobs)
    assert one == two


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["firestore"], indirect=True)
def test_a_request_that_breaks_the_contract_fails_with_its_message(site: Site) -> None:
    """A document that is no valid request ends failed, in the contract's form, and no other job suffers."""
    bad = JobId(user_id="u", collection=Collection.IMAGES, file_uid="bad")
    good = JobId(user_id="u", collection=Collection.IMAGES, file_uid="good")
    site.client.set(bad.path, {"prompt": "x", "width": 5, "status": "queued", "created_at": SERVER_TIME})
    call(site.store, good, prompt="a star", **SMALL)
    with worker(site.environment):
        ended = wait_until_ended(site.store, [bad, good])
    assert ended[good]["status"] == "completed"
    failed = ended[bad]
    assert (failed["status"], failed["generated"], failed["error"]) == ("failed", False, True)
    assert failed["error_message"] == "width must be between 256 and 1024"
    assert failed["error_type"] == "Exception"
    assert isinstance(failed["failed_at"], datetime)
    assert (failed["user_id"], failed["file_uid"]) == ("u", "bad")

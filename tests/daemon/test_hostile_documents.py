"""Five hundred documents that nobody should write, through a running daemon: it survives, and each of ours ends."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.cloud import firestore

from daemon import claiming
from daemon.adapters.firestore import FirestoreStore
from daemon.adapters.folder import FolderBlobs
from daemon.core.job import SERVER_TIME, TERMINAL, Collection, JobId
from daemon.core.ports import Store
from tests.chaos.sites import Client
from tests.contracts.firestore_client import FirestoreClient
from tests.daemon.rig import Rig, until

COUNT = 500
WITHIN = 150.0  # seconds; about 20 on two idle cores
MIB = 2**20 - 2000  # bytes that a document may have beside its name and the few fields around; Firestore's limit

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 2**53, 2**63 - 1, -(2**63), 0.5, -0.0, 1e308, float("inf"), float("nan")),
    *("", " ", "\n", "null", "256", "x" * 1400, "\u202e\u200d", "🤖" * 500, "e\u0301", "\ufeff", "\x00", "\u2028"),
    *([], {}, [1, "a", None], {"a": {"b": [{"c": 1}]}}, b"", b"\xff\x00", [{}] * 50, {"é.b`c": 1}),
    *(datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
]
OF_CLIENTS = [
    *("prompt", "width", "height", "seed", "fps", "num_frames", "numFrames", "negative_prompt", "guidance_scale"),
    *("num_images_per_prompt", "numInferenceSteps", "model", "use_cloud_storage", "user_id", "file_uid", "created_at"),
]
OF_OURS = ["easeld", "progress", "submitted_at", "modified", "images", "image_url", "videos", "error", "generated"]
OF_EASELD = ["lease", "result", "attempts", "not_before", "request", "seeds", "model", "crashes", "finishes"]
NAMES = ["plain", "ünïcode", "🤖", "a b", "a#b?c%d", "..a", "x" * 200, "e\u0301", "\u202eabc", "%2e%2e", "a_1", "a.png"]
ELSEWHERE = [
    "images/{}", "apps/a/images/{}", "generations/u/images/{}/images/x", "generations/u/audio/{}",
    "generations/u/images/{}/videos/y", "other/u/images/{}",
]  # fmt: skip
SMALL = {"width": 256, "height": 256, "video_width": 256, "video_height": 256}
GOOD = {"prompt": "a cat", "num_inference_steps": 10, **SMALL}


class Hostile:
    """Documents, repeatable from the seed."""

    def __init__(self, seed: int, *, deepest: int) -> None:
        self._random = random.Random(seed)
        self._deepest = deepest

    def path(self, number: int) -> str:
        chance = self._random
        if chance.random() < 0.1:
            return chance.choice(ELSEWHERE).format(f"n{number}")
        collection = chance.choice(("images", "images", "videos"))
        return f"generations/{chance.choice(NAMES)}/{collection}/{chance.choice(NAMES)}{number}"

    def fields(self, number: int) -> dict[str, Any]:
        chance = self._random
        fields: dict[str, Any] = {**GOOD, "status": "queued", "created_at": SERVER_TIME}
        if number % 10 == 0:
            return fields
        fields |= {name: chance.choice(VALUES) for name in chance.sample(OF_CLIENTS, chance.randint(0, 4))}
        fields |= {name: chance.choice(VALUES) for name in chance.sample(OF_OURS, chance.randint(0, 3))}
        if chance.random() < 0.3:
            fields["easeld"] = {name: chance.choice(VALUES) for name in chance.sample(OF_EASELD, 3)}
        if chance.random() < 0.1:
            fields["deep"] = self._deep(chance.randint(3, self._deepest))
        if number % 60 == 7:
            fields["prompt"] = "a" * (MIB - 20_000)
        if number % 60 == 37:
            fields["mood"] = "a" * (MIB - chance.randint(0, 1500))
        if chance.random() < 0.05:
            del fields["created_at"]
        if chance.random() < 0.05:
            fields["status"] = chance.choice([*VALUES, "processing", "Queued", "done"])
        return fields

    def _deep(self, levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = {"a": value}
        return value


@pytest.fixture(params=["sqlite", "firestore"])
def site(request: pytest.FixtureRequest, rig: Rig, tmp_path: Path) -> Iterator[tuple[Rig, Client, int]]:
    """The rig, on either store; how deep values may be nested there."""
    if request.param == "sqlite":
        yield rig, rig.client, 100
        return
    project = request.getfixturevalue("firestore_project")
    store: Store = FirestoreStore.connect(project=project)
    blobs = FolderBlobs(tmp_path / "other-media", "file:///media")
    apps = firestore.Client(project=project)
    client = FirestoreClient(apps)
    yield Rig(folder=rig.folder, store=store, blobs=blobs, client=client), client, 18  # type: ignore[arg-type]  # an app's hand as well
    apps.close()
    blobs.close()
    store.close()


@pytest.mark.usefixtures("uncounted")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_five_hundred_hostile_documents_stop_no_daemon(
    site: tuple[Rig, Client, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of ours ends, failed with a message or completed, and a good job still runs."""
    for pause in ("SWEEP_EVERY", "POLL_WITH_LISTENER"):
        monkeypatch.setattr(claiming, pause, 2.0)  # seconds: some hide from the window
    rig, client, deepest = site
    hostile = Hostile(20261124, deepest=deepest)
    ours: list[JobId] = []
    queued = 0
    with rig.worker(fleet=["shapes", "motion"]) as running:  # so that a model of nobody is refused
        for number in range(COUNT):
            path, fields = hostile.path(number), hostile.fields(number)
            client.set(path, fields)
            job = JobId.parse(path)
            if job is not None and fields["status"] == "queued":
                ours.append(job)
                queued += number % 10 == 0
        unended = list(ours)

        def all_ended() -> bool:
            while unended and rig.status(unended[-1]) in TERMINAL:  # one read for each look: they cost the worker time
                unended.pop()
            return not unended

        try:
            until(all_ended, "all end", within=WITHIN)
        except AssertionError:
            pytest.fail(f"up to {len(unended)} of {len(ours)} have not ended: {unended[-1]} {rig.fields(unended[-1])}")
        good = JobId(user_id="good", collection=Collection.IMAGES, file_uid="last")
        client.set(good.path, {**GOOD, "status": "queued", "created_at": SERVER_TIME})
        rig.until_status(good, "completed")
        assert running.exit is None, "the worker is still there"
    completed = [job for job in ours if _ended_well(job, rig.fields(job))]
    assert len(completed) >= queued


def _ended_well(job: JobId, fields: Mapping[str, Any]) -> bool:
    """Whether it was completed; failed in the contract's form otherwise."""
    if fields["status"] == "completed":
        assert fields["generated"] is True, job
        return True
    assert (fields["status"], fields["error"]) == ("failed", True), (job, fields["status"])
    too_large = len(str(fields.get("mood", ""))) > MIB - 5000
    assert too_large or (isinstance(fields["error_message"], str) and fields["error_message"]), job
    return False

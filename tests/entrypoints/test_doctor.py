from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud.firestore import Client
from google.cloud.storage import Bucket

from tests.entrypoints.conftest import Ended, QuickEaseld
from tests.parts.firestore_emulator import FirestoreEmulator
from tests.parts.firestore_relay import firestore_relay
from tests.parts.process import free_port

ORDER = [
    "settings",
    "credentials",
    "project",
    "read and write",
    "indexes",
    "listener",
    "bucket",
    "device",
    "driver",
    "memory",
    "disk",
    "models",
    "clock",
]
ON_THE_STORE = {"project", "read and write", "indexes", "listener", "clock"}


def findings(ended: Ended) -> dict[str, dict[str, Any]]:
    """What ``--json`` says, by check."""
    rows = json.loads(ended.out)
    assert [row["check"] for row in rows] == ORDER
    assert ended.status == (0 if all(row["state"] == "ok" for row in rows) else 1)
    return {row["check"]: row for row in rows}


def states(ended: Ended) -> dict[str, str]:
    """The state of each check that is not ok."""
    return {name: row["state"] for name, row in findings(ended).items() if row["state"] != "ok"}


def trouble(ended: Ended, check: str, *, skipped: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    """What one check complains of, which is the only one that does; others are skipped for it."""
    assert states(ended) == {check: "trouble"} | dict.fromkeys(skipped, "skipped")
    return "\n".join(findings(ended)[check]["lines"])


@pytest.fixture(name="environment")
def _environment(
    firestore_emulator: FirestoreEmulator, firestore_client: Client, firestore_project: str, bucket: Bucket
) -> dict[str, str]:
    """A worker's settings for both emulators, whose first answer has come: on a busy machine it takes its time."""
    firestore_client.document("any/document").get()
    return {
        "EASELD_STORE": "firestore",
        "EASELD_PROJECT": firestore_project,
        "EASELD_BUCKET": bucket.name,
        "EASELD_PUBLIC_BASE": os.environ["STORAGE_EMULATOR_HOST"],
        "STORAGE_EMULATOR_HOST": os.environ["STORAGE_EMULATOR_HOST"],
        **firestore_emulator.environment,
    }


def test_all_is_well_on_a_fresh_machine(quick: QuickEaseld) -> None:
    """The embedded defaults: every check is ok, one line each, exit status 0."""
    ended = quick("doctor")
    assert ended.status == 0, ended.out
    lines = ended.out.splitlines()
    assert [line[8:24].strip() for line in lines] == ORDER
    assert all(line.startswith("ok ") for line in lines)


def test_all_is_well_on_a_healthy_set_up(quick: QuickEaseld, environment: dict[str, str]) -> None:
    """Firestore and a bucket; twice, because the scratch document is there the second time."""
    for _ in range(2):
        ended = quick("doctor", "--json", **environment)
        assert states(ended) == {}, ended.out
    shown = quick("show", "easeld-doctor/scratch", "--json", **environment)
    assert shown.json["status"] == "cancelled"
    assert "cancel_requested" not in shown.json


def test_a_wrong_setting_is_named_and_the_rest_skipped(quick: QuickEaseld) -> None:
    """Nothing can be checked without settings."""
    ended = quick("doctor", "--json", EASELD_LEASE="soon")
    assert trouble(ended, "settings", skipped=set(ORDER) - {"settings"}).startswith("EASELD_LEASE: ")


def test_a_model_that_nobody_knows_is_a_wrong_setting(quick: QuickEaseld) -> None:
    """It says which models there are."""
    said = findings(quick("doctor", "--json", EASELD_MODELS="dalle"))["settings"]["lines"]
    assert said[0].startswith("EASELD_MODELS: no such model: dalle; there are ")


def test_missing_credentials_are_told_with_the_command(
    quick: QuickEaseld, environment: dict[str, str], tmp_path: Path
) -> None:
    """As on a machine where nobody has logged in."""
    del environment["FIRESTORE_EMULATOR_HOST"]
    environment |= {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "none"), "NO_GCE_CHECK": "true"}
    ended = quick("doctor", "--json", **environment)
    said = trouble(ended, "credentials", skipped=ON_THE_STORE | {"bucket"})
    assert "gcloud auth application-default login" in said


def test_credentials_that_are_no_key_are_told(quick: QuickEaseld, environment: dict[str, str]) -> None:
    """The key itself is not shown."""
    del environment["FIRESTORE_EMULATOR_HOST"]
    ended = quick("doctor", "--json", **environment, EASELD_CREDENTIALS_JSON='{"private_key": "hidden"}')
    said = trouble(ended, "credentials", skipped=ON_THE_STORE | {"bucket"})
    assert "missing fields" in said
    assert "client_email" in said
    assert "hidden" not in ended.out


def test_a_folder_that_cannot_be_made_is_told_with_the_setting(quick: QuickEaseld) -> None:
    """A file stands where the folder should be."""
    (quick.folder / "data").write_text("in the way")
    ended = quick("doctor", "--json")
    assert "EASELD_DATA=FOLDER" in trouble(ended, "credentials", skipped=ON_THE_STORE | {"bucket"})


@pytest.mark.parametrize(
    ("method", "code", "details", "check", "skipped", "said"),
    [
        (
            "BatchGetDocuments",
            grpc.StatusCode.NOT_FOUND,
            "The database (default) does not exist",
            "project",
            ON_THE_STORE - {"project"},
            "gcloud firestore databases create",
        ),
        (
            "Commit",
            grpc.StatusCode.PERMISSION_DENIED,
            "Missing or insufficient permissions",
            "read and write",
            {"listener"},
            "--role=roles/datastore.user",
        ),
        (
            "RunQuery",
            grpc.StatusCode.FAILED_PRECONDITION,
            "The query requires an index. You can create it here: https://console.firebase.google.com/x",
            "indexes",
            set(),
            "firebase deploy --only firestore:indexes",
        ),
        ("Listen", grpc.StatusCode.PERMISSION_DENIED, "denied", "listener", set(), "polling"),
    ],
)
def test_what_firestore_refuses_is_told_with_the_command(
    quick: QuickEaseld,
    environment: dict[str, str],
    firestore_emulator: FirestoreEmulator,
    method: str,
    code: grpc.StatusCode,
    details: str,
    check: str,
    skipped: set[str],
    said: str,
) -> None:
    """No database, no right to write, no index, no stream: each found by its own check."""
    with firestore_relay(firestore_emulator.address) as relay:
        relay.fail(method, code, details, times=1000)
        ended = quick("doctor", "--json", **environment | {"FIRESTORE_EMULATOR_HOST": relay.address})
    assert said in trouble(ended, check, skipped=skipped)


def test_each_missing_index_has_a_line_of_its_own(
    quick: QuickEaseld, environment: dict[str, str], firestore_emulator: FirestoreEmulator
) -> None:
    """Ten queries, three of which Firestore refuses."""
    with firestore_relay(firestore_emulator.address) as relay:
        relay.fail("RunQuery", grpc.StatusCode.FAILED_PRECONDITION, "The query requires an index", times=3)
        ended = quick("doctor", "--json", **environment | {"FIRESTORE_EMULATOR_HOST": relay.address})
    assert len(trouble(ended, "indexes").splitlines()) == 3


def test_a_bucket_that_is_not_there_is_told(quick: QuickEaseld, environment: dict[str, str]) -> None:
    """With the command that makes it."""
    ended = quick("doctor", "--json", **environment | {"EASELD_BUCKET": "nobodys-bucket"})
    assert "gcloud storage buckets create gs://nobodys-bucket" in trouble(ended, "bucket")


def test_media_that_clients_cannot_fetch_are_told(quick: QuickEaseld, environment: dict[str, str]) -> None:
    """Written by us and out of reach for them: the address is the wrong one, say."""
    base = f"http://127.0.0.1:{free_port()}"
    ended = quick("doctor", "--json", **environment | {"EASELD_PUBLIC_BASE": base})
    assert f"{base}/" in trouble(ended, "bucket")


@pytest.mark.parametrize(
    ("setting", "value", "check", "skipped", "said"),
    [
        ("EASELD_DEVICE", "cuda:7", "device", {"driver", "memory", "models"}, "Check nvidia-smi"),
        ("EASELD_MIN_FREE_DISK", "1e9", "disk", set(), "EASELD_MIN_FREE_DISK"),
        ("EASELD_MODELS", "mine", "models", set(), "a folder in diffusers' layout"),
    ],
)
def test_what_the_machine_lacks_is_told(
    quick: QuickEaseld, setting: str, value: str, check: str, skipped: set[str], said: str
) -> None:
    """A card that is not there, a full disk, weights that nobody has fetched."""
    mine = {"mine": {"family": "sdxl", "path": str(quick.folder / "none")}}
    ended = quick("doctor", "--json", **{"EASELD_CATALOG": json.dumps(mine), "EASELD_MODELS": "shapes", setting: value})
    assert said in trouble(ended, check, skipped=skipped)

"""Apps on the real JavaScript SDK, with rules, shim and worker in place."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path

import pytest
from google.cloud.storage import Bucket

from daemon.adapters.firestore import FirestoreStore
from tests.end_to_end.worker_process import worker
from tests.entrypoints.shim.running import ENDPOINT, KEY, running
from tests.firebase.node import FOLDER, run
from tests.firebase.test_rules import RULES
from tests.parts.fake_gcs import GcsServer
from tests.parts.firestore_emulator import FirestoreEmulator

EXAMPLE = FOLDER.parents[1] / "docs" / "example-client.mjs"
WITHIN = 150.0  # seconds; 15 on two idle cores
MODELS = {
    "blank": {"family": "null", "task": "text2image", "step_seconds": 0.01},
    "slow": {"family": "null", "task": "text2image", "step_seconds": 1.0},
    "reel": {"family": "null", "task": "text2video", "step_seconds": 0.01, "width": [128, 832], "height": [128, 832]},
}


def put_rules_in_force(emulator: FirestoreEmulator, project: str) -> None:
    """As ``firebase deploy`` would."""
    body = json.dumps({"rules": {"files": [{"name": "firestore.rules", "content": RULES.read_text()}]}}).encode()
    url = f"http://{emulator.address}/emulator/v1/projects/{project}:securityRules"
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=body, headers=headers, method="PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def app(folder: Path) -> Path:
    """A folder like an app's, with the example client in it and Firebase installed; returns its script."""
    for source in (EXAMPLE, FOLDER / "clients.mjs", FOLDER / "package.json"):
        shutil.copy(source, folder)
    (folder / "node_modules").symlink_to(FOLDER / "node_modules", target_is_directory=True)
    return folder / "clients.mjs"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_kind_of_client_works_unchanged(
    node: str,
    firestore_emulator: FirestoreEmulator,
    firestore_project: str,
    bucket: Bucket,
    gcs_server: GcsServer,
    tmp_path: Path,
) -> None:
    """Three flows for images and videos, retries, errors, a cancel and the monitoring queries, snapshot by snapshot."""
    put_rules_in_force(firestore_emulator, firestore_project)
    environment = {
        "EASELD_STORE": "firestore",
        "EASELD_PROJECT": firestore_project,
        "EASELD_BUCKET": bucket.name,
        "EASELD_PUBLIC_BASE": gcs_server.url,
        "EASELD_DATA": str(tmp_path / "data"),
        "EASELD_MODELS": ",".join(MODELS),
        "EASELD_CATALOG": json.dumps(MODELS),
    }
    store = FirestoreStore.connect(project=firestore_project)
    host, port = firestore_emulator.address.split(":")
    with worker(environment), running(store) as shim:
        place = {"host": host, "port": int(port), "project": firestore_project, "key": KEY}
        place["url"] = f"{shim.address}/v2/{ENDPOINT}"
        (tmp_path / "app").mkdir()
        stories = run(node, app(tmp_path / "app"), json.dumps(place), within=WITHIN)
    store.close()
    assert stories.returncode == 0, stories.stdout + stories.stderr
    assert stories.stdout.strip() == "clients: stories=11 failed=0"

"""The real parts themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import pytest
from google.cloud import firestore
from google.cloud.storage import Bucket

from tests.parts.fake_gcs import GcsServer
from tests.parts.firestore_emulator import FirestoreEmulator
from tests.parts.process import StartFailed, free_port, running

ROOT = Path(__file__).parents[2]


def test_a_document_comes_back_from_the_emulator_as_it_was_written(firestore_client: firestore.Client) -> None:
    """The emulator stores and returns a document, with the server's own time in it."""
    reference = firestore_client.document("generations/ada/images/one")
    reference.set({"status": "queued", "created_at": firestore.SERVER_TIMESTAMP})
    document = reference.get().to_dict()
    assert document is not None
    assert document["status"] == "queued"
    assert document["created_at"].tzinfo is not None


def test_a_project_sees_nothing_of_another_and_is_empty_once_wiped(
    firestore_emulator: FirestoreEmulator, firestore_client: firestore.Client
) -> None:
    """Tests cannot disturb each other through the emulator they share."""
    path = "generations/ada/images/one"
    firestore_client.document(path).set({"status": "queued"})
    other = firestore.Client(project=firestore_emulator.new_project())
    assert not other.document(path).get().exists
    other.close()
    firestore_emulator.wipe(firestore_client.project)
    assert not firestore_client.document(path).get().exists


def test_an_uploaded_object_is_fetched_as_it_was(bucket: Bucket) -> None:
    """The storage server keeps content, type and metadata, and serves the object over plain HTTP."""
    blob = bucket.blob("generating/ada/image/one.png")
    blob.metadata = {"token": "t1"}
    blob.upload_from_string(b"not really a picture", content_type="image/png", if_generation_match=0)
    again = bucket.get_blob(blob.name)
    assert again is not None
    assert (again.content_type, again.metadata["token"]) == ("image/png", "t1")
    assert again.download_as_bytes() == b"not really a picture"


def test_an_object_is_served_to_a_browser(bucket: Bucket, gcs_server: GcsServer) -> None:
    """A client without any library fetches an object by its address."""
    bucket.blob("a.txt").upload_from_string("hello", content_type="text/plain")
    with urllib.request.urlopen(f"{gcs_server.url}/{bucket.name}/a.txt", timeout=5) as answer:
        assert answer.read() == b"hello"


def test_a_server_that_ends_at_once_is_reported_with_its_output() -> None:
    """A start that fails says why, in the server's own words."""
    command = [sys.executable, "-c", "raise SystemExit('no such disk')"]
    with pytest.raises(StartFailed, match="no such disk"), running(command, ready=lambda: False, within=10):
        pass


def test_a_server_that_is_never_ready_is_stopped_and_reported() -> None:
    """Waiting for a server has an end."""
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(StartFailed, match="not ready within"), running(command, ready=lambda: False, within=0.2):
        pass


def test_servers_are_gone_when_the_tests_are_killed(tmp_path: Path) -> None:
    """SIGKILL of the test run leaves no server behind."""
    program = textwrap.dedent("""
        import sys, time
        from tests.parts.process import running
        with running([sys.executable, "-c", "import time; time.sleep(60)"], ready=lambda: True, within=5) as server:
            print(server.pid, flush=True)
            time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE) as tests:
        assert tests.stdout is not None
        server = int(tests.stdout.readline())
        assert not _gone(server)
        os.kill(tests.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not _gone(server):
        assert time.monotonic() < deadline, f"server {server} outlived its tests"
        time.sleep(0.02)


def _gone(pid: int) -> bool:
    """Whether the process ended; a zombie that a container's first process never reaps has ended too."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.strip() or state.startswith("Z")


def test_the_last_line_tells_what_a_missing_part_kept_from_being_tested(tmp_path: Path) -> None:
    """Without the emulator its tests are skipped, and nobody can overlook it."""
    run = _run_without_emulator(tmp_path, ci=False)
    assert run.returncode == 0, run.stdout
    assert "2 skipped" in run.stdout
    jar = tmp_path / "absent.jar"
    assert run.stdout.splitlines()[-1] == (
        f"NOT TESTED: Firestore (2 tests): EASELD_FIRESTORE_EMULATOR_JAR names no file: {jar}"
    )


def test_a_missing_part_fails_its_tests_in_continuous_integration(tmp_path: Path) -> None:
    """Where CI is set, a missing part is no excuse."""
    run = _run_without_emulator(tmp_path, ci=True)
    assert run.returncode == 1, run.stdout
    assert "Firestore is missing, and CI must test it" in run.stdout


def _run_without_emulator(folder: Path, *, ci: bool) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "EASELD_NOT_TESTED_FILE"}}
    environment["EASELD_FIRESTORE_EMULATOR_JAR"] = str(folder / "absent.jar")
    if ci:
        environment["CI"] = "true"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "emulator_as_it or wiped"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_ports_handed_out_one_after_the_other_can_be_bound() -> None:
    """A free port is free."""
    assert free_port() != 0

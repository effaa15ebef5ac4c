"""The Firestore emulator, started directly with Java on a free port."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.parts.missing import PartMissing
from tests.parts.process import StartFailed, free_port, running

MAIN_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"  # the jar's manifest names none
START_TIMEOUT = 60.0  # seconds; 1 to 4 on an idle machine
START_TRIES = 3  # another process may take the port between our look and Java's bind
HOW_TO_GET_JAVA = "install Java 17 or newer (apt-get install default-jre-headless, or brew install openjdk)"
HOW_TO_GET_JAR = (
    "gcloud components install cloud-firestore-emulator, or npx firebase-tools setup:emulators:firestore, "
    "or set EASELD_FIRESTORE_EMULATOR_JAR"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirestoreEmulator:
    """A running emulator. Projects in it know nothing of each other."""

    address: str  # host:port
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        """What Google's client libraries read to find the emulator, and to need no credentials."""
        return {"FIRESTORE_EMULATOR_HOST": self.address}

    def new_project(self) -> str:
        """An id that no other test has used."""
        return f"test-{uuid.uuid4().hex[:12]}"

    def wipe(self, project: str) -> None:
        """Delete every document of one project."""
        url = f"http://{self.address}/emulator/v1/projects/{project}/databases/(default)/documents"
        with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=30):
            pass


def find_java() -> Path:
    """The Java to run the jar with: ``JAVA_HOME``'s, else the path's. Raises ``PartMissing``."""
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin/java").is_file():
        return Path(home) / "bin/java"
    java = shutil.which("java")
    # macOS has a /usr/bin/java that only says where to download one
    if java is None or subprocess.run([java, "-version"], capture_output=True, check=False).returncode != 0:
        raise PartMissing("Firestore", HOW_TO_GET_JAVA)
    return Path(java)


def find_jar() -> Path:
    """The emulator's jar: ``EASELD_FIRESTORE_EMULATOR_JAR``'s, gcloud's, Firebase's. Raises ``PartMissing``."""
    if named := os.environ.get("EASELD_FIRESTORE_EMULATOR_JAR"):
        if Path(named).is_file():
            return Path(named)
        raise PartMissing("Firestore", f"EASELD_FIRESTORE_EMULATOR_JAR names no file: {named}")
    for root in _gcloud_roots():
        jar = root / "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
        if jar.is_file():
            return jar
    cache = Path(os.environ.get("FIREBASE_EMULATORS_PATH") or Path.home() / ".cache/firebase/emulators")
    if jars := sorted(cache.glob("*firestore*.jar")):
        return jars[-1]  # the newest version
    raise PartMissing("Firestore", HOW_TO_GET_JAR)


def _gcloud_roots() -> Iterator[Path]:
    """Where the Google Cloud SDK lies. Following ``gcloud``'s link is quick; asking it takes a second or more."""
    if root := os.environ.get("CLOUDSDK_ROOT_DIR"):
        yield Path(root)
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return
    yield Path(gcloud).resolve().parent.parent
    asked = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True, check=False
    )
    if asked.returncode == 0 and asked.stdout.strip():
        yield Path(asked.stdout.strip())


@contextmanager
def firestore_emulator(*, rules: Path | None = None) -> Iterator[FirestoreEmulator]:
    """Run an emulator until the block ends. Without ``rules`` everything is allowed. Raises ``PartMissing``."""
    java, jar = find_java(), find_jar()
    for attempt in range(1, START_TRIES + 1):
        port = free_port()
        address = f"127.0.0.1:{port}"
        command: list[str | Path] = [java, "-XX:+UseSerialGC", "-Xmx1g", "-cp", jar, MAIN_CLASS]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        if rules is not None:
            command += ["--rules", rules]
        started = False
        try:
            with running(command, ready=lambda: _says_ok(address), within=START_TIMEOUT) as process:  # noqa: B023 - used at once
                started = True
                yield FirestoreEmulator(address=address, process=process)
                return
        except StartFailed:
            if started or attempt == START_TRIES:
                raise


def _says_ok(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=2) as answer:
            return bool(answer.read().strip() == b"Ok")
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return False

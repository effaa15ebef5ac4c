"""`make image-check`: builds the images of the Dockerfile with buildah, and uses each as its own user would.

What was built is removed at the end, unless KEEP_IMAGES is set: then the next run has only changes to build.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from make.ingredients import FOLDER, Wrong, base, downloads, remove, report, say, source, until
from tests.parts.firestore_emulator import firestore_emulator
from tests.parts.missing import PartMissing
from tests.parts.process import free_port

NEEDED = {"debootstrap": "debootstrap", "buildah": "buildah"}
STORAGE = FOLDER / "storage"
CONTEXT = FOLDER / "context"
LOG = FOLDER / "image-check.log"
TARGETS = ("shim", "worker", "pod")
BASE_IMAGE = "localhost/easeld-base"
NONE: Mapping[str, str] = {}
KEY = "a-key-for-this-check"
FREE_DISK = 25  # GiB that building may take for a while


def main() -> None:
    """Run the check."""
    report("image-check", NEEDED, check)


def check() -> dict[str, object]:
    """Build, use, measure, and remove what was built.

    Raises:
        Wrong: something was not as it should be.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(FOLDER).free / 2**30) < FREE_DISK:
        raise Wrong(f"only {free:.0f} GiB are free; building takes up to {FREE_DISK}")
    LOG.unlink(missing_ok=True)
    images = Images()
    seen: dict[str, object] = {}
    try:
        images.import_base(base())
        source(CONTEXT)
        shutil.copytree("runpod", CONTEXT / "runpod")
        shutil.copy("Dockerfile", CONTEXT)
        for target in TARGETS:
            say(f"Building {target}")
            begun = time.monotonic()
            images.build(target)
            seen[f"build_{target}_s"] = round(time.monotonic() - begun)
        say("Building the worker after a change of code")
        with (CONTEXT / "daemon/__init__.py").open("a") as file:
            file.write("\n# changed\n")
        begun = time.monotonic()
        images.build("worker")
        seen["rebuild_s"] = round(time.monotonic() - begun)
        over = images.size(BASE_IMAGE)
        seen["base_mb"] = round(over / 1e6)
        seen |= {f"{target}_mb": round(images.size(f"localhost/easeld-{target}") / 1e6) for target in TARGETS}
        for use in (use_shim, use_worker, use_pod_without_gpu, use_pod):
            say((use.__doc__ or "").splitlines()[0].rstrip("."))
            seen |= use(images)
    finally:
        remove(CONTEXT)
        if "KEEP_IMAGES" not in os.environ:
            images.remove()
    return seen


class Images:
    """buildah, with a storage of our own."""

    def __init__(self) -> None:
        storage = STORAGE.resolve()
        driver = os.environ.get("STORAGE_DRIVER", "overlay")
        self._buildah = ["buildah", f"--root={storage}/root", f"--runroot={storage}/run", f"--storage-driver={driver}"]

    def import_base(self, tree: Path) -> None:
        """Make an image of a tree."""
        tar = FOLDER / "base.tar"
        command = ["tar", "-C", str(tree), "--exclude=./var/cache/apt/archives/*.deb", "-cf", str(tar), "."]
        subprocess.run(command, check=True)
        container = self.buildah("from", "scratch").split()[-1]
        self.buildah("add", "--quiet", container, str(tar), "/")
        self.buildah("commit", "--quiet", "--rm", container, BASE_IMAGE)
        tar.unlink()

    def build(self, target: str) -> None:
        """Build a target from the context."""
        arguments = [f"--build-arg=BASE={BASE_IMAGE}", "--build-arg=PIP_OPTIONS=--no-index --find-links /wheels"]
        arguments += [
            f"--volume={downloads().resolve()}:/wheels:ro",
            "--layers",
            "--format=docker",
            "--isolation=chroot",
        ]
        arguments += [f"--target={target}", f"--tag=localhost/easeld-{target}", str(CONTEXT)]
        self.buildah("bud", *arguments, within=1500.0)

    def size(self, image: str) -> int:
        """Its layers together, in bytes."""
        images = json.loads(self.buildah("images", "--json", image))
        number, unit = re.fullmatch(r"([\d.]+) (\w+)", images[0]["size"]).groups()  # type: ignore[union-attr]
        return int(float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit])

    def config(self, image: str) -> dict[str, Any]:
        """What the image says of itself."""
        config: dict[str, Any] = json.loads(self.buildah("inspect", "--type=image", image))["Docker"]["config"]
        return config

    @contextmanager
    def container(self, image: str) -> Iterator[Container]:
        """A container that is removed afterwards, with everything that still runs in it."""
        name = self.buildah("from", "--pull-never", image).split()[-1]
        container = Container(self, name, self.config(image))
        try:
            yield container
        finally:
            container.end()
            self.buildah("rm", name)

    def buildah(self, *arguments: str, within: float = 300.0) -> str:
        """Run buildah; what it printed.

        Raises:
            Wrong: it failed.
        """
        done = subprocess.run(
            [*self._buildah, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within,
            check=False,
        )  # fmt: skip
        with LOG.open("a") as log:
            log.write(f"$ buildah {' '.join(arguments)}\n{done.stdout}{done.stderr}\n")
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise Wrong(f"buildah {arguments[0]} ended with status {done.returncode} (see {LOG}):\n{tail}")
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs buildah."""
        return [*self._buildah, *arguments]

    def remove(self) -> None:
        """Remove every image, container and layer."""
        subprocess.run([*self._buildah, "rm", "--all"], capture_output=True, check=False)
        subprocess.run([*self._buildah, "rmi", "--all", "--force"], capture_output=True, check=False)
        remove(STORAGE)


class Container:
    """What runs in one container, as the image's user and with its environment."""

    def __init__(self, images: Images, name: str, config: dict[str, Any]) -> None:
        self._images = images
        self._name = name
        self.config = config
        self._begun: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str, within: float = 180.0, settings: Mapping[str, str] = NONE) -> str:
        """Run a command in it; what it printed.

        Raises:
            Wrong: it failed.
        """
        return self._images.buildah(*self._arguments(settings), "--", *command, within=within)

    def start(self, log: Path, settings: Mapping[str, str] = NONE) -> subprocess.Popen[bytes]:
        """Start what the image starts."""
        command = [*self.config["Entrypoint"], *(self.config.get("Cmd") or [])]
        return self.begin(command, log, settings=settings)

    def begin(self, command: list[str], log: Path, settings: Mapping[str, str] = NONE) -> subprocess.Popen[bytes]:
        """Start a command in it."""
        arguments = self._images.command(*self._arguments(settings), "--", *command)
        with log.open("wb") as file:
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        self._begun.append(process)
        return process

    def is_healthy(self, settings: Mapping[str, str]) -> bool:
        """Whether the image's own HEALTHCHECK is content."""
        kind, *command = self.config["Healthcheck"]["Test"]
        try:
            self.run(*(command if kind == "CMD" else ["sh", "-c", *command]), settings=settings)
        except Wrong:
            return False
        return True

    def stop(self, process: subprocess.Popen[bytes], *, within: float) -> float:
        """Do what `docker stop` does; how many seconds it took.

        Raises:
            Wrong: it did not end, or not with status 0.
        """
        begun = time.monotonic()
        number = signal.Signals[self.config.get("StopSignal") or "SIGTERM"]
        os.kill(_inside(process.pid, "tini"), number)
        try:
            status = process.wait(within)
        except subprocess.TimeoutExpired:
            raise Wrong(f"the container did not stop within {within:g} s") from None
        if status != 0:
            raise Wrong(f"the container ended with status {status}")
        return round(time.monotonic() - begun, 1)

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._begun:
            if process.poll() is None:
                for pid in _descendants(process.pid):
                    os.kill(pid, signal.SIGKILL)
                process.kill()
                process.wait()

    def _arguments(self, settings: Mapping[str, str]) -> list[str]:
        environment = [f"--env={name}={value}" for name, value in settings.items()]
        return ["run", "--isolation=chroot", *environment, self._name]


def _descendants(pid: int) -> list[int]:
    found, parents = [], [pid]
    while parents:
        parent = parents.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            children = [int(child) for child in task.read_text().split()]
            found += children
            parents += children
    return found


def _inside(pid: int, name: str) -> int:
    for child in _descendants(pid):
        if Path(f"/proc/{child}/comm").read_text().strip() == name:
            return child
    raise Wrong(f"{name} does not run")


# --- what is done with each image ----------------------------------------------------------------------------------


def use_shim(images: Images) -> dict[str, object]:
    """Using the shim: a call through it becomes a document in the Firestore emulator."""
    port = str(free_port())
    with ExitStack() as stack:
        container = stack.enter_context(images.container("localhost/easeld-shim"))
        version = container.run("easeld", "--version").strip()
        _not_root(container)
        torch = container.run("python3", "-c", "import importlib.util; print(importlib.util.find_spec('torch'))")
        _demand(torch.strip() == "None", "the shim has torch in it")
        try:
            emulator = stack.enter_context(firestore_emulator())
        except PartMissing as exc:
            raise Wrong(f"the shim is not tested without the Firestore emulator: {exc}") from exc
        settings = {
            **emulator.environment, "EASELD_STORE": "firestore", "EASELD_BUCKET": "bucket",
            "EASELD_PROJECT": "image-check", "EASELD_SHIM_KEYS": KEY, "EASELD_SHIM_PORT": port,
        }  # fmt: skip
        process = container.start(FOLDER / "shim.log", settings=settings)
        until("the shim is healthy", lambda: container.is_healthy({"EASELD_SHIM_PORT": port}), within=60.0)
        _demand(_call(port, "job", key="another") == 401, "the shim accepts any key")
        until("the shim accepts a call", lambda: _call(port, "job") == 200, within=60.0)  # clients try again, too
        shown = container.run("easeld", "show", "check/job", "--json", settings=settings)
        _demand(json.loads(shown)["status"] == "queued", f"the document: {shown}")
        return {"version": version, "shim": "ok", "shim_stop_s": container.stop(process, within=20.0)}


def use_worker(images: Images) -> dict[str, object]:
    """Using the worker: one job on the embedded store."""
    settings = {"EASELD_DEVICE": "cpu", "EASELD_HTTP_PORT": str(free_port())}
    with images.container("localhost/easeld-worker") as container:
        _not_root(container)
        process = container.start(FOLDER / "worker.log", settings=settings)
        until("the worker is healthy", lambda: container.is_healthy(settings), within=120.0)
        size = ["--width", "256", "--height", "256", "--steps", "10"]
        made = container.run("easeld", "submit", "a red circle", *size, "--wait", "--json", within=300.0)
        _demand(json.loads(made)["status"] == "completed", f"the job: {made}")
        return {"worker": "ok", "worker_stop_s": container.stop(process, within=30.0)}


def use_pod_without_gpu(images: Images) -> dict[str, object]:
    """Using the pod without a GPU: it says so, takes calls, and claims nothing."""
    port, log = str(free_port()), FOLDER / "pod-without-gpu.log"
    settings = {"EASELD_SHIM_KEYS": KEY, "EASELD_SHIM_PORT": port}
    with images.container("localhost/easeld-pod") as container:
        process = container.start(log, settings=settings)
        until("the pod answers", lambda: _answers(port), within=60.0)
        _demand(_call(port, "job") == 200, "the pod refuses a call")
        until("the pod says that it has no GPU", lambda: "NO GPU" in log.read_text(), within=10.0)
        until("the worker says that it is unfit", lambda: "worker.unfit" in log.read_text(), within=90.0)
        shown = container.run("setpriv", "--reuid=easeld", "--clear-groups", "easeld", "show", "check/job", "--json")
        _demand(json.loads(shown)["status"] == "queued", f"the document: {shown}")
        container.stop(process, within=45.0)
        return {"pod_without_gpu": "claims_nothing"}


def use_pod(images: Images) -> dict[str, object]:
    """Using the pod with two workers, on the CPU: a job each, a killed worker comes back, all stop."""
    port, log = str(free_port()), FOLDER / "pod.log"
    null = '{"null-image": {"family": "null", "task": "text2image", "step_seconds": 0.2}}'
    settings = {
        "EASELD_SHIM_KEYS": KEY, "EASELD_SHIM_PORT": port, "EASELD_DEVICE": "cpu", "POD_WORKERS": "2",
        "EASELD_CATALOG": null, "EASELD_MODELS": "null-image", "EASELD_SETTLING": "0", "EASELD_MAX_BATCH": "1",
    }  # fmt: skip
    with images.container("localhost/easeld-pod") as container:
        process = container.start(log, settings=settings)
        until("both workers claim", lambda: log.read_text().count("worker.claiming") >= 2, within=90.0)
        running = [pid for pid in _descendants(process.pid) if _is_worker(pid)]
        _demand(len(running) == 2, f"workers: {running}")
        _demand(all(Path(f"/proc/{pid}").stat().st_uid != 0 for pid in running), "a worker runs as root")
        for name in ("one", "two", "three"):
            _demand(_call(port, name) == 200, "the pod refuses a call")
        until("all three jobs are completed", lambda: log.read_text().count('"status": "completed"') >= 3, within=60.0)
        os.kill(running[0], signal.SIGKILL)
        until("the killed worker is back", lambda: log.read_text().count("worker.claiming") >= 3, within=60.0)
        return {"pod": "ok", "pod_stop_s": container.stop(process, within=45.0)}


def _is_worker(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return b"worker" in command and b"python" in command[0]


def _not_root(container: Container) -> None:
    user = container.run("id", "-u").strip()
    _demand(user not in ("", "0"), f"it runs as user {user}")


def _answers(port: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
            return True
    except OSError:
        return False


def _call(port: str, name: str, *, key: str = KEY) -> int:
    """Call the shim; the status of its answer."""
    call = {"user_id": "check", "file_uid": name, "prompt": "a red circle", "use_cloud_storage": True}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/easeld/runsync",
        json.dumps({"input": call | {"num_inference_steps": 10}}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - ours
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _demand(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise Wrong(otherwise)


if __name__ == "__main__":
    main()

"""`make systemd-check`: the services on a real systemd, and what happens to services, on a worker that uses the CPU."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from make.ingredients import FOLDER, PIP, Wrong, base, downloads, remove, report, say, source, until
from make.systemd_machine import NEEDED, Machine

TREE = FOLDER / "machine"
LOG = FOLDER / "systemd-check.log"
LATER = "9999.0"  # the version of the second wheel, for the upgrade
UNITS = ("easeld@0.service", "easeld-shim.service", "easeld-gpus.service", "easeld.target")
MOST_EXPOSED = 3.0  # of systemd-analyze security, for what runs all the time
WORKER = "easeld@0.service"
SETTINGS = """
EASELD_DEVICE=cpu
EASELD_MODELS=null-image,shapes
EASELD_CATALOG='{"null-image": {"family": "null", "task": "text2image", "step_seconds": 0.1}}'
EASELD_LEASE=6
EASELD_HEARTBEAT=1
EASELD_RESCUE_INTERVAL=1
EASELD_SETTLING=0
EASELD_SHIM_PORT=18080
"""
QUICK = "[Service]\nWatchdogSec=8\nTimeoutAbortSec=4\nRestartSec=1\nEnvironment=EASELD_HTTP_PORT=910%i\n"
CALL = """
import json, sys, urllib.request
call = {"user_id": "check", "use_cloud_storage": True, "width": 256, "height": 256, **json.loads(sys.argv[1])}
request = urllib.request.Request(
    "http://127.0.0.1:18080/v2/easeld/runsync",
    json.dumps({"input": call}).encode(),
    {"Content-Type": "application/json"},
)
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""
LOOK = (
    "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9100/metrics', timeout=20).read().decode())"
)
PYTHON = "/opt/easeld/current/bin/python"


def main() -> None:
    """Run the check."""
    report("systemd-check", NEEDED, check)


def check() -> dict[str, object]:
    """Everything, one after the other.

    Raises:
        Wrong: something was not as it should be.
    """
    now, later = _wheels()
    remove(TREE)
    say("Laying out a machine")
    subprocess.run(["cp", "-a", "--reflink=auto", str(base()), str(TREE)], check=True)
    checkout = TREE / "srv/checkout"
    checkout.mkdir()
    shutil.copytree("systemd", checkout / "systemd")
    for file in (Path("constraints.txt"), now, later):
        shutil.copy(file, checkout)
    LOG.unlink(missing_ok=True)
    try:
        with Machine(TREE, log=LOG, mounts={downloads(): "/wheels"}) as machine:
            return Check(machine, now.name, later.name).run()
    finally:
        remove(TREE)


def _wheels() -> tuple[Path, Path]:
    """This release, and one that is the same but for its number."""
    found: list[Path] = []
    for version in (None, LATER):
        copy, built = source(FOLDER / "source"), FOLDER / f"wheel-{version or 'now'}"
        shutil.rmtree(built, ignore_errors=True)
        if version:
            setup = copy / "setup.cfg"
            setup.write_text(re.sub(r"(?m)^version = .*$", f"version = {version}", setup.read_text(), count=1))
        wheel = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(built), str(copy)]
        subprocess.run(wheel, check=True)
        shutil.rmtree(copy)
        found += built.glob("easeld-*.whl")
    now, later = found
    return now, later


class Check:
    """What is done to the services of one machine. Figures are in seconds."""

    def __init__(self, machine: Machine, now: str, later: str) -> None:
        self._machine = machine
        self._now = now
        self._later = later
        self._jobs: list[str] = []
        self._restarts = 0
        self._seen: dict[str, object] = {}

    def run(self) -> dict[str, object]:
        """Each step builds on the one before."""
        steps = (
            self._install, self._units, self._without_gpu, self._wrong_setting, self._work, self._idle, self._killed,
            self._frozen, self._drained, self._rebooted, self._upgraded, self._rolled_back, self._uninstalled,
        )  # fmt: skip
        for step in steps:
            say((step.__doc__ or "").rstrip("."))
            try:
                step()
            except Wrong as exc:
                raise Wrong(f"{exc}\n{self._machine.journal()}") from exc
        return self._seen

    def _install(self) -> None:
        """Installing."""
        self._seen["install_s"] = self._timed(lambda: self._installer("--shim", "--wheel", self._now))

        again = self._installer("--wheel", self._now)
        self._demand("nothing was restarted" in again, f"installing twice: {again}")

    def _units(self) -> None:
        """Analysing the units."""
        complaints = self._machine.run("systemd-analyze", "verify", *UNITS)
        self._demand(not complaints.strip(), complaints)
        self._seen["verify"] = "clean"
        for name, unit in (("worker", WORKER), ("shim", "easeld-shim.service")):
            verdict = self._machine.run("systemd-analyze", "security", "--no-pager", unit)
            exposure = float(verdict.rpartition(f"{unit}: ")[2].split()[0])
            self._demand(exposure <= MOST_EXPOSED, f"exposure of {unit}: {exposure}")
            self._seen[f"exposure_{name}"] = exposure

    def _without_gpu(self) -> None:
        """Starting where there is no GPU."""
        self._machine.run("systemctl", "start", "--no-block", "easeld.target")
        self._until("the log names the missing GPU", lambda: "No NVIDIA GPU found" in self._journal("easeld-gpus"))
        self._demand(self._property("ActiveState", WORKER) == "inactive", "a worker was started without a GPU")
        self._machine.run("systemctl", "stop", "easeld.target")
        self._seen["no_gpu"] = "says_so"
        self._write("/etc/easeld/instances.env", "INSTANCES=0\n")

    def _wrong_setting(self) -> None:
        """Starting with a setting that is wrong."""
        self._write("/etc/easeld/easeld.env", SETTINGS + "EASELD_GRACE=nonsense\n")
        self._machine.run("systemctl", "start", WORKER, check=False)
        time.sleep(8.0)  # longer than RestartSec
        state = [self._property(name, WORKER) for name in ("ActiveState", "ExecMainStatus", "NRestarts")]
        self._demand(state == ["failed", "2", "0"], f"a wrong setting: {state}")
        self._machine.run("systemctl", "reset-failed")
        self._seen["wrong_setting"] = "not_restarted"

    def _work(self) -> None:
        """Starting the target and working."""
        self._write("/etc/easeld/easeld.env", SETTINGS)
        self._write("/etc/systemd/system/easeld@.service.d/quick.conf", QUICK)
        self._machine.run("systemctl", "daemon-reload")
        begun = time.monotonic()
        self._machine.run("systemctl", "start", "easeld.target")
        self._ready()
        self._seen["ready_s"] = round(time.monotonic() - begun, 1)
        claiming = self._machine.run(PYTHON, "-c", LOOK)
        self._demand("easeld_claiming 1.0" in claiming, f"the metrics: {claiming}")
        quick = [self._queue(steps=10) for _ in range(3)]
        real = self._queue(steps=10, model="shapes")  # torch, hardened as it is
        for job in (*quick, real):
            self._completed(job, within=180.0)
        self._seen["jobs_on_torch"] = 1

    def _idle(self) -> None:
        """Leaving the worker idle, with a machine that is to stop itself."""
        conf = Path("systemd/poweroff-when-idle.conf").read_text().replace("systemctl poweroff", "touch /run/poweroff")
        self._write("/etc/systemd/system/easeld@.service.d/poweroff.conf", conf)
        self._write("/etc/easeld/easeld.env", SETTINGS + "EASELD_EXIT_WHEN_IDLE=15\n")
        self._machine.run("systemctl", "daemon-reload")
        self._machine.run("systemctl", "restart", WORKER)
        self._demand(not self._is_off(), "restarting the worker stopped the machine")
        self._until("the idle worker ends", lambda: self._property("ActiveState", WORKER) == "inactive")
        self._until("the machine is stopped", self._is_off, within=10.0)
        (TREE / "etc/systemd/system/easeld@.service.d/poweroff.conf").unlink()
        self._write("/etc/easeld/easeld.env", SETTINGS)
        self._machine.run("systemctl", "daemon-reload")
        self._machine.run("systemctl", "start", WORKER)
        self._ready()
        self._seen["idle"] = "stops_the_machine"

    def _is_off(self) -> bool:
        return bool(self._machine.run("sh", "-c", "ls /run/poweroff 2>/dev/null || true").strip())

    def _killed(self) -> None:
        """Killing the worker in the middle of a job."""
        self._seen["killed_to_completed_s"] = self._hurt("KILL", result="signal")

    def _frozen(self) -> None:
        """Freezing the worker in the middle of a job."""
        self._seen["frozen_to_completed_s"] = self._hurt("STOP", result="watchdog")

    def _drained(self) -> None:
        """Stopping the target in the middle of a job."""
        job = self._queue(steps=50)
        self._processing(job)
        self._seen["drain_s"] = self._timed(self._stop)
        ended = [self._property(name, WORKER) for name in ("ActiveState", "Result")]
        self._demand(ended == ["inactive", "success"], f"the worker's end: {ended}")
        self._demand(self._status(job) == "completed", f"the job that ran is {self._status(job)}")

    def _rebooted(self) -> None:
        """Rebooting."""
        self._machine.run("systemctl", "start", "easeld.target")
        self._ready()
        job = self._queue(steps=50)
        self._processing(job)
        before, begun = self._machine.leader, time.monotonic()
        self._machine.run("systemctl", "reboot", "--no-block", check=False)
        self._machine.wait_for_boot(other_than=before, within=150.0)
        self._ready()
        self._seen["reboot_s"] = round(time.monotonic() - begun, 1)
        self._restarts = 0
        self._completed(job)
        self._completed(self._queue(steps=10))

    def _upgraded(self) -> None:
        """Upgrading in the middle of a job."""
        job = self._queue(steps=50)
        self._processing(job)
        self._seen["upgrade_s"] = self._timed(lambda: self._installer("--wheel", self._later))
        self._demand(self._status(job) == "completed", f"the job during the upgrade is {self._status(job)}")
        self._ready()
        self._demand(LATER in self._machine.run("easeld", "--version"), "the version is the old one")
        self._completed(self._queue(steps=10))

    def _rolled_back(self) -> None:
        """Rolling back."""
        self._installer("--rollback")
        self._ready()
        self._demand(LATER not in self._machine.run("easeld", "--version"), "the version is still the new one")
        self._completed(self._queue(steps=10))
        self._seen["rollback"] = "ok"
        self._seen["jobs"] = self._seen["completed"] = len(self._jobs)
        self._demand({self._status(job) for job in self._jobs} == {"completed"}, "not every job is completed")

    def _uninstalled(self) -> None:
        """Uninstalling."""
        self._installer("--uninstall")
        left = self._machine.run("systemctl", "list-unit-files", "--no-legend", "easeld*", check=False)
        self._demand("easeld" not in left, f"left: {left}")
        self._machine.run("test", "-e", "/var/lib/easeld/media")
        self._installer("--uninstall", "--purge")
        self._demand("easeld" not in self._machine.run("ls", "/etc", "/opt", "/var/lib", "/var/cache"), "not all gone")
        self._seen["uninstall"] = "clean"

    # --- what the steps are made of ---

    def _installer(self, *arguments: str) -> str:
        options = "PIP_OPTIONS=--no-index --find-links /wheels"
        command = ('cd /srv/checkout && exec systemd/install.sh "$@"', "sh", *arguments)
        return self._machine.run("env", options, "sh", "-c", *command, within=580.0)

    def _hurt(self, signal: str, *, result: str) -> float:
        """Send a signal while a job runs; how long until a restarted worker has completed it."""
        job = self._queue(steps=50)
        self._processing(job)
        begun = time.monotonic()
        self._machine.run("systemctl", "kill", f"--signal={signal}", "--kill-whom=main", WORKER)
        self._restarts += 1
        self._until(
            f"systemd has restarted the worker after SIG{signal}",
            lambda: self._property("NRestarts", WORKER) == str(self._restarts),
        )
        self._demand(f"Failed with result '{result}'" in self._journal(WORKER), f"the result was not {result}")
        self._completed(job)
        took = time.monotonic() - begun
        self._ready()
        return round(took, 1)

    def _stop(self) -> None:
        """The target ends at once, and hands the stop on: naming the units waits for them."""
        self._machine.run("systemctl", "stop", "easeld.target", "easeld-shim.service", "easeld@*.service")

    def _ready(self) -> None:
        self._until("the worker claims", lambda: self._property("StatusText", WORKER).startswith("claiming"))
        self._until("the shim runs", lambda: self._property("ActiveState", "easeld-shim.service") == "active")

    def _queue(self, *, steps: int, **more: object) -> str:
        name = f"job-{len(self._jobs)}"
        call = {"prompt": "a red circle", "file_uid": name, "num_inference_steps": steps, **more}
        answered = until(
            "the shim answers",
            lambda: self._machine.run(PYTHON, "-c", CALL, json.dumps(call), check=False).partition("accepted")[1],
            within=30.0,
        )
        self._demand(answered == "accepted", f"the shim said {answered}")
        self._jobs.append(name)
        return name

    def _status(self, job: str) -> str:
        shown = self._machine.run("easeld", "show", f"check/{job}", "--json")
        return str(json.loads(shown)["status"])

    def _processing(self, job: str) -> None:
        self._until(f"{job} runs", lambda: self._status(job) == "processing")

    def _completed(self, job: str, *, within: float = 90.0) -> None:
        self._until(f"{job} is completed", lambda: self._status(job) == "completed", within=within)

    def _property(self, name: str, unit: str) -> str:
        return self._machine.run("systemctl", "show", "--value", "-p", name, unit).strip()

    def _journal(self, unit: str) -> str:
        return self._machine.run("journalctl", "--no-pager", "-b", "-u", unit)

    def _write(self, path: str, text: str) -> None:
        target = TREE / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def _until(self, what: str, look: Callable[[], bool], *, within: float = 90.0) -> None:
        until(what, look, within=within)

    def _timed(self, act: Callable[[], object]) -> float:
        begun = time.monotonic()
        act()
        return round(time.monotonic() - begun, 1)

    def _demand(self, is_so: bool, otherwise: str) -> None:
        if not is_so:
            raise Wrong(otherwise)


if __name__ == "__main__":
    main()

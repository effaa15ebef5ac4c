"""A machine that runs systemd, without one: a container of its own in a folder, for `make systemd-check`."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

from make.ingredients import Wrong, until

NEEDED = {"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container", "nsenter": "util-linux"}

REBOOT = 133  # how systemd-nspawn ends when the machine wants to be booted again


class Machine:
    """Boots on entering, and is ended, with every process in it, on leaving. It has a network of its own: loopback."""

    def __init__(self, tree: Path, *, log: Path, mounts: dict[Path, str]) -> None:
        self._tree = tree
        self._log = log
        self._mounts = mounts

    def __enter__(self) -> Self:
        self._boot()
        try:
            self.wait_for_boot(other_than=None)
        except Wrong:
            self._end()
            raise
        return self

    def _boot(self) -> None:
        self.leader = 0
        bound = [f"--bind-ro={source.resolve()}:{target}" for source, target in self._mounts.items()]
        nspawn = ["systemd-nspawn", "-D", str(self._tree), "--keep-unit", "--register=no", "--private-network"]
        boot = 'mount -t tmpfs tmpfs /run && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", boot, "sh", *nspawn, *bound, "--boot", "--console=pipe"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def __exit__(self, *_: object) -> None:
        self._end()

    def wait_for_boot(self, *, other_than: int | None, within: float = 60.0) -> None:
        """Wait until systemd is up, in a process other than the one before a reboot."""

        def booted() -> bool:
            if self._process.poll() == REBOOT:
                self._boot()
            self._ended()
            self.leader = self._leader() or 0
            if self.leader in (0, other_than):
                return False
            state = self.run("systemctl", "is-system-running", check=False).strip()
            return state in ("running", "degraded")

        until("systemd is up", booted, within=within)

    def run(self, *command: str, check: bool = True, within: float = 120.0) -> str:
        """Run a command in the machine, as root; what it printed.

        Raises:
            Wrong: it failed.
        """
        if not self.leader:
            raise Wrong(f"the machine is off; not run: {' '.join(command)}")
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        enter = ["nsenter", "-t", str(self.leader), "-a", "--", *command]
        try:
            done = subprocess.run(
                enter, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Wrong(f"not within {within:g} s: {' '.join(command)}") from None
        if check and done.returncode != 0:
            raise Wrong(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def journal(self) -> str:
        """The end of what easeld's services said, where there is a journal."""
        if self._process.poll() is not None or not self.leader:
            return f"The machine is off; its console: {self._log}"
        return self.run("journalctl", "--no-pager", "-n", "60", "-u", "easeld*", check=False)

    def _leader(self) -> int | None:
        """The process that is number 1 in the machine."""
        children = [self._process.pid]
        while children:
            parent = children.pop()
            try:
                status = Path(f"/proc/{parent}/status").read_text()
                children += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
            name, *_ = (line.split()[1] for line in status.splitlines() if line.startswith("Name:"))
            numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
            if name == "systemd" and numbers[-1] == "1" and len(numbers) > 1:
                return parent
        return None

    def _ended(self) -> None:
        if self._process.poll() is not None:
            raise Wrong(f"the machine ended with status {self._process.returncode}: see {self._log}")

    def _end(self) -> None:
        if self._process.poll() is not None:
            return
        with suppress(Wrong):  # it is off, or does not answer
            self.run("systemctl", "poweroff", "--no-block", check=False, within=30.0)
        try:
            self._process.wait(60.0)
        except subprocess.TimeoutExpired:
            print("systemd-check: the machine did not power off; it is killed", file=sys.stderr)
            self._process.kill()  # the kernel ends every process of its namespace
            self._process.wait()

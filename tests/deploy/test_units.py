"""What the units and the scripts beside them say, compared with the program that they start."""

from __future__ import annotations

import configparser
import os
import subprocess
from pathlib import Path

import pytest

from daemon.entrypoints import server
from daemon.service import INTERRUPT
from daemon.settings import Settings
from daemon.shutdown import EXIT_BROKEN, EXIT_DEVICE, EXIT_SETTINGS

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "systemd/easeld@.service"
SHIM = ROOT / "systemd/easeld-shim.service"


def seconds(unit: Path, name: str) -> float:
    """A duration of a unit that is written as a plain number."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(unit)
    return float(parser["Service"][name])


def values(unit: Path, name: str) -> list[str]:
    """Every value of an option that may be there more than once."""
    return [line.partition("=")[2] for line in unit.read_text().splitlines() if line.startswith(f"{name}=")]


def test_a_drain_fits_into_the_time_that_systemd_gives() -> None:
    """The worker ends by itself within its grace and twice the interruption; nothing is killed in the middle."""
    grace = Settings.model_fields["grace"].default
    assert grace + 2 * INTERRUPT < seconds(WORKER, "TimeoutStopSec")
    assert seconds(SHIM, "TimeoutStopSec") > server.GRACE


def test_only_a_wrong_setting_is_not_restarted() -> None:
    """A lost device and a defect are."""
    for unit in (WORKER, SHIM):
        assert values(unit, "Restart") == ["on-failure"]
        (prevented,) = values(unit, "RestartPreventExitStatus")
        assert prevented.split() == [str(EXIT_SETTINGS)]
        assert not {str(EXIT_BROKEN), str(EXIT_DEVICE)} & set(prevented.split())


def test_the_pod_knows_the_same_final_statuses() -> None:
    """Its supervisor is another, the statuses are not."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "runpod/supervisord.conf")
    for program in ("program:shim", "program:worker"):
        assert parser[program]["autorestart"] == "unexpected"
        assert parser[program]["exitcodes"] == f"0,{EXIT_SETTINGS}"


def test_what_the_units_set_are_settings() -> None:
    """An unknown one would end the service with status 2."""
    for unit in (WORKER, SHIM):
        for line in values(unit, "Environment"):
            for word in line.split():
                name = word.partition("=")[0]
                if name.startswith("EASELD_"):
                    assert name.removeprefix("EASELD_").lower() in Settings.model_fields


@pytest.fixture
def systemctl(tmp_path: Path) -> dict[str, str]:
    """An environment in which systemctl only notes what it is asked for, and there is no driver."""
    for name, text in {"systemctl": f'echo "$@" >> {tmp_path}/asked', "modprobe": "exit 1"}.items():
        script = tmp_path / name
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
    (tmp_path / "gpus").mkdir()
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GPUS": str(tmp_path / "gpus")}


def start(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run what easeld-gpus.service runs."""
    script = ROOT / "systemd/start-instances"
    return subprocess.run([script], env=environment, capture_output=True, text=True, check=False)


def test_one_worker_is_started_for_each_gpu(systemctl: dict[str, str], tmp_path: Path) -> None:
    """Numbered as nvidia-smi numbers them."""
    for address in ("0000:00:04.0", "0000:00:05.0"):
        (tmp_path / "gpus" / address).mkdir()
    assert start(systemctl).returncode == 0
    assert (tmp_path / "asked").read_text().splitlines() == [
        "start --no-block easeld@0.service",
        "start --no-block easeld@1.service",
    ]


def test_without_a_gpu_none_is_started_and_a_person_is_told(systemctl: dict[str, str], tmp_path: Path) -> None:
    """With what to look at; the unit tries again later."""
    done = start(systemctl)
    assert done.returncode == 1
    assert "No NVIDIA GPU found, no worker started" in done.stderr
    assert not (tmp_path / "asked").exists()


def test_the_operator_may_name_the_workers(systemctl: dict[str, str], tmp_path: Path) -> None:
    """Some GPUs only, or a machine that works on its CPU."""
    assert start(systemctl | {"INSTANCES": "0 2"}).returncode == 0
    assert [line.split("@")[1] for line in (tmp_path / "asked").read_text().splitlines()] == ["0.service", "2.service"]

"""The machine's memory, read from a tree of files as the kernel writes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models import machine
from models.spec import Memory

GIB = 2**30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with 16 GiB available."""
    write(tmp_path, "proc/meminfo", f"MemTotal: 99 kB\nMemAvailable:   {16 * 2**20} kB\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    """Write a file of the kernel's."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def group(root: Path, path: str, *, most: str, used: int, cached: int = 0) -> None:
    """A control group of the present kind."""
    folder = f"sys/fs/cgroup/{path}"
    write(root, f"{folder}/memory.max", f"{most}\n")
    write(root, f"{folder}/memory.current", f"{used}\n")
    write(root, f"{folder}/memory.stat", f"anon 1\nactive_file 7\ninactive_file {cached}\n")


def test_without_limits_it_is_what_the_kernel_says(root: Path) -> None:
    """A group without a limit has none."""
    write(root, "proc/self/cgroup", "0::/system.slice/easeld@0.service\n")
    group(root, "system.slice/easeld@0.service", most="max", used=GIB)
    assert machine.memory(root).free == 16 * GIB


def test_a_container_has_what_its_limit_leaves(root: Path) -> None:
    """Cached files give way, so they count as free."""
    write(root, "proc/self/cgroup", "0::/\n")
    group(root, "", most=str(8 * GIB), used=5 * GIB, cached=2 * GIB)
    assert machine.memory(root) == Memory(free=5 * GIB, total=8 * GIB)


def test_the_tightest_group_above_counts(root: Path) -> None:
    """A slice may be tighter than the unit in it."""
    write(root, "proc/self/cgroup", "0::/models.slice/easeld@0.service\n")
    group(root, "models.slice/easeld@0.service", most=str(12 * GIB), used=2 * GIB)
    group(root, "models.slice", most=str(13 * GIB), used=9 * GIB)
    assert machine.memory(root).free == 4 * GIB


def test_limits_of_the_older_kind_count_too(root: Path) -> None:
    """As many providers of containers still have them."""
    write(root, "proc/self/cgroup", "9:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n0::/\n")
    folder = "sys/fs/cgroup/memory"
    write(root, f"{folder}/memory.limit_in_bytes", str(6 * GIB))
    write(root, f"{folder}/memory.usage_in_bytes", str(3 * GIB))
    write(root, f"{folder}/memory.stat", f"inactive_file 1\ntotal_inactive_file {GIB}\n")
    assert machine.memory(root) == Memory(free=4 * GIB, total=6 * GIB)


def test_every_card_of_the_machine_counts(root: Path) -> None:
    """Also those that belong to other workers; a machine without any is taken to have one."""
    assert machine.cards(root) == 1
    for card in ("0000:17:00.0", "0000:65:00.0"):
        write(root, f"proc/driver/nvidia/gpus/{card}/information", "Model: a card\n")
    assert machine.cards(root) == 2


def test_what_is_over_its_limit_has_nothing(root: Path) -> None:
    """And not less than that."""
    write(root, "proc/self/cgroup", "0::/\n")
    group(root, "", most=str(GIB), used=2 * GIB)
    assert machine.memory(root).free == 0


def test_where_the_kernel_tells_nothing_all_of_it_is_free(tmp_path: Path) -> None:
    """On a Mac, say."""
    found = machine.memory(tmp_path)
    assert found.free == found.total > 0


@pytest.mark.usefixtures("uncounted")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_what_a_network_frees_is_kept_for_the_next_step() -> None:
    """In a process of its own: hardly a page is faulted in again, where before every allocation faulted in its own."""
    script = """
import resource, sys
from models import machine
from ctypes import CDLL, c_size_t, c_void_p
malloc, free = CDLL(None).malloc, CDLL(None).free
malloc.restype, malloc.argtypes, free.argtypes = c_void_p, [c_size_t], [c_void_p]
memset = CDLL(None).memset
memset.argtypes = [c_void_p, c_size_t, c_size_t]
if sys.argv[1] == "kept":
    assert machine.keep_freed_memory()
def step():
    blocks = [malloc(8 << 20) for _ in range(8)]
    for block in blocks:
        memset(block, 1, 8 << 20)
    for block in blocks:
        free(block)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        how: int(subprocess.run([sys.executable, "-c", script, how], check=True, capture_output=True, text=True).stdout)
        for how in ("kept", "default")
    }
    assert faults["kept"] < faults["default"] / 10

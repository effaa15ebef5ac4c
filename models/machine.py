"""How much memory the machine has left for this process: the kernel's figure, and the limits of its control groups."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from pathlib import Path

from models.spec import Memory

ROOT = Path("/")
# Numbers of glibc's mallopt, from malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT = 256 * 2**20  # bytes that malloc keeps for the next step
MAPPED_FROM = 32 * 2**20  # bytes from which an allocation is given back when it is freed: weights, above all


def memory(root: Path = ROOT) -> Memory:
    """Return the machine's memory, or the least that a container or a systemd unit leaves of it.

    Only Linux tells what is available without swapping. Elsewhere nothing is taken to be short.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return Memory(free=total, total=total)
    available = re.search(r"MemAvailable:\s+(\d+) kB", text)
    least = Memory(free=int(available[1]) * 1024 if available else total, total=total)
    for limit in _limits(root):
        least = Memory(free=min(least.free, limit.free), total=min(least.total, limit.total))
    return least


def cards(root: Path = ROOT) -> int:
    """Return how many NVIDIA cards the machine has, also those that are not ours; at least 1."""
    try:
        return max(1, sum(1 for _ in (root / "proc/driver/nvidia/gpus").iterdir()))
    except OSError:
        return 1


def keep_freed_memory() -> bool:
    """Let malloc keep what a network frees from step to step, and return whether it does: glibc's only.

    By default it returns megabytes to the kernel after every step, and the next one faults them in again, page by page:
    40,000 faults for a picture of 256 pixels, a tenth of its time (https://man7.org/linux/man-pages/man3/mallopt.3.html).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return bool(mallopt(MMAP_THRESHOLD, MAPPED_FROM)) and bool(mallopt(TRIM_THRESHOLD, KEPT))


def _limits(root: Path) -> Iterator[Memory]:
    """What each limited control group above this process has left.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files and, for the older kind,
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
    """
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    mounted = root / "sys/fs/cgroup"
    for _, controllers, path in (line.split(":", 2) for line in groups):
        names = path.strip("/").split("/")
        above = ["/".join(names[:depth]) for depth in range(len(names) + 1)]
        for group in above:
            if not controllers:
                found = _limit(mounted / group, limit="memory.max", used="memory.current", idle="inactive_file")
            elif "memory" in controllers.split(","):
                names_v1 = {"limit": "memory.limit_in_bytes", "used": "memory.usage_in_bytes"}
                found = _limit(mounted / "memory" / group, **names_v1, idle="total_inactive_file")
            else:
                continue
            if found is not None:
                yield found


def _limit(group: Path, *, limit: str, used: str, idle: str) -> Memory | None:
    """What a group has left; ``idle`` names what it counts as used and gives back when it must: cached files."""
    try:
        most = int((group / limit).read_text(encoding="ascii"))
        taken = int((group / used).read_text(encoding="ascii"))
        cached = re.search(rf"^{idle} (\d+)$", (group / "memory.stat").read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, ValueError):  # no such file, or no limit: "max"
        return None
    return Memory(free=max(0, most - taken + (int(cached[1]) if cached else 0)), total=most)

"""Refuses committed text that names a place on the machine it was written on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# Top-level folders that every machine has: naming one of them is no leak.
COMMON = {"bin", "dev", "etc", "home", "lib", "media", "mnt", "opt", "private", "proc", "root", "run", "sbin", "srv"}
COMMON |= {"sys", "tmp", "usr", "var", "Applications", "Library", "System", "Users", "Volumes"}


def machine_paths(checkout: Path, home: Path) -> list[str]:
    """Beginnings of paths that tell where the checkout or its owner's home lies."""
    paths = [f"{checkout}", f"{home}/"]
    if checkout.parts[1] not in COMMON:
        paths.append(f"/{checkout.parts[1]}/")
    return paths


def main() -> None:
    """Print every line that names one, and exit with status 1 if there is any."""
    pattern = "|".join(rf"(?<![\w.])(?:{re.escape(path)})" for path in machine_paths(Path.cwd(), Path.home()))
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    found = False
    for name in filter(None, tracked.split("\0")):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # binary, or removed in the working tree
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(pattern, line):
                print(f"{name}:{number}: names a path of this machine: {line.strip()}")
                found = True
    sys.exit(found)


if __name__ == "__main__":
    main()

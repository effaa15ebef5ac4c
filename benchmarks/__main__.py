"""``make bench``: every row in one run and one table. ``python -m benchmarks b f`` measures only those rows.

``BENCH=quick`` takes three short rounds, for development: its verdicts mean little.
"""

from __future__ import annotations

import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from benchmarks.paired import QUICK, ROUNDS
from benchmarks.parts import Parts

ROWS = ("a", "b", "c", "d", "e", "f")


def main() -> int:
    """Measure, print, and fail where a target was missed."""
    wanted = sys.argv[1:] or ROWS
    began, table = time.monotonic(), []
    with Parts() as parts, tempfile.TemporaryDirectory(prefix="easeld-bench-") as folder:
        for letter in wanted:
            for row in import_module(f"benchmarks.row_{letter}").rows(parts, Path(folder) / letter):
                print(row, flush=True)
                table.append(row)
    print(f"\n{ROUNDS} paired rounds, {time.monotonic() - began:.0f} s{', quick' if QUICK else ''}")
    print("\n".join(str(row) for row in table))
    return 1 if any(row.word == "SHORT" for row in table) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Draws ten jobs in the lanes of a worker, from what one did: ``python -m benchmarks.timeline docs/timeline.svg``.

The small built-in SDXL on the emulator and fake-gcs-server, batching off.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.backlog import work_off
from benchmarks.child import watched
from benchmarks.observed import Span
from benchmarks.parts import Parts

JOBS = 10
LANES = {"claimed": "claim", "device": "device", "encode": "encode", "upload": "upload", "completed": "complete"}
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951")
WIDTH, LEFT, ROW, TOP = 960, 90, 34, 16  # pixels


def main() -> None:
    """Run ten jobs and draw them."""
    with Parts() as parts, tempfile.TemporaryDirectory(prefix="easeld-bench-") as folder:
        place_folder = Path(folder) / "place"
        with parts.place("emulator", place_folder) as place:
            environment = {**place.environment, "EASELD_MODELS": "shapes", "EASELD_MAX_BATCH": "1"}
            with watched({**environment, "EASELD_CACHE": f"{folder}/cache"}, Path(folder) / "spans") as worker:
                work_off(place, worker, 3, within=60)
                since = len(worker.spans)
                work_off(place, worker, JOBS, within=120)
                spans = [span for span in worker.spans[since:] if span.kind in LANES]
    Path(sys.argv[1]).write_text(drawn(spans), encoding="utf-8")


def drawn(spans: Sequence[Span]) -> str:
    """An SVG with a lane for each kind, time to the right."""
    began, ended = min(span.began for span in spans), max(span.ended for span in spans)
    scale = (WIDTH - LEFT - 10) / (ended - began)
    height = TOP + ROW * len(LANES) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for (kind, name), colour, lane in zip(LANES.items(), COLOURS, range(len(LANES)), strict=True):
        y = TOP + lane * ROW
        parts.append(f'<text font-size="12" x="{LEFT - 8}" y="{y + 17}" text-anchor="end">{name}</text>')
        for span in (span for span in spans if span.kind == kind):
            x, wide = LEFT + (span.began - began) * scale, max(1.0, (span.ended - span.began) * scale)
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{ROW - 10}" fill="{colour}" '
                'fill-opacity="0.75" stroke="white" stroke-width="0.5"/>'
            )
    for tick in range(int(ended - began) + 1):
        x = LEFT + tick * scale
        parts.append(f'<text font-size="12" x="{x:.1f}" y="{height - 8}" text-anchor="middle">{tick} s</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()

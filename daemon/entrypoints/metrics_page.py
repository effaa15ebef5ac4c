"""Writes ``docs/metrics.md`` from a worker's registry: ``python -m daemon.entrypoints.metrics_page``."""

from __future__ import annotations

from pathlib import Path

from daemon.metrics import Described, Metrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
HEAD = """# Metrics

<!-- Written by `python -m daemon.entrypoints.metrics_page` from the code that counts: change it there. -->

A worker with `EASELD_HTTP_PORT` serves these at `/metrics` in Prometheus' text format; `easeld up` serves them on the
shim's port too, behind the shim's key where there is one. Each worker counts what it did itself; sum over workers for a
fleet. Only `easeld_queue_depth` and `easeld_oldest_queued_seconds` are of the shared queue: take the maximum, not the
sum. They are asked of the store when somebody scrapes, every 15 seconds at most, and are absent while it cannot tell.

A histogram `NAME` has the series `NAME_bucket`, `NAME_sum` and `NAME_count`.

| Metric | Kind | Labels | What it tells |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_row(metric) for metric in Metrics(worker="").described)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def _row(metric: Described) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.text} |\n"


if __name__ == "__main__":
    main()

from __future__ import annotations

import json
import re
from pathlib import Path

from daemon.metrics import Metrics

DOCS = Path(__file__).parents[2] / "docs"
ALERTS, DASHBOARD = DOCS / "monitoring" / "alerts.yaml", DOCS / "monitoring" / "dashboard.json"
ENDINGS = ("_bucket", "_sum", "_count")
ADDED = {"instance", "job", "le"}  # labels that Prometheus and histograms add


def expressions() -> list[str]:
    """Every query of both files."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    variables = [variable["query"] for variable in dashboard["templating"]["list"]]
    alerts = ALERTS.read_text(encoding="utf-8").split("expr:")[1:]
    return [*panels, *variables, *(text.partition("labels:")[0] for text in alerts)]


def labels_by_series() -> dict[str, set[str]]:
    """Every series that a worker has, with its labels."""
    found: dict[str, set[str]] = {}
    for metric in Metrics(worker="").described:
        for ending in ENDINGS if metric.kind == "histogram" else ("",):
            found[metric.name + ending] = set(metric.labels)
    return found


def test_the_dashboard_and_the_alerts_name_only_series_and_labels_that_there_are() -> None:
    """A query for what is not there shows an empty panel, and an alert that never comes."""
    series = labels_by_series()
    named = 0
    for expression in expressions():
        for name, matchers in re.findall(r"\b(easeld_\w+)(\{[^}]*\})?", expression):
            assert name in series, expression
            assert set(re.findall(r"(\w+)=", matchers)) <= series[name] | ADDED, expression
            named += 1
        every = set().union(*(series[name] for name in re.findall(r"\beaseld_\w+", expression)), ADDED)
        for grouped in re.findall(r"(?:by|ignoring) \(([^)]*)\)", expression):
            assert set(grouped.split(", ")) <= every, expression
    assert named > 40


def test_the_dashboard_shows_every_metric() -> None:
    """What is counted is seen."""
    shown = set(re.findall(r"\beaseld_\w+", DASHBOARD.read_text(encoding="utf-8")))
    for metric in Metrics(worker="").described:
        assert any(name.startswith(metric.name) for name in shown), metric.name


def test_the_run_book_has_a_line_for_each_alert() -> None:
    """And none for an alert that is gone."""
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8"))
    lines = re.findall(r"^\| (Easeld\w+) \|", (DOCS / "operations.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert lines == alerts


def test_what_the_run_book_links_to_is_there() -> None:
    """Links between the pages hold."""
    text = (DOCS / "operations.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^):]+)\)", text):
        assert (DOCS / target).is_file(), target

"""``easeld models``: what can be served, and what these settings serve."""

from __future__ import annotations

import json as json_format
from typing import Annotated

import typer

from daemon import settings as all_settings
from daemon.entrypoints.present import print_table
from daemon.serving import catalogue, served
from models.spec import ModelSpec


def models(json: Annotated[bool, typer.Option("--json", help="Print a JSON list and nothing else.")] = False) -> None:
    """List the models, and which of them are served."""
    settings = all_settings.load()
    ours = served(settings)
    rows = [
        {"name": name, "task": spec.task.value, "source": source(spec), "served": name in ours}
        for name, spec in catalogue(settings).items()
    ]
    if json:
        print(json_format.dumps(rows, indent=2))
        return
    table = [(row["name"], row["task"], row["source"], "yes" if row["served"] else "") for row in rows]
    print_table(("Model", "Task", "Source", "Served"), table)


def source(spec: ModelSpec) -> str:
    """Where a model's weights come from."""
    if spec.repository:
        return f"{spec.repository}@{(spec.revision or '')[:7]}"
    if spec.path:
        return str(spec.path)
    return "built in" if spec.builtin else "no weights"

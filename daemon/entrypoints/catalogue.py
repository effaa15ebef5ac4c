"""``easeld models``: what can be served, what these settings serve, and their weights ahead of need."""

from __future__ import annotations

import json as json_format
import sys
from typing import Annotated

import typer

from daemon import settings as all_settings
from daemon.core.errors import Rejected
from daemon.entrypoints.present import print_table
from daemon.serving import catalogue, served
from models.errors import ModelMissing
from models.spec import Family, ModelSpec

app = typer.Typer(invoke_without_command=True)


@app.callback()
def models(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list and nothing else.")] = False,
) -> None:
    """List the models, and which of them are served; `pull` fetches their weights."""
    if context.invoked_subcommand is not None:
        return
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


@app.command()
def pull(
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Default: what is served.")] = None,
) -> None:
    """Fetch the weights of models, check every file, and ask no network for them again.

    What was cut off is resumed, and processes that fetch into the same folder (HF_HOME) wait for each other.
    """
    settings = all_settings.load()
    known = catalogue(settings)
    wanted = names or list(served(settings))
    if unknown := [name for name in wanted if name not in known]:
        raise Rejected(f"no such model: {', '.join(unknown)}; there are {', '.join(known)}")
    try:
        import huggingface_hub  # noqa: F401 - asked for once, instead of half way
    except ImportError:
        raise Rejected("this needs what a worker needs: pip install 'easeld[worker]'") from None
    from models import fetch

    for name in wanted:
        if known[name].family is Family.NULL:
            continue

        def say(what: str, name: str = name) -> None:
            print(f"{name}: {what}", file=sys.stderr)

        try:
            folder = fetch.pull(known[name], cache_dir=settings.cache, say=say)
        except ModelMissing as exc:
            print(f"easeld: {exc}", file=sys.stderr)
            raise typer.Exit(1) from exc
        print(folder)


def source(spec: ModelSpec) -> str:
    """Where a model's weights come from."""
    if spec.repository:
        return f"{spec.repository}@{(spec.revision or '')[:7]}"
    if spec.path:
        return str(spec.path)
    return "built in" if spec.builtin else "no weights"

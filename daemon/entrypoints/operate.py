"""``easeld cancel`` and ``easeld retry``: the operator's hand in a job."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from daemon.core import lifecycle
from daemon.core.job import Decide, Document
from daemon.entrypoints.opening import client_store, find
from daemon.entrypoints.present import as_json, plain, stage

Job = Annotated[str, typer.Argument(metavar="USER/FILE", help="The job; USER/images/FILE where there are two.")]
Json = Annotated[bool, typer.Option("--json", help="Print the document as JSON and nothing else.")]


def cancel(job: Job, json: Json = False) -> None:
    """End a queued or running job.

    Its document says "failed", with the message "Cancelled by the operator".
    """
    _decide(job, lifecycle.stop, json=json, otherwise="nothing to cancel: the job has ended")


def retry(job: Job, json: Json = False) -> None:
    """Queue an ended job again, as its document asks."""
    _decide(job, lifecycle.requeue, json=json, otherwise="nothing to retry: the job has not ended")


def _decide(named: str, decide: Decide, *, json: bool, otherwise: str) -> None:
    with client_store() as (_, store):
        result = store.update(find(store, named), decide)
    if not isinstance(result, Document):
        print(f"easeld: {plain(named)}: {otherwise}", file=sys.stderr)
        raise typer.Exit(1)
    print(as_json(result.fields) if json else f"{plain(named)}: {stage(result.fields)}")

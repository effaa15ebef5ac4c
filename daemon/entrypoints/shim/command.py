"""``easeld shim``: the endpoint alone, on any small machine."""

from __future__ import annotations

from typing import Annotated

import typer

from daemon import log as logs
from daemon import settings as all_settings
from daemon.stores import open_store


def shim(
    host: Annotated[str | None, typer.Option(help="Address to listen at; EASELD_SHIM_HOST otherwise.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen at; EASELD_SHIM_PORT otherwise.")] = None,
) -> None:
    """Run the RunPod-compatible endpoint alone.

    It writes queued documents; workers elsewhere do the rest.
    """
    from daemon.entrypoints.shim.access import check_address
    from daemon.entrypoints.shim.server import serve

    settings = all_settings.load(shim_host=host, shim_port=port)
    logs.configure(level=settings.log_level, json=settings.log_json, prompts=settings.log_prompts)
    check_address(settings)
    store = open_store(settings)
    try:
        serve(settings, store)
    finally:
        store.close()

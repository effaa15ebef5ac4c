"""Drains when Google Cloud is about to take the machine: a spot VM gets 30 seconds, or less, after the notice.

cloud.google.com/compute/docs/instances/create-use-preemptible#detecting_if_an_instance_was_preempted
"""

from __future__ import annotations

import http.client
import os
import urllib.request
from pathlib import Path
from threading import Event

import structlog

from daemon.shutdown import Shutdown

log = structlog.get_logger(__name__)

PRODUCT = Path("/sys/class/dmi/id/product_name")
WAIT = 60  # seconds that the server holds a request back while nothing changes
PAUSE = 1.0  # seconds between two requests, whether or not the server holds them back
AGAIN_AFTER = 5.0  # seconds after a request that failed


def on_google_cloud() -> bool:
    """Whether this machine is a VM of Google Cloud, or is told to act as one (``GCE_METADATA_HOST``)."""
    if "GCE_METADATA_HOST" in os.environ:
        return True
    try:
        return "Google Compute Engine" in PRODUCT.read_text()
    except OSError:
        return False


def watch(shutdown: Shutdown, stopped: Event) -> None:
    """Ask the metadata server until it says that the machine will be taken, then drain."""
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    url = f"http://{host}/computeMetadata/v1/instance/preempted?wait_for_change=true&timeout_sec={WAIT}"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    trouble = False
    while not stopped.is_set():
        try:
            with urllib.request.urlopen(request, timeout=WAIT + 10) as response:  # noqa: S310  # always http
                if response.read().strip().upper() == b"TRUE":
                    shutdown.drain("Google Cloud takes this machine (preempted)")
                    return
            trouble = False
            stopped.wait(PAUSE)
        except (http.client.HTTPException, OSError) as exc:  # URLError is an OSError
            if not trouble:
                log.warning("preemption.unwatched", error=str(exc))
            trouble = True
            stopped.wait(AGAIN_AFTER)

"""The page of a rig's worker, on a free port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from daemon import settings
from daemon.core.ports import Intake
from daemon.entrypoints import server
from daemon.entrypoints.shim.app import create_app
from tests.daemon.rig import Rig


@contextmanager
def serving(rig: Rig, *, port: int = 0, **overrides: Any) -> Iterator[str]:
    """Serve the page of the rig's running worker as ``easeld up`` does; yields its address."""
    assert rig.running is not None
    chosen = {"models": ["shapes", "motion"], "shim_port": port, **overrides}
    configured = settings.load(data=rig.folder, **chosen)
    app = create_app(configured, cast("Intake", rig.store), rig.running.service)
    with (
        server.listening("127.0.0.1", configured.shim_port, settings="the test") as listener,
        server.serving(app, listener, name="page-server"),
    ):
        yield server.address(listener)

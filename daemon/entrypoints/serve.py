"""``easeld up`` and ``easeld worker``: the daemon, from its settings to the end of its process."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Annotated, NoReturn

import structlog
import typer

from daemon import log as logs
from daemon import settings as all_settings
from daemon.core.ports import Intake
from daemon.settings import BlobsKind, Settings, StoreKind
from daemon.shutdown import Shutdown

if TYPE_CHECKING:
    from daemon.service import Service

log = structlog.get_logger(__name__)

EXIT_UNFIT = 1  # what a probe finds is mended outside, by the network, an index or a permission: starting again helps
_ENDING = Lock()  # taken once and kept


def up(
    data: Annotated[Path | None, typer.Option(help="Folder of the queue and the media; EASELD_DATA otherwise.")] = None,
) -> None:
    """Run everything on this machine, with one folder.

    Queue, worker, media and the RunPod-compatible endpoint: no account, no other server.
    """
    settings = all_settings.load(store=StoreKind.SQLITE, blobs=BlobsKind.FOLDER, data=data)
    _run(settings, everything=True)


def worker() -> None:
    """Run a worker on the store of the settings.

    Start as many as you have devices; they share the queue.
    """
    _run(all_settings.load())


def _run(settings: Settings, *, everything: bool = False) -> NoReturn:
    """Work until told to stop, then end the process: a stuck thread must not hold it back.

    Raises:
        WrongSettings: they do not fit together; nothing has been loaded yet.
        StoreUnavailable: the store is away.
    """
    from daemon import compose

    compose.policy(settings, compose.served(settings))
    logs.configure(level=settings.log_level, json=settings.log_json, prompts=settings.log_prompts)
    shutdown = Shutdown()
    shutdown.listen()
    started = Event()
    Thread(target=_end_before_start, args=(shutdown, started), daemon=True).start()
    store, blobs = compose.open_store(settings), compose.open_blobs(settings)
    troubles = store.probe() + blobs.probe()
    for trouble in troubles:
        log.error("worker.unfit", trouble=trouble)
    if troubles:
        shutdown.stop("the store or the bucket cannot be used like this", status=EXIT_UNFIT)
        _end(shutdown.status)
    service = compose.service(settings, store, blobs, shutdown=shutdown)
    started.set()
    with ExitStack() as servers:
        if everything:
            print(_hints(settings, servers.enter_context(_shim(settings, store, service))), flush=True)
        if settings.http_port is not None:
            servers.enter_context(_health(settings, service, port=settings.http_port))
        status = service.run()
        log.info("worker.ended", status=status)
        _end(status)  # in here: no server's open connection may hold the end back


def _shim(settings: Settings, store: Intake, worker: Service) -> AbstractContextManager[str]:
    from daemon.entrypoints.shim.server import serving

    return serving(settings, store, worker=worker)


def _health(settings: Settings, worker: Service, *, port: int) -> AbstractContextManager[str]:
    from daemon.entrypoints import worker_health  # FastAPI takes a while, and most workers on a laptop need none

    return worker_health.serving(settings, worker, port=port)


def _hints(settings: Settings, shim: str) -> str:
    """What a person needs to know who has just started it."""
    folder = settings.data.resolve()
    usual = settings.data == Settings.model_fields["data"].get_default(call_default_factory=True)
    where = "" if usual else f"EASELD_DATA={shlex.quote(str(folder))} "
    return "\n".join(
        (
            f"easeld serves {', '.join(settings.models)}. Stop it with Ctrl-C.",
            *([f"  look    {shim}/"] if settings.page else []),
            f"  call    {shim}/v2/{settings.shim_endpoints[0]}/runsync",
            f"  media   {folder / 'media'}",
            f'  submit  {where}easeld submit "a red circle on a blue background" --wait',
        )
    )


def _end_before_start(shutdown: Shutdown, started: Event) -> None:
    """Obey a signal that comes while stores are opened and probed, which can take a minute; nothing is held yet."""
    shutdown.draining.wait()
    if not started.is_set():
        _end(shutdown.status)


def _end(status: int) -> NoReturn:
    """End the process. Where two threads want to, the first does: what runs at an end is not made for two."""
    _ENDING.acquire()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it is gone
            stream.flush()
    os._exit(status)

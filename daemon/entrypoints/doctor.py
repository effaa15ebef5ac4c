"""``easeld doctor``: whether a worker with these settings would work on this machine, and what to do if not."""

from __future__ import annotations

import json as json_format
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from daemon import doctor as checks
from daemon import fitness, serving
from daemon import log as logs
from daemon import settings as all_settings
from daemon.core.errors import BlobsUnavailable, StoreUnavailable
from daemon.core.ports import BlobStore, Store
from daemon.doctor import Check, Finding, State, Trouble
from daemon.entrypoints.present import plain
from daemon.settings import CONFIG, BlobsKind, Settings, StoreKind
from daemon.stores import open_blobs, open_store
from models.errors import ModelMissing

if TYPE_CHECKING:
    from rich.console import Console

EXIT_TROUBLE = 1
STYLES = {State.OK: "green", State.TROUBLE: "bold red", State.SKIPPED: "dim"}


def doctor(json: Annotated[bool, typer.Option("--json", help="Print a JSON list and nothing else.")] = False) -> None:
    """Check everything that a worker needs here, and say what to do about what is missing.

    Writes one small document, generations/easeld-doctor/images/scratch, which stays, and one object, which does not.
    """
    logs.configure(level="error")
    with ExitStack() as opened:
        findings = []
        for finding in checks.examine(Patient(opened).checks()):
            findings.append(finding)
            if not json:
                _print(finding)
    if json:
        rows = [{"check": found.check, "state": found.state.value, "lines": found.lines} for found in findings]
        print(json_format.dumps(rows, indent=2))
    if any(found.state is not State.OK for found in findings):
        raise typer.Exit(EXIT_TROUBLE)


class Patient:
    """The settings, and what they open, as far as the checks have come."""

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        self._settings: Settings | None = None
        self._store: Store | None = None
        self._blobs: BlobStore | None = None

    def checks(self) -> Iterator[Check]:
        """All of them, in order; each is made when the one before has run."""
        yield Check(name="settings", run=self._read_settings)
        yield Check(name="credentials", run=self._open, needs=("settings",))
        yield Check(name="project", run=self._ask, needs=("credentials",))
        store, alive = self._with_store, ("credentials", "project")
        yield Check(name="read and write", run=store(checks.read_and_write), needs=alive)
        yield Check(name="indexes", run=store(checks.indexes), needs=alive)
        yield Check(name="listener", run=store(checks.listener), needs=(*alive, "read and write"))
        yield Check(name="bucket", run=self._use_bucket, needs=("credentials",))
        yield Check(name="device", run=lambda: _models().device(self.settings.device), needs=("settings",))
        yield Check(name="driver", run=lambda: _models().driver(self.settings.device), needs=("device",))
        yield Check(name="memory", run=lambda: _models().memory(self.settings.device), needs=("device",))
        yield Check(name="disk", run=self._look_at_disk, needs=("settings",))
        yield Check(name="models", run=self._look_for_models, needs=("device",))
        yield Check(name="clock", run=store(lambda it: checks.clock(it.now(), time.time())), needs=alive)

    @property
    def settings(self) -> Settings:
        """The settings, which are checked first."""
        assert self._settings is not None  # noqa: S101 - every check but the first needs that one
        return self._settings

    def _read_settings(self) -> str:
        settings = self._settings = all_settings.load()
        serving.policy(settings, serving.served(settings))
        given = sum(name.startswith("EASELD_") and name != CONFIG for name in os.environ)
        where = f"{given} from the environment" + (
            f", others from {os.environ[CONFIG]}" if CONFIG in os.environ else ""
        )
        return f"{settings.store.value} and {settings.blobs_kind.value}; {where}"

    def _open(self) -> str:
        settings = self.settings
        try:
            self._store = open_store(settings)
            self._opened.callback(self._store.close)
            self._blobs = open_blobs(settings)
            self._opened.callback(self._blobs.close)
        except (StoreUnavailable, BlobsUnavailable, OSError) as exc:  # only the embedded ones open anything yet
            raise Trouble(f"{exc}: see `ls -ld {settings.data}`, or name another folder: EASELD_DATA=FOLDER") from exc
        if "FIRESTORE_EMULATOR_HOST" in os.environ and settings.store is StoreKind.FIRESTORE:
            return f"none needed for the emulator at {os.environ['FIRESTORE_EMULATOR_HOST']}"
        if settings.store is StoreKind.SQLITE and settings.blobs_kind is BlobsKind.FOLDER:
            return f"none needed for {settings.data}"
        return "EASELD_CREDENTIALS_JSON" if settings.credentials_json else "application default credentials"

    def _ask(self) -> str:
        assert self._store is not None  # noqa: S101 - the check of credentials has opened it
        name = str(self.settings.data) if self.settings.store is StoreKind.SQLITE else self.settings.database
        return f"{name} {checks.answering(self._store)}"

    def _with_store(self, check: Callable[[Store], str]) -> Callable[[], str]:
        def run() -> str:
            assert self._store is not None  # noqa: S101 - likewise
            return check(self._store)

        return run

    def _use_bucket(self) -> str:
        assert self._blobs is not None  # noqa: S101 - likewise
        name = self.settings.bucket if self.settings.blobs_kind is BlobsKind.GCS else self.settings.data / "media"
        return f"{name}: {checks.bucket(self._blobs)}"

    def _look_at_disk(self) -> str:
        fitness.check_disk(self.settings.min_free_disk)
        return f"at least {self.settings.min_free_disk:g} GiB free for temporary files"

    def _look_for_models(self) -> str:
        found, missing = [], []
        for spec in serving.served(self.settings).values():
            try:
                found.append(_models().cached(spec, cache_dir=self.settings.cache))
            except ModelMissing as exc:
                missing.append(str(exc))
        if missing:
            raise Trouble(*missing)
        return "; ".join(found)


def _models() -> ModuleType:
    """What knows torch; loading it takes seconds."""
    try:
        from models import examine
    except ImportError as exc:
        raise Trouble(f"{exc.name} is not installed: pip install 'easeld[worker]'") from exc
    return examine


def _print(finding: Finding) -> None:
    from rich.text import Text

    console = _console()
    for line in finding.lines:
        text = Text.assemble((f"{finding.state.value:8}", STYLES[finding.state]), f"{finding.check:16}", plain(line))
        console.print(text, soft_wrap=True)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)

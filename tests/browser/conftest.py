"""A worker in this process, its page, and a browser that looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.daemon.rig import Rig, rig
from tests.entrypoints.page.running import serving
from tests.parts.chromium import chromium
from tests.parts.missing import PartMissing, skip_or_fail

WITHIN = 15_000  # ms that anything on the page may take; all of it takes far less on a machine that is not busy


@pytest.fixture(name="browser", scope="package")
def _browser() -> Iterator[Browser]:
    """One browser for all tests here and for no others: Playwright's event loop stays in the thread meanwhile."""
    expect.set_options(timeout=WITHIN)
    try:
        with chromium() as browser:
            yield browser
    except PartMissing as missing:
        skip_or_fail(missing.part, missing.how)


@pytest.fixture(name="rig")
def _rig(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as it:
        yield it


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page. Whatever its console complains of fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(WITHIN)
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert not complaints


@dataclass(kw_only=True)
class Served:
    """The page of a rig's worker, to be stopped and started on the same port."""

    rig: Rig
    address: str
    server: AbstractContextManager[str]

    def stop(self) -> None:
        """Take the server away; the worker goes on."""
        self.server.__exit__(None, None, None)

    def start(self) -> None:
        """Bring it back where it was."""
        self.server = serving(self.rig, port=int(self.address.rpartition(":")[2]))
        self.server.__enter__()


@pytest.fixture
def served(rig: Rig) -> Iterator[Served]:
    """A worker whose page is served."""
    with rig.worker():
        server = serving(rig)
        served = Served(rig=rig, address=server.__enter__(), server=server)
        yield served
        served.stop()

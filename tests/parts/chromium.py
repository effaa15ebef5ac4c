"""Debian's Chromium, driven by Playwright, with nothing of its own on the network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.parts.missing import PartMissing

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ON_MACOS = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
ARGUMENTS = (
    "--no-sandbox",  # continuous integration runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window, its profile new and empty.

    Raises:
        PartMissing: there is none on this machine.
    """
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None and ON_MACOS.is_file():
        path = str(ON_MACOS)
    if path is None:
        raise PartMissing("Chromium", "`make browser-test` installs it on Debian; elsewhere install Chromium or Chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=list(ARGUMENTS))
        yield browser
        browser.close()

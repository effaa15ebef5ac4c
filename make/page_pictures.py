"""Takes the pictures of the operator page in docs/page: a daemon with the built-in models, and a browser that looks.

`python -m make.page_pictures`, whenever the page has changed to the eye. Settings in the environment go before ours.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.parts.chromium import chromium

FOLDER = Path("docs/page")
PROMPTS = (
    "a red circle on a blue background",
    "a yellow square on a white background",
    "a green triangle on a black background",
    "a purple circle on a yellow background",
    "an orange square on a green background",
)
VIDEO = "a red circle moving to the right"
WITHIN = 240_000  # ms


def main() -> None:
    """Write three pictures: light, dark, and on a phone."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, _daemon(data) as address, chromium() as browser:
        expect.set_options(timeout=WITHIN)
        page = browser.new_page(viewport={"width": 1280, "height": 1180})
        page.goto(address)
        expect(page.locator("#connection")).to_have_text("Live")
        page.get_by_text("Video", exact=True).click()
        page.get_by_text("More", exact=True).click()
        for name in ("video_width", "video_height"):
            page.locator(f"[name={name}]").fill("256")
        _submit(page, VIDEO)
        expect(page.locator("#results .tile")).to_have_count(1)
        page.get_by_text("Image", exact=True).click()
        for name in ("width", "height"):
            page.locator(f"[name={name}]").fill("256")
        page.get_by_text("More", exact=True).click()
        for count, prompt in enumerate(PROMPTS, start=2):
            _submit(page, prompt)
            expect(page.locator("#results .tile")).to_have_count(count)
        for prompt in PROMPTS[:4]:
            _submit(page, f"{prompt}, once more")
        page.get_by_role("button", name=f"Cancel: {PROMPTS[1]}").last.click()
        expect(page.locator("#failures .row")).to_have_count(1)
        expect(page.locator("#toast")).to_be_empty()
        expect(page.locator("#running img").first).to_be_visible()
        _take(page, "light", "light")
        _take(page, "dark", "dark")
        page.set_viewport_size({"width": 390, "height": 844})
        _take(page, "light", "phone")


def _submit(page: Page, prompt: str) -> None:
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("#mine")).to_contain_text(prompt)


def _take(page: Page, scheme: str, name: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    taken.quantize(128).save(FOLDER / f"{name}.png", optimize=True)


@contextmanager
def _daemon(data: str) -> Iterator[str]:
    command = [sys.executable, "-m", "daemon.entrypoints.cli", "up", "--data", data]
    environment = {"EASELD_SHIM_PORT": "0", "EASELD_DEVICE": "cpu", "EASELD_WORKER": "gpu-1", "EASELD_MAX_BATCH": "1"}
    with subprocess.Popen(command, env={**environment, **os.environ}, stdout=subprocess.PIPE, text=True) as process:
        look = next(line for line in process.stdout or () if line.strip().startswith("look "))
        yield look.split()[1]
        process.terminate()


if __name__ == "__main__":
    main()

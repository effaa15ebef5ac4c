"""What the model libraries write into the log."""

from __future__ import annotations

import logging

import pytest

from models.diffusion import DiffusionModel
from tests.models.calls import call, ignore, item


def test_a_prompt_never_reaches_the_log(model: DiffusionModel, capfd: pytest.CaptureFixture[str]) -> None:
    """A long one is cut by the libraries, whose warning would quote what is left out."""
    seen: list[str] = []

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    handler = Seen()
    for name in ("diffusers", "transformers"):
        logging.getLogger(name).addHandler(handler)
    try:
        model.generate(call(item(prompt="secret " * 600, negative_prompt="hidden " * 600), steps=1), ignore)
    finally:
        for name in ("diffusers", "transformers"):
            logging.getLogger(name).removeHandler(handler)
    assert seen == []
    assert capfd.readouterr() == ("", "")

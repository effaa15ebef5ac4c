"""Keeps the model libraries from writing what no reader of a daemon's log needs."""

from __future__ import annotations

import logging


def quiet_libraries() -> None:
    """Import diffusers and transformers without their loading bars and without lines known to be harmless.

    Every other line stays. Safe to repeat.
    """
    # On import, diffusers names processors of given pictures, which no model here takes.
    logging.getLogger("transformers.utils.import_utils").addFilter(_no_torchvision)

    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def _no_torchvision(record: logging.LogRecord) -> bool:
    return "requires torchvision" not in record.getMessage()

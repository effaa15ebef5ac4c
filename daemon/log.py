"""Logs: for a person on a terminal, JSON with Cloud Logging's keys elsewhere. Event names are ``noun.verb``."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

HIDDEN = ("prompt", "negative_prompt")


def configure(*, level: str, json: bool | None = None, prompts: bool = False) -> None:
    """Send every log to standard error. ``json`` of ``None``: JSON unless standard error is a terminal.

    Unless ``prompts``, fields that hold a prompt are left out: they are their users' words. A traceback shows the lines
    of our code and no values, in either form.
    """
    as_json = not sys.stderr.isatty() if json is None else json
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        *([] if prompts else [_hide_prompts]),
    ]
    if as_json:
        renderer: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            _for_cloud_logging,
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        # Without the values of local variables, which rich shows by default: they are prompts and keys.
        tracebacks = structlog.dev.RichTracebackFormatter(show_locals=False)
        renderer = [structlog.dev.ConsoleRenderer(exception_formatter=tracebacks)]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _hide_prompts(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in HIDDEN:
        event.pop(name, None)
    return event


def _for_cloud_logging(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name the keys as Cloud Logging reads them: cloud.google.com/logging/docs/structured-logging."""
    event["severity"] = event.pop("level", "info").upper()
    event["message"] = event.pop("event", "")
    return event

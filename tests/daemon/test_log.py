from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from daemon import log as logs

SECRET = "sk-1f0c"
FORMS = pytest.mark.parametrize("as_json", [False, True], ids=["terminal", "json"])


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """No other test logs as these do."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def fail() -> None:
    """Fail like a defect of ours: far down, with secrets in every frame."""
    held = {"prompt": SECRET}
    try:
        raise KeyError(len(held))
    except KeyError as exc:
        raise RuntimeError("a defect") from exc


@FORMS
def test_a_traceback_shows_no_value_of_a_local_variable(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """They are prompts and keys; where it happened is told all the same, in both forms."""
    logs.configure(level="info", json=as_json)
    key = f"key {SECRET}"
    try:
        fail()
    except RuntimeError:
        structlog.get_logger().exception("worker.broken", thread="claim", length=len(key))
    with pytest.raises(RuntimeError) as caught:
        fail()
    structlog.get_logger().error("worker.broken", exc_info=caught.value)  # as a pool's callback does
    told = capsys.readouterr().err
    for words in ("a defect", "KeyError", "test_log.py", "in fail"):
        assert told.count(words) >= 2, words
    assert SECRET not in told


@FORMS
def test_prompts_are_left_out_unless_the_operator_wants_them(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """They are their users' words."""
    for wanted in (False, True):
        logs.configure(level="info", json=as_json, prompts=wanted)
        structlog.get_logger().info("job.ended", prompt="a red car", negative_prompt="rain")
        told = capsys.readouterr().err
        assert ("a red car" in told, "rain" in told) == (wanted, wanted)


def test_json_has_the_keys_that_cloud_logging_understands(capsys: pytest.CaptureFixture[str]) -> None:
    """One object on each line: severity, message and time, and whatever was bound or said."""
    logs.configure(level="info")  # standard error is no terminal here
    log = structlog.get_logger()
    with structlog.contextvars.bound_contextvars(job="generations/u/images/one"):
        log.info("job.ended", status="completed", at=object)
        log.debug("nothing.much")
    lines: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    [line] = lines
    assert line.pop("time").endswith("Z")
    assert line == {
        "severity": "INFO",
        "message": "job.ended",
        "job": "generations/u/images/one",
        "status": "completed",
        "at": str(object),
    }

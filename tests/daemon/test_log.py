from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from daemon import log as logs
from models.errors import GenerationFailed
from models.spec import Call
from tests.daemon.rig import Rig

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


def test_each_job_has_one_line_that_sums_it_up_and_its_path_is_everywhere(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in what a model says from deep below; the prompt is nowhere."""
    logs.configure(level="debug", json=True)

    def fail(_: Call) -> None:
        structlog.get_logger("models").warning("memory.short")
        raise GenerationFailed("the pipeline broke")

    with rig.worker():
        good = rig.call("good", prompt=SECRET, seed=7)
        rig.until_status(good, "completed")
        rig.device.trouble = fail
        bad = rig.call("bad", prompt=SECRET)
        rig.until_status(bad, "failed")
    told = capsys.readouterr().err
    lines = [json.loads(line) for line in told.splitlines()]
    ends = {line["job"]: line for line in lines if line["message"] == "job.ended"}
    assert sorted(ends) == [bad.path, good.path]
    assert len(ends) == sum(line["message"] == "job.ended" for line in lines)
    completed, failed = ends[good.path], ends[bad.path]
    assert (completed["status"], completed["model"], completed["seed"]) == ("completed", "shapes", 7)
    assert {"queued", "claim", "load", "generate", "encode", "upload", "total"} <= completed.keys()
    assert (failed["status"], failed["error_type"], failed["error"]) == ("failed", "RuntimeError", "the pipeline broke")
    [said] = [line for line in lines if line["message"] == "memory.short"]
    assert said["jobs"] == [bad.path]
    assert SECRET not in told

from __future__ import annotations

from models.spec import Call
from tests.daemon.rig import Rig, until


def test_a_running_job_has_a_preview_in_memory_and_nowhere_else(rig: Rig) -> None:
    """The page shows it; no document and no file ever holds it."""
    with rig.worker() as running:
        rig.device.hold()
        job = rig.call("one")
        until(lambda: bool(rig.device.calls), "the device has it")
        rig.device.step()
        until(lambda: any(held.preview is not None for held in running.service.heartbeat.held()), "there is a preview")
        rig.device.let_go()
        fields = rig.until_status(job, "completed")
    assert "preview" not in str(fields)
    assert rig.files() == {"generating/u/image/one.png"}


def test_a_preview_that_cannot_be_made_costs_no_picture(rig: Rig) -> None:
    """The look fails, the job does not."""

    def broken() -> list[object]:
        raise RuntimeError("no memory for a look")

    def look(call: Call) -> None:
        assert call.on_look is not None
        call.on_look(broken)  # type: ignore[arg-type]

    rig.device.trouble = look
    with rig.worker():
        rig.until_status(rig.call("one"), "completed")


def test_where_previews_are_off_nothing_looks(rig: Rig) -> None:
    """The model is not even asked."""
    with rig.worker(previews=False):
        rig.until_status(rig.call("one"), "completed")
    [call] = rig.device.calls
    assert call.on_look is None

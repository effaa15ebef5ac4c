"""What a model could not follow stands on the document."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.keeper import Keeper
from models.spec import Call
from tests.daemon.rig import Rig


def test_a_document_names_the_words_that_the_builtin_model_ignored(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real model, from the client's prompt to the client's document; its picture is made all the same."""
    keeper = Keeper(cache_dir=tmp_path, device="cpu", threads=1)
    monkeypatch.setattr(rig.device, "resident", keeper.resident)
    with rig.worker():
        job = rig.call(
            "one", prompt="a crimson disc riding a dragon", negative_prompt="blurry", num_images_per_prompt=2
        )
        fields = rig.until_status(job, "completed", within=60)
    assert fields["image_count"] == 2
    assert fields["easeld"]["warnings"] == [
        "Model shapes does not know these words of the prompt, and ignored them: riding, dragon",
        "Model shapes does not know these words of the negative prompt, and ignored them: blurry",
    ]
    assert fields["easeld"]["request"]["prompt"] == "a crimson disc riding a dragon"


def test_a_warning_goes_to_the_job_it_is_about_and_no_other(rig: Rig) -> None:
    """Even where jobs share a call; those that lack nothing are told nothing."""

    def warn(call: Call) -> None:
        assert call.on_warning is not None
        for index, item in enumerate(call.items):
            if item.prompt == "strange":
                call.on_warning(index, "strange is unknown")

    rig.device.trouble = warn
    jobs = [
        rig.call(name, prompt=prompt) for name, prompt in (("one", "plain"), ("two", "strange"), ("three", "plain"))
    ]
    with rig.worker():
        ended = [rig.until_status(job, "completed") for job in jobs]
    assert [fields["easeld"].get("warnings") for fields in ended] == [None, ["strange is unknown"], None]

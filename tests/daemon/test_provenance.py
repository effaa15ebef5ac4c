from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from daemon.core.job import Collection
from daemon.provenance import SOFTWARE, made_with
from models.catalog import BUILTIN
from models.spec import Attention, Family, ModelSpec, Speed, Task
from tests.daemon.rig import Rig

SECRET = "a prompt that stays where it was written \u2713"


def file_of(rig: Rig, name: str) -> Path:
    """A medium in the rig's folder."""
    return rig.folder / "media" / "generating" / "u" / name


def told_by_picture(path: Path) -> Any:
    """What a picture says of itself."""
    with Image.open(path) as picture:
        text = dict(picture.text)  # type: ignore[attr-defined]  # a PNG's; all that is text in it
    return {"Software": text.get("Software"), "easeld": json.loads(text["easeld"])} if "easeld" in text else text


def told_by_video(path: Path) -> Any:
    """What a video says of itself."""
    with av.open(str(path)) as container:
        return json.loads(container.metadata["comment"])


def test_a_picture_says_how_it_was_made(rig: Rig) -> None:
    """Each of several by its own seed; the prompt is not in the file, but the request is on the document."""
    with rig.worker():
        job = rig.call("one", prompt=SECRET, seed=7, num_images_per_prompt=2, guidance_scale=3.5, height=320)
        fields = rig.until_status(job, "completed")
    for name, seed in (("one.png", 7), ("one_1.png", 8)):
        told = told_by_picture(file_of(rig, f"image/{name}"))
        assert told["Software"] == SOFTWARE
        assert told["easeld"] == {
            "software": SOFTWARE,
            "model": "shapes",
            "weights": "built-in shapes",
            "task": "text2image",
            "seed": seed,
            "width": 256,
            "height": 320,
            "num_inference_steps": 10,
            "guidance_scale": 3.5,
        }
        assert b"stays where" not in file_of(rig, f"image/{name}").read_bytes()
    ours = fields["easeld"]
    assert ours["made_with"] == {"software": SOFTWARE, "model": "shapes", "weights": "built-in shapes"}
    assert (ours["model"], ours["seeds"], ours["request"]["prompt"]) == ("shapes", [7, 8], SECRET)


def test_a_video_says_it_in_its_comment(rig: Rig) -> None:
    """With its frames; players show it among a file's properties."""
    with rig.worker():
        job = rig.call("clip", collection=Collection.VIDEOS, seed=7, video_width=256, video_height=256, fps=6)
        rig.until_status(job, "completed")
    told = told_by_video(file_of(rig, "video/clip.mp4"))
    assert (told["model"], told["seed"], told["num_frames"], told["fps"]) == ("motion", 7, 16, 6)
    assert "prompt" not in told


def test_the_operator_may_want_the_prompts_in_the_files(rig: Rig) -> None:
    """Then they are there, whatever characters they have."""
    with rig.worker(provenance_prompts=True):
        rig.until_status(rig.call("one", prompt=SECRET, negative_prompt="rain"), "completed")
    told = told_by_picture(file_of(rig, "image/one.png"))["easeld"]
    assert (told["prompt"], told["negative_prompt"]) == (SECRET, "rain")


def test_the_operator_may_want_nothing_told_at_all(rig: Rig) -> None:
    """Neither in the file nor in our map."""
    with rig.worker(provenance=False, provenance_prompts=True):
        fields = rig.until_status(rig.call("one"), "completed")
    assert told_by_picture(file_of(rig, "image/one.png")) == {}
    assert "made_with" not in fields["easeld"]


@pytest.mark.parametrize("collection", list(Collection))
def test_the_same_request_and_seed_give_the_same_file(rig: Rig, collection: Collection) -> None:
    """To the last byte, at another time and in another claim."""
    with rig.worker(provenance_prompts=True):
        files = []
        for name in ("one", "two"):
            job = rig.call(name, collection=collection, seed=5)
            rig.until_status(job, "completed")
            suffix = "png" if collection is Collection.IMAGES else "mp4"
            files.append(file_of(rig, f"{collection.folder}/{name}.{suffix}").read_bytes())
    assert files[0] == files[1]


def test_the_weights_are_named_exactly_where_that_can_be_told() -> None:
    """By repository and revision, or the folder's name without the path to it."""
    assert made_with(BUILTIN["sdxl"], Speed()) == {
        "model": "sdxl",
        "weights": "stabilityai/stable-diffusion-xl-base-1.0",
        "revision": BUILTIN["sdxl"].revision,
    }
    own = ModelSpec(name="own", task=Task.TEXT2IMAGE, family=Family.SDXL, path=Path("/somewhere/secret/my-model"))
    assert made_with(own, Speed()) == {"model": "own", "weights": "my-model"}
    null = ModelSpec(name="null", task=Task.TEXT2IMAGE, family=Family.NULL)
    assert made_with(null, Speed()) == {"model": "null"}


def test_settings_that_change_what_a_seed_shows_are_named() -> None:
    """Where the model has them, and where they are set."""
    speed = Speed(attention=Attention.SAGE, step_cache=0.1)
    assert made_with(BUILTIN["motion"], speed).items() >= {"attention": "sage", "step_cache": "0.1"}.items()
    assert set(made_with(BUILTIN["shapes"], speed)) == {"model", "weights", "attention"}
